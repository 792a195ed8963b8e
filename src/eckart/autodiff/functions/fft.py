"""Fourier transforms: the functions of `np.fft`, written with one linear primitive along one axis.

The primitive is its own transpose, because the DFT matrix is symmetric.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index

from ..core import Array, Primitive, dtype_of, ndim_of, shape_of
from ..hooks import implements
from ..rules.indexing import section

fft_p: Primitive = Primitive(
    "fft.fft",
    lambda x, axis, function, norm: function(x, axis=axis, norm=norm),
    transpose={0: lambda ct, x, **params: fft_p(ct, **params)},
    shape=lambda x, **params: shape_of(x),
    batch=lambda args, batched, axis, **params: fft_p(args[0], axis=axis + 1, **params),
)


def fitted(x: Array, n: int | None, axis: int) -> Array:
    """Return ``x`` with the axis cut to length ``n`` or padded with zeros."""
    length = shape_of(x)[axis]
    if n is None or n == length:
        return x
    if n < length:
        return section(x, axis, n)
    return np.pad(x, [(0, n - length if i == axis else 0) for i in range(ndim_of(x))])


def one_axis(function: Any, a: Array, n: int | None = None, axis: int = -1, norm: Any = None) -> Array:
    """Return `np.fft.fft` or `np.fft.ifft`."""
    axis = normalize_axis_index(axis, ndim_of(a))
    return fft_p(fitted(a, n, axis), axis=axis, function=function, norm=norm)


fft = implements(np.fft.fft)(partial(one_axis, np.fft.fft))
ifft = implements(np.fft.ifft)(partial(one_axis, np.fft.ifft))


@implements(np.fft.rfft)
def rfft(a: Array, n: int | None = None, axis: int = -1, norm: str | None = None) -> Array:
    """Return `np.fft.rfft`: the first half of the complex transform."""
    full = fft(a, n, axis, norm)
    return section(full, axis, shape_of(full)[axis] // 2 + 1)


@implements(np.fft.irfft)
def irfft(a: Array, n: int | None = None, axis: int = -1, norm: str | None = None) -> Array:
    """Return `np.fft.irfft`: each entry of the half stands for itself and for its conjugate."""
    a = np.moveaxis(a, axis, -1)
    n = 2 * (shape_of(a)[-1] - 1) if n is None else n
    weight = np.full(n // 2 + 1, 2, dtype_of(a))
    weight[[0, -1] if n % 2 == 0 else 0] = 1  # these entries are their own conjugates
    half = fitted(a, n // 2 + 1, ndim_of(a) - 1)
    return np.moveaxis(np.real(ifft(half * weight, n, -1, norm)), -1, axis)


SWAPPED = {None: "forward", "backward": "forward", "forward": "backward", "ortho": "ortho"}
implements(np.fft.hfft)(lambda a, n=None, axis=-1, norm=None: irfft(np.conj(a), n, axis, SWAPPED[norm]))
implements(np.fft.ihfft)(lambda a, n=None, axis=-1, norm=None: np.conj(rfft(a, n, axis, SWAPPED[norm])))


def several(
    one: Any, last: Any, default: Any, a: Array, s: Any = None, axes: Any = None, norm: Any = None
) -> Array:
    """Return a transform over several axes: ``last`` over the last of them, ``one`` over the others.

    `rfft` goes first, because its argument is real; `irfft` goes last, because its result is.
    """
    axes = default if axes is None else axes
    if axes is None:
        axes = range(ndim_of(a) - (ndim_of(a) if s is None else len(s)), ndim_of(a))
    sizes = [None] * len(axes) if s is None else s
    steps = [(i, shape_of(a)[i] if n == -1 else n) for i, n in zip(axes, sizes, strict=True)]
    for axis, n in steps[::-1] if last is rfft else steps:
        a = (last if (axis, n) == steps[-1] else one)(a, n, axis, norm)
    return a


for one, last, kind in ((fft, fft, ""), (ifft, ifft, "i"), (fft, rfft, "r"), (ifft, irfft, "ir")):
    implements(getattr(np.fft, f"{kind}fft2"))(partial(several, one, last, (-2, -1)))
    implements(getattr(np.fft, f"{kind}fftn"))(partial(several, one, last, None))
