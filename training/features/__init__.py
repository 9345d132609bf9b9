"""The feature-based system: AU, pose and gaze columns to the task, without looking at a picture."""
