"""Several runs together: compared, and made by sweeps over recipes. No torch."""
