"""Built-in components of the kind `loss`, one file each."""
