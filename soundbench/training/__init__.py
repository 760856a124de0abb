"""A run from recipe to report: one step, the loop, checkpoints, stages, folds."""
