"""Every singular triplet, by LAPACK: the route that is right for anything, and the slowest."""

from __future__ import annotations

import numpy as np
import scipy.linalg

from eckart.arrays import Floats
from eckart.linalg.backend import DeviceArray, ops_for, power_of_two


def full_svd(A: DeviceArray) -> tuple[DeviceArray, Floats, DeviceArray]:
    """Return the compact SVD (U, s, Vh) in the precision of ``A``.

    Equivalent to ``scipy.linalg.svd(A, full_matrices=False)``.

    Notes
    -----
    Divide and conquer (gesdd), about 26 n^3 flops for a square matrix; where it does not converge,
    which happens with some builds of LAPACK, QR iteration (gesvd), slower and surer. Singular
    values are right to eps sigma_1: those below 1e-7 sigma_1 need float64. Scaling by a power of
    two keeps 1e30 and 1e-30 apart from overflow.
    """
    ops = ops_for(A)
    host = np.array(ops.host(A), order="F")
    scale = power_of_two(float(np.abs(host).max()))
    host /= host.dtype.type(scale)
    try:
        U, s, Vh = scipy.linalg.svd(host, full_matrices=False, check_finite=False)
    except np.linalg.LinAlgError:
        U, s, Vh = scipy.linalg.svd(host, full_matrices=False, check_finite=False, lapack_driver="gesvd")
    return ops.like(U, A), s.astype(np.float64) * scale, ops.like(Vh, A)


def singular_values(A: DeviceArray) -> Floats:
    """Return all singular values, largest first, in the precision of ``A``; 8/3 n^3 flops if square."""
    host = ops_for(A).host(A)
    scale = power_of_two(float(np.abs(host).max()))
    return np.asarray(
        scipy.linalg.svdvals(host / host.dtype.type(scale), check_finite=False) * np.float64(scale)
    )
