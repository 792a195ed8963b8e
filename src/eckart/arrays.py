"""Short names for the array types that annotations use everywhere."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

# A NumPy array of any dtype.
Array = NDArray[Any]

# Real numbers in double precision, the precision of most computations.
Floats = NDArray[np.float64]

# Integers, for example exponents and indices.
Ints = NDArray[np.int64]

# Masks.
Bools = NDArray[np.bool_]

# A dtype. Any, because those of ml_dtypes (bfloat16, float8) have no scalar type in NumPy.
DType = np.dtype[Any]
