"""The solvers, one per file. `eckart.linalg.decompose` chooses among them."""
