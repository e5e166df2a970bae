"""Training: scenes rendered by physics, other people's data sets, losses and the loop."""
