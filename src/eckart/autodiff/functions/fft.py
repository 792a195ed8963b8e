"""Fourier transforms: one linear primitive, its own transpose, along one axis; `np.fft` in terms of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index

from ..core import Array, Primitive, dtype_of, shape_of
from ..hooks import implements
from ..rules.indexing import section
from ..rules.shape import ndim_of


def transform(x: np.ndarray, axis: int, inverse: bool, norm: Any) -> Array:
    return (np.fft.ifft if inverse else np.fft.fft)(x, axis=axis, norm=norm)


fft_p: Primitive = Primitive(  # the DFT matrix is symmetric
    "fft.fft",
    transform,
    transpose={0: lambda ct, x, axis, inverse, norm: fft_p(ct, axis=axis, inverse=inverse, norm=norm)},
    shape=lambda x, axis, inverse, norm: shape_of(x),
    batch=lambda args, batched, axis, inverse, norm: fft_p(
        args[0], axis=axis + 1, inverse=inverse, norm=norm
    ),
)


def fitted(x: Array, n: int | None, axis: int) -> Array:
    """Cut the axis to length ``n``, or fill it up with zeros."""
    have = shape_of(x)[axis]
    if n is None or n == have:
        return x
    if n < have:
        return section(x, axis, n)
    return np.pad(x, [(0, n - have if i == axis else 0) for i in range(ndim_of(x))])


def one_axis(inverse: bool) -> Callable[..., Array]:
    def fft(a: Array, n: int | None = None, axis: int = -1, norm: str | None = None) -> Array:
        axis = normalize_axis_index(axis, ndim_of(a))
        return fft_p(fitted(a, n, axis), axis=axis, inverse=inverse, norm=norm or "backward")

    return fft


fft, ifft = implements(np.fft.fft)(one_axis(False)), implements(np.fft.ifft)(one_axis(True))


@implements(np.fft.rfft)
def rfft(a: Array, n: int | None = None, axis: int = -1, norm: str | None = None) -> Array:
    full = fft(a, n, axis, norm)
    return section(full, axis, shape_of(full)[axis] // 2 + 1)


@implements(np.fft.irfft)
def irfft(a: Array, n: int | None = None, axis: int = -1, norm: str | None = None) -> Array:
    """Return the real inverse: every entry of the half stands for itself and for its conjugate."""
    a = np.moveaxis(a, axis, -1)
    n = 2 * (shape_of(a)[-1] - 1) if n is None else n
    weight = np.full(n // 2 + 1, 2, dtype_of(a))
    weight[[0, -1] if n % 2 == 0 else 0] = 1  # these are their own conjugates
    half = fitted(a, n // 2 + 1, ndim_of(a) - 1)
    return np.moveaxis(np.real(ifft(half * weight, n, -1, norm)), -1, axis)


SWAPPED = {None: "forward", "backward": "forward", "forward": "backward", "ortho": "ortho"}
implements(np.fft.hfft)(lambda a, n=None, axis=-1, norm=None: irfft(np.conj(a), n, axis, SWAPPED[norm]))
implements(np.fft.ihfft)(lambda a, n=None, axis=-1, norm=None: np.conj(rfft(a, n, axis, SWAPPED[norm])))


def all_axes(one: Callable[..., Array], last: Callable[..., Array], default: Any) -> Callable[..., Array]:
    """Return the transform over several axes, ``last`` over the last one; `rfft` is done first of all."""

    def fftn(a: Array, s: Any = None, axes: Any = default, norm: str | None = None) -> Array:
        if axes is None:
            axes = range(ndim_of(a) - (ndim_of(a) if s is None else len(s)), ndim_of(a))
        steps = list(zip(axes, [None] * len(axes) if s is None else s, strict=True))
        for axis, n in steps[::-1] if last is rfft else steps:
            a = (last if (axis, n) == steps[-1] else one)(a, n, axis, norm)
        return a

    return fftn


for one, last, kind in ((fft, fft, ""), (ifft, ifft, "i"), (fft, rfft, "r"), (ifft, irfft, "ir")):
    implements(getattr(np.fft, f"{kind}fft2"))(all_axes(one, last, (-2, -1)))
    implements(getattr(np.fft, f"{kind}fftn"))(all_axes(one, last, None))
