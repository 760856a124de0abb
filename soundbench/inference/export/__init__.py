"""Export of a trained model to one file for another runtime: what is exported, its check, and what is kept beside."""
