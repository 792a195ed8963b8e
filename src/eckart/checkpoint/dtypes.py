"""The dtypes of safetensors: their names and spellings, and their conversion to float32."""

from __future__ import annotations

from collections.abc import Collection

import ml_dtypes
import numpy as np

from eckart.arrays import Array, DType
from eckart.errors import UsageError

DTYPES: dict[str, DType] = {
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
"""NumPy dtype by safetensors name, for every dtype that Eckart reads."""

UNREAD_BITS: dict[str, int] = {
    "C64": 64,
    "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "F4": 4,
}
"""Bits per number of the dtypes that safetensors defines and Eckart does not read."""

SPELLINGS: dict[str, tuple[str, ...]] = {
    "F64": ("float64", "f64", "fp64", "double"),
    "F32": ("float32", "f32", "fp32", "float", "single"),
    "F16": ("float16", "f16", "fp16", "half"),
    "BF16": ("bfloat16", "bf16"),
    "F8_E4M3": (
        "float8_e4m3fn",
        "float8_e4m3",
        "float8",
        "f8_e4m3fn",
        "f8_e4m3",
        "f8",
        "fp8_e4m3fn",
        "fp8_e4m3",
        "fp8",
    ),
    "F8_E5M2": ("float8_e5m2", "f8_e5m2", "fp8_e5m2"),
    "I64": ("int64", "i64", "long"),
    "I32": ("int32", "i32", "int"),
    "I16": ("int16", "i16", "short"),
    "I8": ("int8", "i8"),
    "U64": ("uint64", "u64"),
    "U32": ("uint32", "u32"),
    "U16": ("uint16", "u16"),
    "U8": ("uint8", "u8"),
    "BOOL": ("bool",),
}
"""Accepted spellings by safetensors name, in lower case; the first is the one shown, torch's own name."""

ADAPTER_DTYPES = ("F32", "F16", "BF16", "F64")
"""The dtypes that adapter factors can be written in."""

_NAMES = {dtype: name for name, dtype in DTYPES.items()}
_BY_SPELLING = {spelling: name for name, spellings in SPELLINGS.items() for spelling in spellings}


def parse_dtype(dtype: object, allowed: Collection[str] = tuple(DTYPES)) -> str:
    """Return the safetensors name of a dtype given in any common spelling.

    Parameters
    ----------
    dtype : str, torch.dtype or numpy.dtype
        A name such as ``"bf16"``, ``"bfloat16"``, ``"BF16"`` or ``"torch.bfloat16"``, in upper or lower
        case, or an object that prints as one. ``"float"`` is float32 and ``"half"`` float16, as in torch;
        ``"fp8"`` is float8_e4m3fn, the format in which weights are usually stored.
    allowed : collection of str
        Safetensors names to accept. By default every dtype of `DTYPES`.

    Returns
    -------
    str
        A member of `allowed`.

    Raises
    ------
    UsageError
        If the name is unknown or not allowed. The message lists the allowed dtypes.

    Examples
    --------
    >>> parse_dtype("torch.bfloat16"), parse_dtype("FP16"), parse_dtype("float")
    ('BF16', 'F16', 'F32')
    """
    spelling = str(dtype).strip().lower().removeprefix("torch.")
    name = _BY_SPELLING.get(spelling)
    if name is None or name not in allowed:
        raise UsageError(
            f"dtype={str(dtype)!r}",
            f"expected one of {', '.join(dtype_name(a) for a in allowed)}",
            "Use a name from this list or a common abbreviation, such as bf16 for bfloat16",
        )
    return name


def dtype_name(dtype: str | DType) -> str:
    """Return torch's name of a dtype, the one shown to users.

    Parameters
    ----------
    dtype : str or numpy.dtype
        The safetensors name or the NumPy dtype. A safetensors name that is not in `SPELLINGS` is returned
        unchanged.

    Returns
    -------
    str
        For example ``"bfloat16"``.

    Examples
    --------
    >>> dtype_name("BF16"), dtype_name(np.dtype(np.float32)), dtype_name("F4")
    ('bfloat16', 'float32', 'F4')
    """
    name = dtype if isinstance(dtype, str) else name_of(dtype)
    return SPELLINGS[name][0] if name in SPELLINGS else name


def bits_of(name: str) -> int | None:
    """Return the size of a safetensors dtype.

    Parameters
    ----------
    name : str
        Safetensors name of the dtype.

    Returns
    -------
    int or None
        Bits per number, or None for a name that safetensors does not define.
    """
    if name in DTYPES:
        return DTYPES[name].itemsize * 8
    return UNREAD_BITS.get(name)


def name_of(dtype: np.typing.DTypeLike) -> str:
    """Return the safetensors name of a NumPy dtype of any byte order.

    Parameters
    ----------
    dtype : dtype-like
        A NumPy dtype or its name.

    Returns
    -------
    str
        For example ``"BF16"``.

    Raises
    ------
    UsageError
        If safetensors has no such dtype, for example ``complex128``.

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
            f"safetensors has no name for {known}; expected one of {expected}",
            "Convert the array with .astype(...) first",
        )
    return _NAMES[known]


def is_float(dtype: np.typing.DTypeLike) -> bool:
    """Return whether a dtype is one of the floating-point dtypes that Eckart reads.

    Parameters
    ----------
    dtype : dtype-like
        A NumPy dtype or its name.

    Returns
    -------
    bool
        False for integers, booleans and complex numbers.
    """
    return _NAMES.get(np.dtype(dtype).newbyteorder("="), "").startswith(("F", "BF"))


def all_finite(array: Array) -> bool:
    """Return whether an array of any dtype holds neither NaN nor infinity.

    Parameters
    ----------
    array : ndarray, any shape
        Numbers of any dtype of `DTYPES`.

    Returns
    -------
    bool
        True also for an empty array.

    Examples
    --------
    >>> all_finite(np.array([1.0, np.inf]).astype(ml_dtypes.bfloat16))
    False
    """
    if array.dtype == ml_dtypes.bfloat16:
        # Testing the exponent bits is enough, and ml_dtypes would convert every number. 0x7F80 is infinity.
        return bool((array.view(np.uint16) & np.uint16(0x7FFF)).max(initial=0) < 0x7F80)
    if array.dtype.kind == "f" or not is_float(array.dtype):
        return bool(np.isfinite(array).all())
    return bool(np.isfinite(array.astype(np.float32)).all())


def mantissa_bits(dtype: np.typing.DTypeLike) -> int:
    """Return the number of stored fraction bits of a floating-point dtype, without the implicit leading 1.

    One unit in the last place of a number in ``[2**e, 2**(e+1))`` is ``2**(e - mantissa_bits)``.

    Parameters
    ----------
    dtype : dtype-like
        A NumPy dtype or its name.

    Returns
    -------
    int
        10 for float16, 7 for bfloat16, 23 for float32.

    Raises
    ------
    UsageError
        If `dtype` is not one of the floating-point dtypes in `DTYPES`.

    Examples
    --------
    >>> mantissa_bits("float16")
    10
    """
    if not is_float(dtype):
        raise UsageError(
            f"mantissa_bits({np.dtype(dtype)})",
            f"expected a floating-point dtype, found {np.dtype(dtype)}",
            "Check is_float(dtype) first",
        )
    return int(ml_dtypes.finfo(np.dtype(dtype)).nmant)  # type: ignore[no-untyped-call]


def to_float(array: Array, out: Array | None = None) -> Array:
    """Convert an array to float32; float64 stays float64.

    Equivalent to ``array.astype(np.float32)`` for every dtype except float64.

    Parameters
    ----------
    array : ndarray, any shape
        A dtype of `DTYPES`.
    out : ndarray, same shape, optional
        Receives the result. Its dtype is float64 for a float64 `array` and float32 otherwise.

    Returns
    -------
    ndarray, same shape
        `out` if it is given. Otherwise `array` itself, not a copy, if it is float32 or float64.

    Raises
    ------
    UsageError
        If the shape or dtype of `out` differs from that of the result.

    Notes
    -----
    The conversion is exact for every floating-point dtype and for integers below 2**24.
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
            f"Pass out=np.empty({array.shape}, np.{wide}), or omit it",
        )
    if array.dtype == ml_dtypes.bfloat16:
        # A bfloat16 is the upper half of a float32. The shift takes half the time of the cast.
        bits = array.view(np.uint16)
        np.left_shift(bits, np.uint32(16), out=out.view(np.uint32), dtype=np.uint32)
    else:
        out[...] = array
    return out
