"""What an adapter states about itself: the error of every module, measured on what is stored."""

from __future__ import annotations

import platform
from functools import cache
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from eckart.adapter.adapter import Module
from eckart.errors import AdapterError
from eckart.linalg import LowRank
from eckart.linalg.backend import power_of_two
from eckart.version import __version__

FORMAT = 1
STATEMENT = "eckart.json"

# A stated error is a float64 sum over factors of float32 matrices; a measured one subtracts the
# product itself. They agree to about 1e-5 of the error; 2e-6 is what float32 leaves of an exact fit.
TOLERANCE = 2e-4
FLOOR = 2e-6


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
    [dL, L] [R0; dR] through its 2r x 2r Gram matrices, to about 1e-6 of itself. The last is left out:
    dW - D is orthogonal to the columns of U, so only the product of two roundings meets it, below 1e-5
    of the result; `eckart verify` measures the whole from the files.
    """
    left, right = module.float_factors()
    if not update.rank:
        return update.tail
    root = np.sqrt(update.s)
    scale = np.sqrt(power_of_two(float(update.s[0])))  # so that squares of tiny updates stay in float32
    L0, R0 = update.U * root / scale, root[:, None] * update.Vh / scale
    dL, dR = L0 - left / scale, R0 - right / scale
    wide = np.concatenate([dL, left / scale], axis=1, dtype=np.float32)  # (m, 2r)
    tall = np.concatenate([R0, dR], axis=0, dtype=np.float32)  # (2r, n)
    grams = (wide.T @ wide).astype(np.float64) * (tall @ tall.T)
    return update.tail + max(float(grams.sum()), 0.0) * float(scale) ** 4


def relative(left_out: float, whole: float) -> float:
    """Return the relative Frobenius error of an energy left out of a whole; 0 of nothing."""
    return float(np.sqrt(left_out / whole)) if whole > 0 else 0.0


def agree(stated: object, measured: float) -> bool:
    """Whether a stated number is the measured one, to rounding; what is not a number is not."""
    if isinstance(stated, bool) or not isinstance(stated, (int, float)):
        return False
    return abs(measured - stated) <= TOLERANCE * abs(measured) + FLOOR


@cache
def versions() -> dict[str, str]:
    """Return what made the numbers, so that they can be made again; looked up once, which takes 20 ms."""
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
    sources = data.get("of", []) if isinstance(data, dict) else None
    if not isinstance(sources, list) or not all(isinstance(source, dict) for source in sources):
        modules = None
    numbers = [data.get("error")] if isinstance(data, dict) else []
    if isinstance(modules, dict) and all(isinstance(m, dict) for m in modules.values()):
        numbers += [m.get("error") for m in modules.values()]
        if all(x is None or (isinstance(x, (int, float)) and np.isfinite(x)) for x in numbers):
            return dict(data)
    raise AdapterError(where, "is not a statement that eckart wrote", "Extract again, or remove the file")
