"""Between training and test: what rejects sound of none of the classes is fitted, and reported on."""
