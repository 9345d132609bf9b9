"""Synthetic faces with exactly known Action Units, gaze and head pose (ICT-FaceKit geometry, own renderer)."""
