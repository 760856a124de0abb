"""Built-in components of the kind `exporter`, one file each."""
