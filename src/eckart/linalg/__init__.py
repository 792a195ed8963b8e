"""Matrices in, factors out. Knows no file and no layer name."""

from eckart.linalg.decompose import all_values, factor_matrix, spectrum, svd
from eckart.linalg.goal import Goal
from eckart.linalg.lowrank import LowRank
from eckart.linalg.spectrum import Spectrum

__all__ = ["Goal", "LowRank", "Spectrum", "all_values", "factor_matrix", "spectrum", "svd"]
