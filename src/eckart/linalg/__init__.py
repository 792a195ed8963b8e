"""Numerical linear algebra: functions of matrices that know nothing of files or layers."""

from eckart.linalg.conditions import (
    MoorePenrose,
    cond,
    matrix_rank,
    moore_penrose_conditions,
    orthogonality,
)
from eckart.linalg.decompose import all_values, factor_matrix, spectrum, svd
from eckart.linalg.einsum import (
    OPERATIONS,
    Contraction,
    Operation,
    contraction,
    contraction_table,
    einsum_table,
)
from eckart.linalg.goal import Goal
from eckart.linalg.kronecker import (
    KroneckerLaws,
    KroneckerSum,
    kron_matvec,
    kron_solve,
    kronecker_laws,
    nearest_kronecker,
    rearranged,
    vec,
)
from eckart.linalg.lowrank import LowRank
from eckart.linalg.norms import SpectralNorm, spectral_norm, spectral_normalise
from eckart.linalg.optimality import Optimality, eckart_young
from eckart.linalg.pca import PCA, marchenko_pastur_median, noise_rank
from eckart.linalg.ridge import RidgePath, RidgeSolution, ridge
from eckart.linalg.solve import LeastSquares, lstsq, pinv
from eckart.linalg.spectrum import Spectrum

__all__ = [
    "OPERATIONS",
    "PCA",
    "Contraction",
    "Goal",
    "KroneckerLaws",
    "KroneckerSum",
    "LeastSquares",
    "LowRank",
    "MoorePenrose",
    "Operation",
    "Optimality",
    "RidgePath",
    "RidgeSolution",
    "SpectralNorm",
    "Spectrum",
    "all_values",
    "cond",
    "contraction",
    "contraction_table",
    "eckart_young",
    "einsum_table",
    "factor_matrix",
    "kron_matvec",
    "kron_solve",
    "kronecker_laws",
    "lstsq",
    "marchenko_pastur_median",
    "matrix_rank",
    "moore_penrose_conditions",
    "nearest_kronecker",
    "noise_rank",
    "orthogonality",
    "pinv",
    "rearranged",
    "ridge",
    "spectral_norm",
    "spectral_normalise",
    "spectrum",
    "svd",
    "vec",
]
