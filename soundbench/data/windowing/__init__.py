"""From a sound to the windows of a batch, in NumPy alone: a runtime without torch uses it too."""
