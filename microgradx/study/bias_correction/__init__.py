"""What bias correction does to Adam, in its moments and in training."""
