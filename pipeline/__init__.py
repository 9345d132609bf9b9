"""Frames in, engagement out: small processes joined by ZeroMQ."""
