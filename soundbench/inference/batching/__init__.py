"""Which windows of many sounds are scored together, and sounds that are decoded ahead of that."""
