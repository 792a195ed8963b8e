"""Matrices in, factors out. Knows no file and no layer name."""

from eckart.linalg.conditions import (
    MoorePenrose,
    cond,
    matrix_rank,
    moore_penrose_conditions,
    orthogonality,
)
from eckart.linalg.decompose import all_values, factor_matrix, spectrum, svd
from eckart.linalg.goal import Goal
from eckart.linalg.lowrank import LowRank
from eckart.linalg.norms import SpectralNorm, spectral_norm, spectral_normalise
from eckart.linalg.ridge import RidgePath, RidgeSolution, ridge
from eckart.linalg.solve import LeastSquares, lstsq, pinv
from eckart.linalg.spectrum import Spectrum

__all__ = [
    "Goal",
    "LeastSquares",
    "LowRank",
    "MoorePenrose",
    "RidgePath",
    "RidgeSolution",
    "SpectralNorm",
    "Spectrum",
    "all_values",
    "cond",
    "factor_matrix",
    "lstsq",
    "matrix_rank",
    "moore_penrose_conditions",
    "orthogonality",
    "pinv",
    "ridge",
    "spectral_norm",
    "spectral_normalise",
    "spectrum",
    "svd",
]
