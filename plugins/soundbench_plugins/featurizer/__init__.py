"""Built-in components of the kind `featurizer`, one file each."""
