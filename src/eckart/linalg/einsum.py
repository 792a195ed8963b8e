"""Einstein's notation: ten operations as data, and what a contraction costs in the best order."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from eckart.arrays import Array
from eckart.checks import is_whole_number
from eckart.errors import MissingExtraError, UsageError


@dataclass(frozen=True)
class Operation:
    """An operation on tensors, written three ways.

    Parameters
    ----------
    name : str
    formula : str
        With every sum written out.
    einsum : str
        An index that is repeated and not in the result is summed over.
    numpy : str
        The same in NumPy without einsum.
    direct : callable
        What ``numpy`` says, to check against.
    """

    name: str
    formula: str
    einsum: str
    numpy: str
    direct: Callable[..., Any]

    def __call__(self, *arrays: Array) -> Any:
        """Evaluate by ``numpy.einsum``."""
        return np.einsum(self.einsum, *arrays)

    def shapes(self, sizes: Mapping[str, int] | None = None) -> list[tuple[int, ...]]:
        """Return the shapes of the operands for the size of each index; 8 for those not given."""
        known = dict(sizes or {})
        return [tuple(known.get(i, 8) for i in term) for term in self.einsum.split("->")[0].split(",")]


OPERATIONS: tuple[Operation, ...] = (
    Operation("inner product", "c = sum_i a_i b_i", "i,i->", "a @ b", lambda a, b: a @ b),
    Operation("outer product", "C_ij = a_i b_j", "i,j->ij", "np.outer(a, b)", np.outer),
    Operation("matrix product", "C_ij = sum_k A_ik B_kj", "ik,kj->ij", "A @ B", lambda A, B: A @ B),
    Operation("trace", "t = sum_i A_ii", "ii->", "np.trace(A)", np.trace),
    Operation("transpose", "B_ji = A_ij", "ij->ji", "A.T", lambda A: A.T),
    Operation("diagonal", "d_i = A_ii", "ii->i", "np.diag(A)", np.diag),
    Operation(
        "batched product", "C_bij = sum_k A_bik B_bkj", "bik,bkj->bij", "A @ B", lambda A, B: A @ B
    ),
    Operation(
        "attention scores",
        "S_bhij = sum_k Q_bhik K_bhjk",
        "bhik,bhjk->bhij",
        "Q @ K.swapaxes(-1, -2)",
        lambda Q, K: Q @ K.swapaxes(-1, -2),
    ),
    Operation(
        "double contraction", "s = sum_ij A_ij B_ij", "ij,ij->", "np.vdot(A, B)", lambda A, B: np.vdot(A, B)
    ),
    Operation(
        "contraction", "C_ik = sum_j A_ij B_jk", "ij,jk->ik", "np.tensordot(A, B, 1)",
        lambda A, B: np.tensordot(A, B, 1),
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Contraction:
    """The order in which a contraction is cheapest, and what it costs there.

    Parameters
    ----------
    einsum : str
    path : tuple of tuples of int
        Positions of the operands that are contracted together, step by step; the result of a step goes
        to the end of the list. `numpy.einsum` takes it as ``optimize=["einsum_path", *path]``.
    steps : tuple of str
        The einsum of each step.
    flops : int
        Multiplications and additions in this order.
    naive_flops : int
        The same in one loop over all indices.
    largest_intermediate : int
        Numbers in the largest array on the way, the result among them.
    """

    einsum: str
    path: tuple[tuple[int, ...], ...]
    steps: tuple[str, ...]
    flops: int
    naive_flops: int
    largest_intermediate: int

    @property
    def speedup(self) -> float:
        """naive_flops / flops."""
        return self.naive_flops / self.flops if self.flops else 1.0


def contraction(expression: str, *shapes: tuple[int, ...], optimize: Any = "auto") -> Contraction:
    """Plan a contraction of tensors of these shapes.

    Parameters
    ----------
    expression : str
        As for ``numpy.einsum``.
    *shapes : tuple of int
        One for each operand; no data is needed.
    optimize : str or list
        How opt_einsum searches: "auto" is optimal up to eight operands; "optimal", "dp", "greedy"; or
        a path, to learn its cost.

    Returns
    -------
    Contraction

    Raises
    ------
    UsageError
        An expression that the shapes do not fit, or sizes that are no whole numbers of at least 0.
    MissingExtraError
        opt_einsum is not installed.

    Notes
    -----
    opt_einsum finds the path; the flops are counted here: for each combination of the indices of a step,
    a multiplication for every operand but the first, and an addition if anything is summed. A
    transpose costs none (opt_einsum's own count has one for each entry). The cheapest order depends on the
    shapes: for matrices in a chain it is the classical matrix-chain problem.

    References
    ----------
    Smith and Gray (2018), opt_einsum, Journal of Open Source Software 3(26), 753.

    Examples
    --------
    >>> plan = contraction("ij,jk,kl->il", (100, 50), (50, 200), (200, 100))
    >>> plan.path, f"{plan.flops:.3g}", f"{plan.naive_flops:.3g}", plan.largest_intermediate
    (((1, 2), (0, 1)), '3e+06', '3e+08', 10000)
    """
    try:
        import opt_einsum
    except ImportError:
        raise MissingExtraError(
            "eckart.linalg.contraction", "opt_einsum is not installed", "Type: pip install 'eckart[einsum]'"
        ) from None
    for size in (size for shape in shapes for size in shape):
        if not is_whole_number(size):
            raise UsageError(
                f"contraction({expression!r})", f"expected shapes of whole numbers, got {shapes}"
            )
    try:
        path, info = opt_einsum.contract_path(expression, *shapes, shapes=True, optimize=optimize)
    except (ValueError, IndexError, KeyError, TypeError) as reason:
        raise UsageError(
            f"contraction({expression!r})", f"the shapes {shapes} do not fit: {reason}"
        ) from None
    pairs = tuple(tuple(int(i) for i in pair) for pair in path)
    steps = _steps(info.input_subscripts.split(","), info.output_subscript, pairs)
    return Contraction(
        expression,
        pairs,
        steps,
        sum(_flops(step, info.size_dict) for step in steps),
        _flops(f"{info.input_subscripts}->{info.output_subscript}", info.size_dict),
        int(info.largest_intermediate),
    )


def einsum_table(sizes: Mapping[str, int] | None = None) -> str:
    """Return the ten operations as a table of text, with their cost for given sizes of the indices.

    Parameters
    ----------
    sizes : mapping of str to int, optional
        The length of each index; 8 for those not given.

    Examples
    --------
    >>> einsum_table({"k": 64}).splitlines()[3].split()
    ['matrix', 'product', 'C_ij', '=', 'sum_k', 'A_ik', 'B_kj', 'ik,kj->ij', 'A', '@', 'B', '8,192', '64']
    """
    rows: list[tuple[str, ...]] = [("operation", "formula", "einsum", "NumPy", "flops", "largest")]
    for op in OPERATIONS:
        plan = contraction(op.einsum, *op.shapes(sizes))
        cost, size = f"{plan.flops:,}", f"{plan.largest_intermediate:,}"
        rows.append((op.name, op.formula, op.einsum, op.numpy, cost, size))
    return _aligned(rows)


def contraction_table(plan: Contraction) -> str:
    """Return a plan as text: its steps, and its cost beside one loop over all indices.

    Examples
    --------
    >>> print(contraction_table(contraction("ij,jk,kl->il", (100, 50), (50, 200), (200, 100))))
    step  operands  einsum
    1     1, 2      jk,kl->jl
    2     0, 1      ij,jl->il
    flops 3,000,000, in one loop 300,000,000; largest intermediate 10,000 numbers
    """
    rows: list[tuple[str, ...]] = [("step", "operands", "einsum")]
    for i, (pair, step) in enumerate(zip(plan.path, plan.steps, strict=True), 1):
        rows.append((str(i), ", ".join(map(str, pair)), step))
    return (
        f"{_aligned(rows)}\nflops {plan.flops:,}, in one loop {plan.naive_flops:,}; "
        f"largest intermediate {plan.largest_intermediate:,} numbers"
    )


def _steps(terms: list[str], result: str, path: tuple[tuple[int, ...], ...]) -> tuple[str, ...]:
    """Write each step as an einsum: opt_einsum's own text orders the indices by the hash of the day."""
    steps = []
    for number, pair in enumerate(path, 1):
        taken = [terms[i] for i in sorted(pair)]
        terms = [term for i, term in enumerate(terms) if i not in pair]
        wanted = set(result).union(*terms)
        kept = (
            result
            if number == len(path)
            else "".join(i for i in dict.fromkeys("".join(taken)) if i in wanted)
        )
        steps.append(f"{','.join(taken)}->{kept}")
        terms.append(kept)
    return tuple(steps)


def _flops(step: str, sizes: Mapping[str, int]) -> int:
    """Multiplications and additions of one loop over all indices of a step."""
    terms, result = step.split("->")
    indices = set(terms) - {","}
    each = terms.count(",") + bool(indices - set(result))
    return each * math.prod(int(sizes[i]) for i in indices)


def _aligned(rows: list[tuple[str, ...]]) -> str:
    """Columns of text, those of numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    right = [
        all(cell.replace(",", "").isdigit() for cell in column[1:]) for column in zip(*rows, strict=True)
    ]
    right[0] = False
    lines = (
        "  ".join(
            cell.rjust(w) if r else cell.ljust(w) for cell, w, r in zip(row, widths, right, strict=True)
        )
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)
