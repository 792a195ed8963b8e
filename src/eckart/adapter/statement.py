"""What an adapter states about itself: the error of every module, measured on what is stored."""

from __future__ import annotations

import platform
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from eckart.adapter.adapter import Module
from eckart.errors import AdapterError
from eckart.linalg import LowRank
from eckart.version import __version__

FORMAT = 1


def stored_error(update: LowRank, module: Module) -> float:
    """Return ||dW - left right||_F^2 for the factors as stored, rounding included.

    Parameters
    ----------
    update : LowRank
        The leading components of dW, with ``tail`` = ||dW - D||_F^2, D = U diag(s) Vh.
    module : Module
        The same components, rounded to the adapter's dtype.

    Notes
    -----
    ||dW - L R||^2 = ||dW - D||^2 + ||D - L R||^2 + 2 <dW - D, D - L R>. The first term is the
    tail; the second follows from the factors alone, as the norm of the rank-2r matrix
    [dL, L] [R0; dR] through its 2r x 2r Gram matrices in float64. The last is left out: dW - D is
    orthogonal to the columns of U, so only the product of two roundings meets it, below 1e-5 of the
    result; `eckart verify` measures the whole from the files.
    """
    left, right = (x.astype(np.float64) for x in module.float_factors())
    root = np.sqrt(update.s)
    exact_left = np.asarray(update.U, np.float64) * root
    exact_right = root[:, None] * np.asarray(update.Vh, np.float64)
    wide = np.concatenate([exact_left - left, left], axis=1)  # (m, 2r)
    tall = np.concatenate([exact_right, exact_right - right], axis=0)  # (2r, n)
    rounding = float(((wide.T @ wide) * (tall @ tall.T)).sum())
    return update.tail + max(rounding, 0.0)


def relative(left_out: float, whole: float) -> float:
    """Return the relative Frobenius error of an energy left out of a whole; 0 of nothing."""
    return float(np.sqrt(left_out / whole)) if whole > 0 else 0.0


def versions() -> dict[str, str]:
    """Return what made the numbers, so that they can be made again."""
    from importlib.metadata import version  # scipy itself may not have been needed, and is slow to import

    return {
        "eckart": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "scipy": version("scipy"),
        "ml_dtypes": ml_dtypes.__version__,
    }


def rounded(array: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Round factors to the dtype they will be stored in, contiguous."""
    return np.ascontiguousarray(np.asarray(array).astype(dtype))


def check_statement(data: Any, where: str) -> dict[str, Any]:
    """Return a statement read from a file, its types checked."""
    modules = data.get("modules", {}) if isinstance(data, dict) else None
    numbers = [data.get("error")] if isinstance(data, dict) else []
    if isinstance(modules, dict) and all(isinstance(m, dict) for m in modules.values()):
        numbers += [m.get("error") for m in modules.values()]
        if all(x is None or (isinstance(x, (int, float)) and np.isfinite(x)) for x in numbers):
            return dict(data)
    raise AdapterError(where, "is not a statement that eckart wrote", "Extract again, or remove the file")
