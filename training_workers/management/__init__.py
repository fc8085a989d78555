"""Management commands of the training side."""
