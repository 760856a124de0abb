"""The model card: its `front_matter`."""
