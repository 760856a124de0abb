"""Datasets: clip tables, splits, checks, the cache of decoded sound, precomputed features, batches."""
