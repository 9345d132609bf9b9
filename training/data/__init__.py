"""Corpora: one file a corpus, each read into the same frozen types."""
