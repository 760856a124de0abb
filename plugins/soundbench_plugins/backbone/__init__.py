"""Built-in components of the kind `backbone`, one file each."""
