"""`explain`: read a small matrix, work a topic out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from eckart.errors import UsageError
from eckart.explain.entry import read_entry
from eckart.explain.read import LIMIT, SAMPLES, read_matrix
from eckart.explain.steps import Explanation
from eckart.explain.topics.lora import explain_lora
from eckart.explain.topics.lowrank import explain_lowrank
from eckart.explain.topics.pca import explain_pca
from eckart.explain.topics.pinv import explain_pinv
from eckart.explain.topics.rank import explain_rank
from eckart.explain.topics.svd import explain_svd

TOPICS = ("svd", "rank", "lowrank", "lora", "pinv", "pca")


def explain(
    topic: str,
    matrix: str | Path | Any,
    *,
    rank: int | None = None,
    alpha: str | float | None = None,
    given: str | Path | Any = None,
) -> Explanation:
    """Work a topic out on a small matrix, as on paper.

    Parameters
    ----------
    topic : {"svd", "rank", "lowrank", "lora", "pinv", "pca"}
    matrix : str, Path or array_like (m, n)
        ``"4 0; 3 5"``, a .csv or .npy file, or an array; at most 5 x 5, for ``pca`` 12 x 5. Entries
        of at most 6 digits: whole numbers, decimals, fractions and square roots.
    rank : int, optional
        For ``lowrank`` and ``lora``: the rank to cut at; 1 if not given.
    alpha : number, optional
        For ``lora``: the scale is alpha / rank; alpha = rank if not given.
    given : str, Path or array_like (m, k), optional
        For ``lora``: a B, for which the best A is found by least squares.

    Returns
    -------
    Explanation
        Steps as data, for `render`; and ``results``, by name, as exact sympy objects.

    Raises
    ------
    MatrixError
        The matrix is not one of real numbers, or too large.
    UsageError
        No such topic; a rank that the matrix has not; an option that belongs to another topic.

    Notes
    -----
    Exact as long as the eigenvalues of W^T W have fractions and simple square roots in them; where
    not, it says so and goes on with 80 digits. Under a second for 5 x 5.

    Examples
    --------
    >>> done = explain("svd", "4 0; 3 5")
    >>> done.results["sigma"], all(check.holds and check.exact for check in done.checks)
    ([2*sqrt(10), sqrt(10)], True)
    >>> explain("lowrank", "3 1; 1 3; 1 1", rank=1).results["best"].tolist()
    [[2, 2], [2, 2], [1, 1]]
    """
    if topic not in TOPICS:
        raise UsageError(f"explain {topic}", f"expected one of {', '.join(TOPICS)}")
    if rank is not None and topic not in ("lowrank", "lora"):
        raise UsageError(f"explain {topic} --rank", "a rank goes with lowrank and lora")
    for name, value in (("alpha", alpha), ("given", given)):
        if value is not None and topic != "lora":
            raise UsageError(f"explain {topic} --{name}", "it goes with lora")
    W = read_matrix(matrix, SAMPLES if topic == "pca" else LIMIT)
    _check_rank(W, rank)
    match topic:
        case "svd":
            return explain_svd(W)
        case "rank":
            return explain_rank(W)
        case "lowrank":
            return explain_lowrank(W, rank)
        case "pinv":
            return explain_pinv(W)
        case "pca":
            return explain_pca(W)
        case _:
            scale = None if alpha is None else read_entry(str(alpha), "--alpha")
            if scale is not None and not (scale.is_Rational and scale > 0):
                raise UsageError(f"--alpha {alpha}", "expected a fraction above 0, e.g. 16")
            return explain_lora(W, rank, scale, None if given is None else read_matrix(given))


def _check_rank(W: Any, rank: int | None) -> None:
    if rank is None:
        return
    most = W.rank()
    if isinstance(rank, bool) or not isinstance(rank, int) or rank < 1:
        raise UsageError(f"--rank {rank}", "expected a whole number of at least 1")
    if rank > most:
        raise UsageError(
            f"--rank {rank}", f"the matrix has rank {most}", f"Ask for at most {most}" if most else ""
        )
