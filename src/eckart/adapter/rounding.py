"""Round factors to the dtype that they are stored in, and measure the error of a module on the result."""

from __future__ import annotations

import numpy as np

from eckart.adapter.adapter import Module
from eckart.arguments import argument
from eckart.arrays import Array, DType
from eckart.checkpoint import all_finite
from eckart.errors import OutputError
from eckart.linalg.backend import power_of_two

# Range of sigma_1 in which the squares of rounding errors neither underflow nor overflow float32.
IN_FLOAT32 = (1e-8, 1e8)


def stored_error(exact: tuple[Array, Array], tail: float, module: Module) -> float:
    """Return ||dW - left right||_F^2 for the factors as stored, rounding included.

    Parameters
    ----------
    exact : (ndarray, ndarray)
        U sqrt(S) (m, r) and sqrt(S) V^T (r, n) of the leading components of dW, before rounding.
    tail : float
        ||dW - D||_F^2, where D = U diag(s) V^T.
    module : Module
        The same factors, rounded to the adapter's dtype.

    Returns
    -------
    float
        The squared Frobenius norm.

    Notes
    -----
    ||dW - L R||^2 = ||dW - D||^2 + ||D - L R||^2 + 2 <dW - D, D - L R>. The first term is the
    tail. The second is computed from the factors alone, as the norm of the rank-2r matrix
    [dL, L] [R0; dR] from its 2r x 2r Gram matrices, with a relative error of about 1e-6, or 1e-14 if the
    exact factors are float64. The last is left out: dW - D is orthogonal to the columns of U, so the term is
    a product of two rounding errors, below 1e-5 of the result. `eckart verify` measures the whole from the
    files. The cost is 8 (m + n) r^2 flops.
    """
    L0, R0 = exact
    r = L0.shape[1]
    if not r:
        return tail
    work = np.float64 if L0.dtype == np.float64 else np.float32
    left, right = module.product() if work == np.float64 else module.float_factors()
    leading = L0[:, 0].astype(np.float64)  # its square can exceed the range of float32
    first = float(np.dot(leading, leading))  # sigma_1
    scale = 1.0
    if not IN_FLOAT32[0] < first < IN_FLOAT32[1]:  # keep squares within the range of float32
        scale = float(np.sqrt(power_of_two(first)))
        L0, R0, left, right = L0 / scale, R0 / scale, left / scale, right / scale
    wide = np.empty((len(L0), 2 * r), work)
    tall = np.empty((2 * r, R0.shape[1]), work)
    np.subtract(L0, left, out=wide[:, :r], casting="same_kind")
    np.subtract(R0, right, out=tall[r:], casting="same_kind")
    wide[:, r:], tall[:r] = left, R0
    grams = (wide.T @ wide).astype(np.float64) * (tall @ tall.T)
    return tail + max(float(grams.sum()), 0.0) * scale**4


def relative(lost_energy: float, energy: float) -> float:
    """Return the relative Frobenius error of leaving out a part of the energy.

    Parameters
    ----------
    lost_energy : float
        Energy that is left out.
    energy : float
        Energy of the whole; the error relative to a whole of 0 is 0.

    Examples
    --------
    >>> relative(1.0, 4.0), relative(0.0, 0.0)
    (0.5, 0.0)
    """
    return float(np.sqrt(lost_energy / energy)) if energy > 0 else 0.0


def rounded(array: Array, dtype: DType) -> Array:
    """Round numbers to the dtype that they will be stored in.

    Parameters
    ----------
    array : ndarray
        Numbers of any floating dtype.
    dtype : dtype
        The dtype of the result.

    Returns
    -------
    ndarray
        Contiguous. A number that overflows becomes infinite.
    """
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(np.asarray(array).astype(dtype))


def rounded_factors(exact: tuple[Array, Array], dtype: DType, name: str) -> tuple[Array, Array]:
    """Round the factors of a module to the dtype that they will be stored in.

    Parameters
    ----------
    exact : (ndarray, ndarray)
        The factors.
    dtype : dtype
        The dtype of the result.
    name : str
        Name of the module, for the message.

    Raises
    ------
    OutputError
        If a number overflows the dtype.
    """
    left, right = rounded(exact[0], dtype), rounded(exact[1], dtype)
    if not (all_finite(left) and all_finite(right)):
        raise OutputError(
            name,
            f"its factors overflow {dtype.name}",
            f"Use {argument('dtype', 'bfloat16')} or {argument('dtype', 'float32')}",
        )
    return left, right
