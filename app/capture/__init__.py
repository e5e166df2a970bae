"""Live view, stage, camera, stack set-up and capture."""
