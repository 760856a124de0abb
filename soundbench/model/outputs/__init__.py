"""What a network gives for the windows of many clips, kept on disk."""
