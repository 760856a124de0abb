"""The few layers that several built-in networks share."""
