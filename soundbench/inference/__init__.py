"""A trained model at work: classifier, predictions, events, formats, many files, streams, evaluation."""
