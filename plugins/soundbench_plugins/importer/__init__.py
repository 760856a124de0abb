"""Built-in components of the kind `importer`, one file each."""
