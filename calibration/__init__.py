"""Adapts a trained engine to where it runs: the lag between picture and sound, and the drift of a device's clock."""
