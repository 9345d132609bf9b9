"""Explanations, proven on the file that ships: `python -m training.explain`. One module a question."""
