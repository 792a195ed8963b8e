"""Every singular triplet, by LAPACK: the route that works for any matrix, and the slowest."""

from __future__ import annotations

import numpy as np

from eckart.arrays import Floats
from eckart.linalg.backend import DeviceArray, ops_for, power_of_two
from eckart.linalg.routes.unlocked import thin_svd


def full_svd(A: DeviceArray) -> tuple[DeviceArray, Floats, DeviceArray]:
    """Return the compact SVD (U, s, Vh) in the precision of ``A``.

    Equivalent to ``scipy.linalg.svd(A, full_matrices=False)``.

    Parameters
    ----------
    A : array (m, n)
        float32 or float64, finite.

    Returns
    -------
    U : array (m, k)
    s : ndarray (k,), float64
    Vh : array (k, n)
        k = min(m, n).

    Notes
    -----
    Divide and conquer (gesdd), about 26 n^3 flops for a square matrix. If it does not converge, which
    happens with some builds of LAPACK, QR iteration (gesvd), which is slower but more robust. Singular
    values are accurate to eps sigma_1: those below 1e-7 sigma_1 need float64. Scaling by a power of
    two prevents overflow and underflow of entries near 1e30 and 1e-30.
    """
    ops = ops_for(A)
    host = np.array(ops.host(A), order="F")
    scale = power_of_two(float(np.abs(host).max()))
    host /= host.dtype.type(scale)
    try:
        U, s, Vh = thin_svd(host.copy(order="F"))
    except np.linalg.LinAlgError:
        U, s, Vh = thin_svd(host, robust=True)
    return ops.like(U, A), s.astype(np.float64) * scale, ops.like(Vh, A)


def singular_values(A: DeviceArray) -> Floats:
    """Return all singular values, largest first, in the precision of ``A``.

    Parameters
    ----------
    A : array (m, n)
        float32 or float64, finite.

    Returns
    -------
    ndarray (min(m, n),), float64

    Notes
    -----
    8/3 n^3 flops for a square matrix.
    """
    host = ops_for(A).host(A)
    scale = power_of_two(float(np.abs(host).max()))
    scaled = np.asfortranarray(host / host.dtype.type(scale))
    return np.asarray(thin_svd(scaled, vectors=False)[1] * np.float64(scale))
