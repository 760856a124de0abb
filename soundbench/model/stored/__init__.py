"""What a model folder says of itself, `reading` which needs no torch."""
