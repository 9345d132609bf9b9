"""Time: how the concepts of the last seconds add to the score of this moment, each by its own exact contribution."""
