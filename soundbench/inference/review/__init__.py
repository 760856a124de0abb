"""Results checked by a person: clips to listen to, and thresholds from the marks that come back."""
