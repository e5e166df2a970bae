"""Stages, cameras and the sweep that captures a focal stack. Knows no window."""
