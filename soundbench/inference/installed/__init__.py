"""A `listing` of the models that installed packages bring."""
