"""Built-in components of the kind `scheduler`, one file each."""
