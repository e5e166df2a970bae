"""Looking at height maps: 3D view, images, profiles, focus curves."""
