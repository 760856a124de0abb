"""Built-in components of the kind `dataset`, one file each."""
