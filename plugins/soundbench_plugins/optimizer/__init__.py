"""Built-in components of the kind `optimizer`, one file each."""
