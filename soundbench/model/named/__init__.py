"""Models that installed packages bring, found by their `names`."""
