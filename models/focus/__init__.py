"""Model-based depth from focus: how sharp each pixel is in each frame, and where along z it is sharpest."""
