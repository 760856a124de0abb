"""The model card: its `text`, its `front_matter`, and how it is written beside a model (`writing`)."""
