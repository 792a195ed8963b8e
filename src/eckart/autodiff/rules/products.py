"""Sums of products: matmul and einsum are primitives, linear in each argument; dot and others call them."""

from __future__ import annotations

import string
from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from ..core import Array, Dual, Primitive, Tracer, Transposes, ndim_of, shape_of
from ..errors import ArgumentError, at_line
from ..hooks import implements
from ..vmap import align


def swap(a: Array) -> Array:
    """Return ``a`` with its last two axes exchanged."""
    return a.swapaxes(-1, -2)


def rows_of(a: Array) -> Array:
    """Return a stack of matrices as one matrix that has all their rows."""
    shape = shape_of(a)
    return np.reshape(a, (prod(shape[:-1]), shape[-1]))


def matmul_left(ct: Array, a: Any, b: Array) -> Array:
    """Return ct b^T, the transpose of a -> a b, for vectors, matrices and stacks."""
    if len(b.shape) == 1:
        return np.expand_dims(ct, -1) * b if len(a.shape) > 1 else ct * b
    return np.matvec(b, ct) if len(a.shape) == 1 else ct @ swap(b)


def matmul_right(ct: Array, a: Array, b: Any) -> Array:
    """Return a^T ct, the transpose of b -> a b; for a stack a and one matrix b it is a single product."""
    m, n = len(a.shape), len(b.shape)
    if m == 1:
        return ct * a if n == 1 else np.expand_dims(a, -1) * np.expand_dims(ct, -2)
    if n == 1:
        return np.matvec(swap(a), ct)
    return rows_of(a).T @ rows_of(ct) if m > 2 and n == 2 else swap(a) @ ct


def matmul_shape(a: Array, b: Array) -> tuple[int, ...]:
    """Return the shape of the product."""
    s, t = shape_of(a), shape_of(b)
    left, right = s[-2:-1], t[-1:] if len(t) > 1 else ()
    return (*np.broadcast_shapes(s[:-2], t[:-2]), *left, *right)


def matmul_batch(args: Sequence[Array], batched: Sequence[bool]) -> Array:
    """Return the products of a batch as one product of stacks."""
    a, b = args
    m, n = ndim_of(a) - batched[0], ndim_of(b) - batched[1]  # the number of axes of one example
    if m == 2 and n == 1 and not batched[0]:
        return matmul_p(b, swap(a))  # one product of two matrices: (batch, k) (k, m)
    a = np.expand_dims(a, -2) if m == 1 else a
    b = np.expand_dims(b, -1) if n == 1 else b
    out = matmul_p(*align((a, b), batched))
    return np.squeeze(out, (-2,) * (m == 1) + (-1,) * (n == 1))


def matmul_fun(a: np.ndarray, b: np.ndarray) -> Array:
    """Return the product of plain arrays; for a stack a and one matrix b it is a single product."""
    if a.ndim > 2 and b.ndim == 2:
        return (rows_of(a) @ b).reshape(*a.shape[:-1], b.shape[-1])
    return a @ b


matmul_p: Primitive = Primitive(
    "matmul", matmul_fun, transpose={0: matmul_left, 1: matmul_right}, shape=matmul_shape, batch=matmul_batch
)


@implements(np.matmul)
def matmul(a: Array, b: Array) -> Array:
    """Return `np.matmul`, with a short form for plain arrays in reverse mode (see `core`)."""
    a_traced, b_traced = type(a) is Dual, type(b) is Dual
    a_value, a_tangent = (a.value, a.tangent) if a_traced else (a, None)
    b_value, b_tangent = (b.value, b.tangent) if b_traced else (b, None)
    if not (a_traced or b_traced):
        return matmul_p(a, b)
    level: Any = a.level if a_traced else b.level
    if level.finished or level.tape is None or (a_traced and b_traced and b.level is not level):
        return matmul_p(a, b)
    if type(a_value) is not np.ndarray or type(b_value) is not np.ndarray:
        return matmul_p(a, b)
    y = matmul_fun(a_value, b_value)
    # a transpose needs the value of the other argument, but of its own only the shape, which its row has
    known = (a_value if b_traced else a_tangent, b_value if a_traced else b_tangent)
    return Dual(level, y, level.tape.add(matmul_p, (a_tangent, b_tangent), known, {}, y.shape, y.dtype))


implements(np.vecdot)(lambda a, b: np.sum(np.conj(a) * b, axis=-1))
implements(np.matvec)(lambda a, b: a @ b if ndim_of(b) == 1 else (a @ np.expand_dims(b, -1))[..., 0])
implements(np.vecmat)(lambda a, b: (np.expand_dims(np.conj(a), -2) @ b)[..., 0, :])


# --- einsum -------------------------------------------------------------------------------------------


def einsum_back(i: int) -> Any:
    """Return the transpose in operand i: the einsum with that operand and the result exchanged."""

    def back(ct: Array, *arrays: Array, spec: str) -> Array:
        ins, out = spec.split("->")
        terms, operands = ins.split(","), list(arrays)
        wanted, terms[i], operands[i] = terms[i], out, ct
        return einsum_p(*operands, spec=f"{','.join(terms)}->{wanted}")

    return back


def einsum_shape(*arrays: Array, spec: str) -> tuple[int, ...]:
    """Return the shape of the result."""
    ins, out = spec.split("->")
    size = dict(zip(ins.replace(",", ""), [n for a in arrays for n in shape_of(a)], strict=True))
    return tuple(size[c] for c in out)


def einsum_batch(args: Sequence[Array], batched: Sequence[bool], spec: str) -> Array:
    """Return the einsum of a batch: the batch axis gets a letter of its own."""
    ins, out = spec.split("->")
    new = next(c for c in string.ascii_letters if c not in spec)
    terms = [new * b + t for t, b in zip(ins.split(","), batched, strict=True)]
    return einsum_p(*args, spec=f"{','.join(terms)}->{new}{out}")


einsum_p: Primitive = Primitive(
    "einsum",
    lambda *arrays, spec: np.einsum(spec, *arrays, optimize=len(arrays) > 1),
    transpose=Transposes(einsum_back),
    shape=einsum_shape,
    batch=einsum_batch,
)


@implements(np.einsum)
def einsum(spec: Any, *arrays: Array, optimize: Any = None) -> Array:
    """Return `np.einsum`.

    The subscripts are written out in full. Diagonals and sums within one operand are taken first, so that the
    primitive only multiplies and sums over shared letters.
    """
    if not isinstance(spec, str):
        fix = "Use a string such as 'ij,jk->ik'"
        raise ArgumentError("np.einsum", f"the subscripts must be a string{at_line()}", fix)
    arrays = tuple(a if isinstance(a, Tracer) else np.asarray(a) for a in arrays)
    unused = "".join(c for c in string.ascii_letters if c not in spec)

    def named(term: str, a: Array) -> str:
        """Return the term with a letter for each axis of the ellipsis; the last axis gets the last letter."""
        wide = ndim_of(a) - len(term.replace("...", ""))
        return term.replace("...", unused[len(unused) - wide :])

    ins, arrow, out = spec.replace(" ", "").partition("->")
    terms = [named(t, a) for t, a in zip(ins.split(","), arrays, strict=True)]
    letters = "".join(terms)
    if not arrow:
        out = "..." + "".join(c for c in sorted(set(letters)) if letters.count(c) == 1 and c in spec)
    out = out.replace("...", "".join(c for c in unused if c in letters))
    pairs = [pair for t, a in zip(terms, arrays, strict=True) for pair in zip(t, shape_of(a), strict=True)]
    size, wide = dict(sorted(pairs, key=lambda pair: pair[1] != 1)), []
    for i, (t, a) in enumerate(zip(terms, arrays, strict=True)):  # drop axes of length 1 that are broadcast
        ones = tuple(k for k, c in enumerate(t) if shape_of(a)[k] != size[c])
        wide.append(np.squeeze(a, ones) if ones else a)
        terms[i] = "".join(c for k, c in enumerate(t) if k not in ones)
    reduced = [reduce_operand(a, t, i, terms, out) for i, (t, a) in enumerate(zip(terms, wide, strict=True))]
    return einsum_p(*[a for a, _ in reduced], spec=",".join(t for _, t in reduced) + "->" + out)


def reduce_operand(a: Array, term: str, i: int, terms: list[str], out: str) -> tuple[Array, str]:
    """Return operand i and its term after taking diagonals and summing over letters that occur only here."""
    for c in dict.fromkeys(term):
        while term.count(c) > 1:
            first, second = term.index(c), term.index(c, term.index(c) + 1)
            a = np.diagonal(a, 0, first, second)
            term = term[:first] + term[first + 1 : second] + term[second + 1 :] + c
    elsewhere = set(out).union(*[t for j, t in enumerate(terms) if j != i])
    axes = tuple(k for k, c in enumerate(term) if c not in elsewhere)
    if axes:
        a, term = np.sum(a, axis=axes), "".join(c for c in term if c in elsewhere)
    return a, term


# --- the other products ---------------------------------------------------------------------------------


@implements(np.dot)
def dot(a: Array, b: Array) -> Array:
    """Return `np.dot`."""
    if ndim_of(a) == 0 or ndim_of(b) == 0:
        return np.multiply(a, b)
    return matmul(a, b) if ndim_of(b) <= 2 else np.tensordot(a, b, ((-1,), (-2,)))
