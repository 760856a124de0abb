"""Built-in components of the kind `pooling`, one file each."""
