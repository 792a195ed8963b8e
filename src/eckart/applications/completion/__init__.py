"""Matrix completion: the known entries of a matrix in, biases and low-rank factors for all of it out."""
