"""A model that `soundbench export --to onnx` wrote: its file, its metadata, and how it scores, without torch."""
