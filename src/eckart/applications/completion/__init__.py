"""Matrix completion: fit biases and low-rank factors to the known entries of a matrix."""
