"""Labels: the heights of an instrument brought onto those from focus."""
