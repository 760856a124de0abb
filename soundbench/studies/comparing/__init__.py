"""Runs on the same test clips, side by side. No torch."""
