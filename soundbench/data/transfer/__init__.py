"""Batches on their way to a GPU."""
