"""Events that a model finds, scored against those that are annotated."""
