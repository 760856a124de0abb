"""Scores and files to metrics, intervals, figures and pages. No torch."""
