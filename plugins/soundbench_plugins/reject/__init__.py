"""Built-in components of the kind `reject`, one file each."""
