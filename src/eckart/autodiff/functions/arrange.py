"""Arrays put together, taken apart, filled up: the kin of `stack` and `split`, `pad`, `diff`, `linspace`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index

from ..core import Array, dtype_of, shape_of, zeros
from ..errors import MissingRuleError, at_line
from ..hooks import implements
from ..rules.combine import concatenate
from ..rules.indexing import along, getitem, scatter_p
from ..rules.shape import ndim_of


def joined(function: Any, prepare: Callable[[Array], Array], axis: int) -> None:
    """Enter a function that makes of each array what ``prepare`` does, and joins them."""

    def rule(arrays: Sequence[Array], dtype: Any = None, casting: Any = None) -> Array:
        parts = [prepare(a) for a in arrays]
        return concatenate(parts, min(axis, ndim_of(parts[0]) - 1), dtype)

    implements(function)(rule)


joined(np.vstack, np.atleast_2d, 0)
joined(np.hstack, np.atleast_1d, 1)
joined(np.dstack, np.atleast_3d, 2)
joined(np.column_stack, lambda a: a if ndim_of(a) > 1 else np.reshape(a, (-1, 1)), 1)
implements(np.append)(lambda x, values, axis=None: concatenate([x, values], axis))


@implements(np.block)
def block(arrays: Any) -> Array:
    if not isinstance(arrays, list):
        return arrays
    if not isinstance(arrays[0], list):
        return concatenate([np.atleast_2d(a) for a in arrays], -1)
    return concatenate([block(row) for row in arrays], -2)


def cut(function: Any) -> None:
    """Enter `np.split` or its like: what it does to 0, 1, 2, ... says where to cut."""

    def rule(x: Array, indices_or_sections: Any, axis: int = 0) -> list[Array]:
        axis = normalize_axis_index(axis, ndim_of(x))
        runs = function(np.arange(shape_of(x)[axis]), indices_or_sections)
        ends = np.cumsum([len(run) for run in runs])
        return [getitem(x, along(axis, e - len(r), e)) for e, r in zip(ends, runs, strict=True)]

    implements(function)(rule)


cut(np.split)
cut(np.array_split)
implements(np.vsplit)(lambda x, parts: np.split(x, parts, 0))
implements(np.hsplit)(lambda x, parts: np.split(x, parts, 0 if ndim_of(x) == 1 else 1))
implements(np.dsplit)(lambda x, parts: np.split(x, parts, 2))
implements(np.unstack)(lambda x, axis=0: tuple(np.moveaxis(x, axis, 0)))


@implements(np.pad)
def pad(x: Array, pad_width: Any, mode: Any = "constant", **options: Any) -> Array:
    if mode == "constant":
        width = np.broadcast_to(pad_width, (ndim_of(x), 2))
        sides = [(int(a), n, int(b)) for n, (a, b) in zip(shape_of(x), width, strict=True)]
        inner = scatter_p(x, shape=tuple(map(sum, sides)), index=tuple(slice(a, a + n) for a, n, _ in sides))
        return inner + np.pad(zeros(x), pad_width, **options) if options else inner
    if mode not in ("edge", "reflect", "symmetric", "wrap") or options.get("reflect_type", "even") != "even":
        raise MissingRuleError(
            "np.pad",
            f"mode={mode!r} {options or ''} has no derivative rule (shape {shape_of(x)}){at_line()}",
            "Write np.concatenate, or another mode",
        )
    return getitem(np.ravel(x), np.pad(np.arange(x.size).reshape(shape_of(x)), pad_width, mode, **options))


@implements(np.diff)
def diff(x: Array, n: int = 1, axis: int = -1, prepend: Any = None, append: Any = None) -> Array:
    axis = normalize_axis_index(axis, ndim_of(x))
    one = [1 if i == axis else k for i, k in enumerate(shape_of(x))]
    ends = [e if e is None or ndim_of(e) else np.broadcast_to(e, one) for e in (prepend, append)]
    x = concatenate([part for part in (ends[0], x, ends[1]) if part is not None], axis)
    for _ in range(n):
        x = getitem(x, along(axis, 1, None)) - getitem(x, along(axis, -1))
    return x


@implements(np.linspace)
def linspace(
    start: Array, stop: Array, num: int = 50, endpoint: bool = True, retstep: bool = False, dtype: Any = None,
    axis: int = 0,
) -> Any:  # fmt: skip
    gap = stop - start
    part = np.linspace(0.0, 1.0, num, endpoint, dtype=dtype_of(gap)).reshape(-1, *[1] * ndim_of(gap))
    out = np.moveaxis(start + part * gap, 0, axis)
    out = out if dtype is None else out.astype(dtype)
    return (out, gap / max(num - endpoint, 1)) if retstep else out
