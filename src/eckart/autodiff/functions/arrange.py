"""Functions that join, split, pad and select, such as `vstack`, `split`, `pad`, `diag` and `clip`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from ..core import Array, concrete, convert, dtype_of, ndim_of, shape_of, zeros
from ..errors import ArgumentError, MissingRuleError, at_line
from ..hooks import implement_with, implements
from ..rules.combine import concatenate, where_p
from ..rules.indexing import moved, scatter_p, section
from ..rules.reduce import kept
from ..rules.shape import norm_axes
from ..tree import flatten


def joined(prepare: Any, axis: int, arrays: Sequence[Array], *, dtype: Any = None) -> Array:
    """Return the arrays, each passed through ``prepare``, joined along ``axis``."""
    parts = [prepare(a) for a in arrays]
    return concatenate(parts, min(axis, ndim_of(parts[0]) - 1), dtype=dtype)


def as_column(x: Array) -> Array:
    """Return a vector as a column; a matrix is returned as it is."""
    return x if ndim_of(x) > 1 else np.reshape(x, (-1, 1))


implements(np.vstack)(partial(joined, np.atleast_2d, 0))
implements(np.hstack)(partial(joined, np.atleast_1d, 1))
implements(np.dstack)(partial(joined, np.atleast_3d, 2))
implements(np.column_stack)(partial(joined, as_column, 1))
implements(np.append)(lambda x, values, axis=None: concatenate([x, values], axis))


@implements(np.block)
def block(arrays: Any) -> Array:
    """Return `np.block`: innermost lists are joined along the last axis, the next along the one before."""

    def depth(part: Any) -> int:
        return 1 + depth(part[0]) if isinstance(part, list) else 0

    def join(part: Any, axis: int) -> Array:
        if isinstance(part, list):
            return concatenate([join(inner, axis + 1) for inner in part], axis)
        return np.reshape(part, (*[1] * (ndim - ndim_of(part)), *shape_of(part)))

    ndim = max(depth(arrays), *map(ndim_of, flatten(arrays)[0]))
    return join(arrays, -depth(arrays))


def cut(function: Any, x: Array, indices_or_sections: Any, axis: int = 0) -> list[Array]:
    """Return the parts into which ``function`` splits ``x``.

    Called on the positions 0, 1, 2, ... it shows where each part begins and ends.
    """
    runs = function(np.arange(shape_of(x)[axis]), indices_or_sections)
    return [section(x, axis, *((run[0], run[-1] + 1) if run.size else (0, 0))) for run in runs]


implement_with(cut, np.split, np.array_split)
implements(np.vsplit)(lambda x, parts: np.split(x, parts, 0))
implements(np.hsplit)(lambda x, parts: np.split(x, parts, 0 if ndim_of(x) == 1 else 1))
implements(np.dsplit)(lambda x, parts: np.split(x, parts, 2))
implements(np.unstack)(lambda x, axis=0: tuple(np.moveaxis(x, axis, 0)))


@implements(np.pad)
def pad(x: Array, pad_width: Any, mode: Any = "constant", **options: Any) -> Array:
    """Return `np.pad`, for constants and for modes that repeat entries."""
    if mode == "constant":
        width = np.broadcast_to(pad_width, (ndim_of(x), 2))
        sides = [(int(a), n, int(b)) for n, (a, b) in zip(shape_of(x), width, strict=True)]
        inner = scatter_p(x, shape=tuple(map(sum, sides)), index=tuple(slice(a, a + n) for a, n, _ in sides))
        return inner + np.pad(zeros(x), pad_width, **options) if options else inner
    if mode not in ("edge", "reflect", "symmetric", "wrap") or options.get("reflect_type", "even") != "even":
        raise MissingRuleError(
            "np.pad",
            f"mode={mode!r} {options or ''} has no derivative rule (shape {shape_of(x)}){at_line()}",
            "Use np.concatenate or another mode",
        )
    return moved(np.pad, x, pad_width, mode, **options)


@implements(np.broadcast_arrays)
def broadcast_arrays(*arrays: Array) -> tuple[Array, ...]:
    """Return `np.broadcast_arrays`."""
    shape = np.broadcast_shapes(*map(shape_of, arrays))
    return tuple(np.broadcast_to(a, shape) for a in arrays)


@implements(np.full_like)
def full_like(x: Array, fill_value: Array, dtype: Any = None) -> Array:
    """Return `np.full_like`, differentiable in the fill value."""
    return np.broadcast_to(convert(fill_value, dtype or dtype_of(x)), shape_of(x))


@implements(np.diff)
def diff(x: Array, n: int = 1, axis: int = -1, prepend: Any = None, append: Any = None) -> Array:
    """Return `np.diff`."""
    if n == 0:
        return x
    one = kept(x, norm_axes(axis, ndim_of(x)))  # a prepended number is repeated along the other axes
    parts = [
        part if ndim_of(part) else np.broadcast_to(part, one)
        for part in (prepend, x, append)
        if part is not None
    ]
    x = concatenate(parts, axis)
    for _ in range(n):
        x = section(x, axis, 1, None) - section(x, axis, -1)
    return x


@implements(np.linspace)
def linspace(
    start: Array, stop: Array, num: int = 50, endpoint: bool = True, retstep: bool = False, *, axis: int = 0
) -> Any:
    """Return `np.linspace`, differentiable in both ends."""
    gap = stop - start
    part = np.linspace(0.0, 1.0, num, endpoint, dtype=dtype_of(gap)).reshape(-1, *[1] * ndim_of(gap))
    out = np.moveaxis(start + part * gap, 0, axis)
    return (out, gap / max(num - endpoint, 1)) if retstep else out


@implements(np.diag)
def diag(x: Array, k: int = 0) -> Array:
    """Return `np.diag`."""
    if ndim_of(x) == 2:
        return np.diagonal(x, k)
    at, n = np.arange(shape_of(x)[0]), shape_of(x)[0] + abs(k)
    return scatter_p(x, shape=(n, n), index=(at + max(-k, 0), at + max(k, 0)))


implements(np.diagflat)(lambda x, k=0: np.diag(np.ravel(x), k))


@implements(np.unique)
def unique(x: Array, return_index: bool = False, *, axis: int | None = None, **options: Any) -> Any:
    """Return `np.unique`; the derivative of a value is that of its first occurrence."""
    values = concrete(x)
    if values.shape != shape_of(x):
        what = f"under vmap the results may differ in length{at_line()}"
        raise ArgumentError("np.unique", what, "Use a loop over the examples")
    _, index, *rest = np.unique(values, return_index=True, axis=axis, **options)
    out = (np.take(x, index, axis), *([index] if return_index else []), *rest)
    return out if len(out) > 1 else out[0]


@implements(np.select)
def select(condlist: Sequence[Array], choicelist: Sequence[Array], default: Any = 0) -> Array:
    """Return `np.select`."""
    for condition, choice in zip(condlist[::-1], choicelist[::-1], strict=True):
        default = np.where(condition, choice, default)
    return default


@implements(np.clip)
def clip(x: Array, a_min: Any = None, a_max: Any = None, *, min: Any = None, max: Any = None) -> Array:
    """Return `np.clip`."""
    low, high = (min if a_min is None else a_min), (max if a_max is None else a_max)
    x = x if low is None else np.maximum(x, low)
    return x if high is None else np.minimum(x, high)


def masked(function: Any, x: Array, k: int = 0) -> Array:
    """Return `np.tril` or `np.triu`, which called on a matrix of True returns the mask."""
    return where_p(function(np.ones(shape_of(x)[-2:], bool), k), x, 0.0)


implement_with(masked, np.tril, np.triu)
