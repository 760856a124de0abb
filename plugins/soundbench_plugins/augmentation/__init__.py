"""Built-in components of the kind `augmentation`, one file each."""
