"""Align, fuse, touch up and review reference heights."""
