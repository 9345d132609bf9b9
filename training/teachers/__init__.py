"""Teachers: existing networks whose outputs label pictures that nobody has coded."""
