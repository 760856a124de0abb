"""A copy of a network that computes the same in evaluation mode with less work."""
