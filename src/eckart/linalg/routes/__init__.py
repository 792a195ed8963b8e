"""The solvers, one to a file. `eckart.linalg.decompose` picks among them."""
