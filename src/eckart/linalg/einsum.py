"""Einstein notation: ten operations as data, and the cost of a contraction in the best order."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from eckart.arrays import Array
from eckart.checks import is_whole_number
from eckart.errors import UsageError
from eckart.extras import missing_extra


@dataclass(frozen=True)
class Operation:
    """An operation on tensors in three notations.

    Parameters
    ----------
    name : str
        Its usual name.
    formula : str
        With all sums written out.
    einsum : str
        The subscripts for `numpy.einsum`. An index that is not in the result is summed over.
    numpy : str
        A NumPy expression without einsum.
    direct : callable
        ``numpy`` as a function, to compare with.
    """

    name: str
    formula: str
    einsum: str
    numpy: str
    direct: Callable[..., Array]

    def __call__(self, *arrays: Array) -> Array:
        """Evaluate the operation with ``numpy.einsum``; a NumPy scalar if the result has no index."""
        result: Array = np.einsum(self.einsum, *arrays)
        return result

    def shapes(self, sizes: Mapping[str, int] | None = None) -> list[tuple[int, ...]]:
        """Return the shapes of the operands.

        Parameters
        ----------
        sizes : mapping of str to int, optional
            Length of each index; 8 for missing ones.

        Returns
        -------
        list of tuple of int
            One shape for each operand.
        """
        known = dict(sizes or {})
        return [tuple(known.get(i, 8) for i in term) for term in self.einsum.split("->")[0].split(",")]


OPERATIONS: tuple[Operation, ...] = (
    Operation("inner product", "c = sum_i a_i b_i", "i,i->", "a @ b", lambda a, b: a @ b),
    Operation("outer product", "C_ij = a_i b_j", "i,j->ij", "np.outer(a, b)", np.outer),
    Operation("matrix product", "C_ij = sum_k A_ik B_kj", "ik,kj->ij", "A @ B", lambda A, B: A @ B),
    Operation("trace", "t = sum_i A_ii", "ii->", "np.trace(A)", np.trace),
    Operation("transpose", "B_ji = A_ij", "ij->ji", "A.T", lambda A: A.T),
    Operation("diagonal", "d_i = A_ii", "ii->i", "np.diag(A)", np.diag),
    Operation("batched product", "C_bij = sum_k A_bik B_bkj", "bik,bkj->bij", "A @ B", lambda A, B: A @ B),
    Operation(
        "attention scores",
        "S_bhij = sum_k Q_bhik K_bhjk",
        "bhik,bhjk->bhij",
        "Q @ K.swapaxes(-1, -2)",
        lambda Q, K: Q @ K.swapaxes(-1, -2),
    ),
    Operation("double contraction", "s = sum_ij A_ij B_ij", "ij,ij->", "np.vdot(A, B)", np.vdot),
    Operation(
        "contraction",
        "C_ik = sum_j A_ij B_jk",
        "ij,jk->ik",
        "np.tensordot(A, B, 1)",
        lambda A, B: np.tensordot(A, B, 1),
    ),
)


@dataclass(frozen=True)
class Contraction:
    """The cheapest order of a contraction, and its cost.

    Parameters
    ----------
    einsum : str
        The subscripts.
    path : tuple of tuples of int
        Positions of the operands that each step contracts. The result of a step goes to the end of the
        list of operands. `numpy.einsum` accepts it as ``optimize=["einsum_path", *path]``.
    steps : tuple of str
        The einsum subscripts of each step.
    flops : int
        Multiplications and additions in this order.
    naive_flops : int
        Multiplications and additions in one loop over all indices.
    largest_intermediate : int
        Number of entries of the largest array that a step produces, including the result.
    """

    einsum: str
    path: tuple[tuple[int, ...], ...]
    steps: tuple[str, ...]
    flops: int
    naive_flops: int
    largest_intermediate: int

    @property
    def speedup(self) -> float:
        """Ratio naive_flops / flops."""
        return self.naive_flops / self.flops if self.flops else 1.0


def contraction(
    expression: str, *shapes: tuple[int, ...], optimize: str | list[tuple[int, ...]] = "auto"
) -> Contraction:
    """Find the cheapest order of a contraction for tensors of given shapes.

    Parameters
    ----------
    expression : str
        Subscripts as for ``numpy.einsum``.
    *shapes : tuple of int
        The shape of each operand; no data is needed.
    optimize : str or list
        Search method of opt_einsum: "auto" (optimal for up to eight operands), "optimal", "dp" or "greedy".
        A path is also accepted, and its cost is computed.

    Returns
    -------
    Contraction
        The order and its cost.

    Raises
    ------
    UsageError
        If the shapes do not fit the expression, or a size is not a whole number of at least 0.
    MissingExtraError
        If opt_einsum is not installed.

    Notes
    -----
    opt_einsum finds the path, but the flops are counted here: for each combination of the indices of a step,
    a multiplication for every operand but the first, and an addition if anything is summed. A
    transpose costs none (opt_einsum counts one for each entry). The cheapest order depends on the
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
        raise missing_extra("eckart.linalg.contraction", "opt_einsum is not installed", "einsum") from None
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
    """Return the ten operations and their costs as a table of text.

    Parameters
    ----------
    sizes : mapping of str to int, optional
        Length of each index; 8 for missing ones.

    Returns
    -------
    str
        One line per operation.

    Raises
    ------
    UsageError
        If a size is not a whole number of at least 0.
    MissingExtraError
        If opt_einsum is not installed.

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
    """Return a contraction as text: its steps, and its cost compared with one loop over all indices.

    Parameters
    ----------
    plan : Contraction
        As `contraction` returns it.

    Returns
    -------
    str
        One line per step, and a line with the costs.

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
    """Return the einsum of each step. opt_einsum's own text changes the order of indices from run to run."""
    steps = []
    for number, pair in enumerate(path, 1):
        operands = [terms[i] for i in sorted(pair)]
        terms = [term for i, term in enumerate(terms) if i not in pair]
        needed = set(result).union(*terms)
        if number == len(path):
            kept = result
        else:
            kept = "".join(i for i in dict.fromkeys("".join(operands)) if i in needed)
        steps.append(f"{','.join(operands)}->{kept}")
        terms.append(kept)
    return tuple(steps)


def _flops(step: str, sizes: Mapping[str, int]) -> int:
    """Return the multiplications and additions of one loop over all indices of a step."""
    terms, result = step.split("->")
    indices = set(terms) - {","}
    each = terms.count(",") + bool(indices - set(result))
    return each * math.prod(int(sizes[i]) for i in indices)


def _aligned(rows: list[tuple[str, ...]]) -> str:
    """Return rows as aligned columns; columns of numbers are aligned on the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    numeric = [
        all(cell.replace(",", "").isdigit() for cell in column[1:]) for column in zip(*rows, strict=True)
    ]
    numeric[0] = False
    lines = []
    for row in rows:
        cells = zip(row, widths, numeric, strict=True)
        lines.append(
            "  ".join(text.rjust(width) if number else text.ljust(width) for text, width, number in cells)
        )
    return "\n".join(line.rstrip() for line in lines)
