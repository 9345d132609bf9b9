"""Offline: data, teachers, the AGCM, evaluation and export. Nothing imports this package."""
