"""Sound of none of the classes: what it is recognised by, and from which score on."""
