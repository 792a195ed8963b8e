"""Complex numbers and dtypes: real and imaginary parts, conjugates, absolute values, conversions."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core import Array, Primitive, convert, dtype_of, zeros
from ..hooks import UFUNCS, implements
from .elementwise import frozen, magnitude


def is_complex(x: Array) -> bool:
    """Return whether ``x`` has a complex dtype."""
    return dtype_of(x).kind == "c"


def abs_jvp(y: Array, args: Any, tangents: Any) -> Array:
    """Return the tangent of the absolute value of a complex number: Re(conj(sign z) t)."""
    return np.real(np.conj(np.sign(args[0])) * tangents[0])


def sign_jvp(y: Array, args: Any, tangents: Any) -> Array:
    """Return the tangent of z / abs(z): the part of t that turns z, divided by abs(z)."""
    return 1j * np.imag(np.conj(y) * tangents[0]) * y / np.abs(args[0])


real_p: Primitive = Primitive("real", np.real, transpose={0: lambda ct, x: ct}, batch=True)
imag_p: Primitive = Primitive("imag", np.imag, transpose={0: lambda ct, x: ct * -1j}, batch=True)
conj_p: Primitive = Primitive("conj", np.conj, transpose={0: lambda ct, x: conj_p(ct)}, batch=True)
abs_p: Primitive = Primitive("absolute", np.abs, abs_jvp, batch=True)
sign_p: Primitive = Primitive("complex sign", np.sign, sign_jvp, batch=True)
real_sign = UFUNCS[np.sign]

implements(np.absolute)(lambda x: abs_p(x) if is_complex(x) else magnitude(x))
implements(np.sign)(lambda x: sign_p(x) if is_complex(x) else real_sign(x))
implements(np.conjugate)(lambda x: conj_p(x) if is_complex(x) else x)
implements(np.real)(lambda x: real_p(x) if is_complex(x) else x)
implements(np.imag)(lambda x: imag_p(x) if is_complex(x) else zeros(x))
implements(np.iscomplexobj)(is_complex)
implements(np.isrealobj)(lambda x: not is_complex(x))


@implements(np.angle)
def angle(z: Array, deg: bool = False) -> Array:
    """Return `np.angle`."""
    return np.arctan2(np.imag(z), np.real(z)) * (180 / np.pi if deg else 1.0)


# --- dtypes ---------------------------------------------------------------------------------------------

astype_p: Primitive = Primitive("astype", convert, transpose={0: lambda ct, x, dtype: ct}, batch=True)
discrete_p = frozen("discrete", lambda x, dtype: np.asarray(x).astype(dtype))  # to integers or booleans


@implements(np.astype)
def astype(x: Array, dtype: Any, *args: Any, **options: Any) -> Array:
    """Return `np.astype`; an array of integers or booleans has no tangent."""
    dtype = np.dtype(dtype)
    if dtype.kind not in "fc":
        return discrete_p(x, dtype=dtype)
    return x if dtype == x.dtype else astype_p(x, dtype=dtype)
