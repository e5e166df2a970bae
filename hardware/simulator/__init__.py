"""A microscope that exists only in memory: stage and camera over a surface of known height."""
