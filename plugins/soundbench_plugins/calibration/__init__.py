"""Built-in components of the kind `calibration`, one file each."""
