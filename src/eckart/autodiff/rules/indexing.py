"""Indexing: everything that picks entries by number, and its transposes, which add at those places."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index

from ..core import Array, Primitive, Tracer, concrete, dtype_of, shape_of
from ..errors import ArgumentError, at_line
from ..hooks import implements
from ..vmap import repeated
from .shape import moveaxis, ndim_of


def getitem_batch(args: Sequence[Array], batched: Any, index: tuple[Any, ...]) -> Array:
    return np.moveaxis(getitem_p(args[0], index=(slice(None), *index)), batch_place(index), 0)


def batch_place(index: tuple[Any, ...]) -> int:
    """Return where a batch axis stands after indexing: NumPy puts the axes of arrays apart before it."""
    kinds = [isinstance(i, (np.ndarray, int, np.integer)) for i in index]
    first, count = kinds.index(True) if True in kinds else 0, sum(kinds)
    arrays = [i for i in index if isinstance(i, np.ndarray)]
    return max(a.ndim for a in arrays) if arrays and not all(kinds[first : first + count]) else 0


getitem_p: Primitive = Primitive(
    "getitem",
    lambda x, index: x[index],
    transpose={0: lambda ct, x, index: scatter_p(ct, shape=x.shape, index=index)},
    batch=getitem_batch,
)


def scatter(ct: np.ndarray, shape: tuple[int, ...], index: tuple[Any, ...]) -> Array:
    """Return zeros of ``shape`` with ``ct`` added at ``index``; an entry indexed twice gets both."""
    out = np.zeros(shape, dtype_of(ct))
    if any(isinstance(i, np.ndarray) for i in index):
        np.add.at(out, index, ct)
    else:
        out[index] = ct
    return out


scatter_p: Primitive = Primitive(
    "scatter",
    scatter,
    transpose={0: lambda ct, g, shape, index: getitem_p(ct, index=index)},
    shape=lambda ct, shape, index: shape,
    batch=None,
)


def scatter_batch(args: Sequence[Array], batched: Any, shape: tuple[int, ...], index: Any) -> Array:
    g = np.moveaxis(args[0], 0, batch_place(index))
    return scatter_p(g, shape=(shape_of(args[0])[0], *shape), index=(slice(None), *index))


scatter_p.batch = scatter_batch


def getitem(x: Array, index: Any) -> Array:
    """Return ``x[index]``, with every kind of index that NumPy has, made explicit."""
    parts: list[Any] = []
    for part in index if type(index) is tuple else (index,):
        part = np.asarray(part) if isinstance(part, (list, np.ndarray)) else part
        if isinstance(part, np.ndarray) and part.dtype == bool:
            parts.extend(np.nonzero(part))  # a mask of k axes is k arrays of integers
        elif isinstance(part, Tracer) and part.dtype.kind not in "iu":
            raise ArgumentError(
                "getitem",
                f"an array of dtype {part.dtype} that is traced cannot be an index{at_line()}",
                "Use np.where, or np.argsort, which returns integers",
            )
        else:
            parts.append(part)
    if any(p is Ellipsis for p in parts):
        at = next(i for i, p in enumerate(parts) if p is Ellipsis)
        used = sum(p is not None for p in parts) - 1
        parts[at : at + 1] = [slice(None)] * (ndim_of(x) - used)
    traced = [p for p in parts if isinstance(p, Tracer)]
    if traced:  # under vmap: each example has its own index
        return gather_p(x, *traced, index=tuple(HOLE if isinstance(p, Tracer) else p for p in parts))
    return getitem_p(x, index=tuple(parts))


HOLE = object()  # the place of an index that is an argument


def filled(index: tuple[Any, ...], traced: Sequence[Any]) -> tuple[Any, ...]:
    rest = iter(traced)
    return tuple(next(rest) if p is HOLE else p for p in index)


def gather_batch(prim: Any) -> Any:
    """Return the batch rule: the example's number is one more index; with slices, which would move, loop."""

    def batch(args: Sequence[Array], batched: Sequence[bool], index: tuple[Any, ...], **shape: Any) -> Array:
        x, *at = repeated(args, batched)
        size = shape_of(x)[0]
        if any(p is None or isinstance(p, slice) for p in index):
            return np.stack([prim()(x[i], *[p[i] for p in at], index=index, **shape) for i in range(size)])
        rank = max([ndim_of(p) for p in at] + [np.ndim(p) + 1 for p in index if p is not HOLE])
        at = [np.reshape(p, (size, *[1] * (rank - ndim_of(p)), *shape_of(p)[1:])) for p in at]
        examples = np.arange(size).reshape(-1, *[1] * (rank - 1))
        return prim()(x, *at, index=(examples, *index), **{k: (size, *n) for k, n in shape.items()})

    return batch


gather_p: Primitive = Primitive(
    "gather", lambda x, *at, index: x[filled(index, at)],
    transpose={0: lambda ct, x, *at, index: spill_p(ct, *at, shape=x.shape, index=index)},
    shape=lambda x, *at, index: np.empty(shape_of(x), bool)[filled(index, [concrete(a) for a in at])].shape,
    batch=gather_batch(lambda: gather_p),
)  # fmt: skip
spill_p: Primitive = Primitive(
    "spill",
    lambda g, *at, shape, index: scatter(
        g, shape, tuple(np.asarray(p) if isinstance(p, np.generic) else p for p in filled(index, at))
    ),
    transpose={0: lambda ct, g, *at, shape, index: gather_p(ct, *at, index=index)},
    shape=lambda g, *at, shape, index: shape,
    batch=gather_batch(lambda: spill_p),
)


@implements(np.take)
def take(x: Array, indices: Any, axis: int | None = None, mode: str = "raise") -> Array:
    at: Any = indices if isinstance(indices, Tracer) else np.asarray(indices)
    x, axis = (np.ravel(x), 0) if axis is None else (x, normalize_axis_index(axis, ndim_of(x)))
    n = shape_of(x)[axis]
    at = at % n if mode == "wrap" else np.clip(at, 0, n - 1) if mode == "clip" else at
    return getitem(x, (slice(None),) * axis + (at,))


implements(np.compress)(lambda condition, x, axis=None: take(x, np.flatnonzero(condition), axis))
implements(np.extract)(lambda condition, x: take(x, np.flatnonzero(condition)))


@implements(np.take_along_axis)
def take_along_axis(x: Array, indices: Any, axis: int | None = -1) -> Array:
    x, indices = (np.ravel(x), np.ravel(indices)) if axis is None else (x, indices)
    axis = normalize_axis_index(-1 if axis is None else axis, ndim_of(x))
    index: list[Any] = list(np.ogrid[tuple(slice(n) for n in shape_of(x))])
    index[axis] = indices
    return getitem(x, tuple(index))


@implements(np.diagonal, np.linalg.diagonal)
def diagonal(x: Array, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Array:
    x = moveaxis(x, (axis1, axis2), (-2, -1))
    m, n = shape_of(x)[-2:]
    count = np.arange(max(0, min(m + min(offset, 0), n - max(offset, 0))))
    lead = (slice(None),) * (ndim_of(x) - 2)
    return getitem(x, (*lead, count + max(-offset, 0), count + max(offset, 0)))


@implements(np.diag)
def diag(x: Array, k: int = 0) -> Array:
    if ndim_of(x) == 2:
        return diagonal(x, k)
    n = shape_of(x)[0] + abs(k)
    count = np.arange(shape_of(x)[0])
    return scatter_p(x, shape=(n, n), index=(count + max(-k, 0), count + max(k, 0)))


implements(np.diagflat)(lambda x, k=0: diag(np.ravel(x), k))


@implements(np.unique)
def unique(x: Array, return_index: bool = False, return_inverse: bool = False, return_counts: bool = False,
           axis: int | None = None, **options: Any) -> Any:  # fmt: skip
    if shape_of(concrete(x)) != shape_of(x):
        raise ArgumentError(
            "np.unique", f"under vmap the results may differ in length{at_line()}", "Write a loop"
        )
    options |= {"return_inverse": return_inverse, "return_counts": return_counts, "axis": axis}
    _, index, *rest = np.unique(concrete(x), return_index=True, **options)
    values = take(x, index, axis)
    out = (values, *([index] if return_index else []), *rest)
    return values if len(out) == 1 else out


def install() -> None:
    """Make indexing of `Tracer` the function above."""
    cls: Any = Tracer
    cls.__getitem__ = getitem
