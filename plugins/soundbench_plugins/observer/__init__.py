"""Built-in components of the kind `observer`, one file each."""
