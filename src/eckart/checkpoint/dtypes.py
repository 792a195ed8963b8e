"""The number formats of safetensors, and the way from each to float32."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from eckart.errors import UsageError

DTYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
    "I64": np.dtype(np.int64),
    "I32": np.dtype(np.int32),
    "I16": np.dtype(np.int16),
    "I8": np.dtype(np.int8),
    "U64": np.dtype(np.uint64),
    "U32": np.dtype(np.uint32),
    "U16": np.dtype(np.uint16),
    "U8": np.dtype(np.uint8),
    "BOOL": np.dtype(np.bool_),
}
"""Safetensors name to NumPy dtype, for every format that Eckart reads."""

UNREAD_BITS: dict[str, int] = {
    "C64": 64,
    "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "F4": 4,
}
"""Bits per number of the formats that safetensors defines and Eckart does not read."""

ADAPTER_DTYPES = ("F32", "F16", "BF16", "F64")
"""The dtypes that adapter factors can be written in."""

_NAMES = {dtype: name for name, dtype in DTYPES.items()}


def bits_of(name: str) -> int | None:
    """Bits per number of a safetensors dtype; None for a name that nobody has defined yet."""
    if name in DTYPES:
        return DTYPES[name].itemsize * 8
    return UNREAD_BITS.get(name)


def name_of(dtype: np.typing.DTypeLike) -> str:
    """Give the safetensors name of a NumPy dtype, whatever its byte order.

    Raises
    ------
    UsageError
        If safetensors has no such format, for example ``complex128``.

    Examples
    --------
    >>> name_of("float16")
    'F16'
    """
    known = np.dtype(dtype).newbyteorder("=")
    if known not in _NAMES:
        expected = ", ".join(str(d) for d in _NAMES)
        raise UsageError(
            f"name_of({known})",
            f"expected one of {expected}; safetensors has no name for {known}",
            "Convert the array with .astype(...) first",
        )
    return _NAMES[known]


def is_float(dtype: np.typing.DTypeLike) -> bool:
    """Tell whether a dtype is one of the floating formats that Eckart reads."""
    return _NAMES.get(np.dtype(dtype).newbyteorder("="), "").startswith(("F", "BF"))


def all_finite(array: NDArray[Any]) -> bool:
    """Whether no entry is NaN or infinite, whatever the dtype.

    Examples
    --------
    >>> all_finite(np.array([1.0, np.inf]).astype(ml_dtypes.bfloat16))
    False
    """
    if array.dtype == ml_dtypes.bfloat16:
        # The exponent's bits alone tell; ml_dtypes would convert every number. 0x7F80 is infinity.
        return bool((array.view(np.uint16) & np.uint16(0x7FFF)).max(initial=0) < 0x7F80)
    if array.dtype.kind == "f" or not is_float(array.dtype):
        return bool(np.isfinite(array).all())
    return bool(np.isfinite(array.astype(np.float32)).all())


def mantissa_bits(dtype: np.typing.DTypeLike) -> int:
    """Count the stored fraction bits of a floating dtype, the leading 1 not among them.

    One unit in the last place of a number in ``[2**e, 2**(e+1))`` is ``2**(e - mantissa_bits)``.

    Raises
    ------
    UsageError
        If `dtype` is not a floating format of `DTYPES`.

    Examples
    --------
    >>> mantissa_bits("float16")
    10
    """
    if not is_float(dtype):
        raise UsageError(
            f"mantissa_bits({np.dtype(dtype)})",
            f"expected a floating dtype, found {np.dtype(dtype)}",
            "Ask is_float(dtype) first",
        )
    return int(ml_dtypes.finfo(np.dtype(dtype)).nmant)  # type: ignore[no-untyped-call]


def to_float(array: NDArray[Any], out: NDArray[Any] | None = None) -> NDArray[Any]:
    """Convert to float32; float64 stays float64.

    Equivalent to ``array.astype(np.float32)`` for every dtype but float64. The conversion is exact
    for every floating format, and for integers below 2**24.

    Parameters
    ----------
    array : ndarray, any shape
        Float32 and float64 are returned as they are, not copied, when `out` is None.
    out : ndarray, same shape, optional
        Where to put the result: float32, or float64 for a float64 `array`.

    Returns
    -------
    ndarray
        `out` where it is given.

    Raises
    ------
    UsageError
        If `out` has another shape or dtype than the result.
    """
    wide = np.dtype(np.float64) if array.dtype == np.float64 else np.dtype(np.float32)
    if out is None:
        if array.dtype == wide:
            return array
        out = np.empty(array.shape, wide)
    elif out.shape != array.shape or out.dtype != wide:
        raise UsageError(
            "to_float",
            f"expected out of shape {array.shape} and dtype {wide}, found {out.shape} and {out.dtype}",
            f"Pass np.empty({array.shape}, np.{wide}), or leave out away",
        )
    if array.dtype == ml_dtypes.bfloat16:
        # bfloat16 is the upper half of a float32: the shift takes half the time of the cast.
        bits = array.view(np.uint16)
        np.left_shift(bits, np.uint32(16), out=out.view(np.uint32), dtype=np.uint32)
    else:
        out[...] = array
    return out
