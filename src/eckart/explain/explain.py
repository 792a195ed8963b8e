"""`explain`: read a small matrix and explain a topic on it."""

from __future__ import annotations

from typing import Literal, overload

from eckart.arguments import argument
from eckart.checks import check_choice, is_whole_number
from eckart.errors import UsageError
from eckart.explain.entry import read_entry
from eckart.explain.exact import Matrix
from eckart.explain.read import LIMIT, SAMPLES, MatrixSource, read_matrix
from eckart.explain.steps import Explanation
from eckart.explain.topics.lora import LoraResults, explain_lora
from eckart.explain.topics.lowrank import LowRankResults, explain_lowrank
from eckart.explain.topics.pca import PcaResults, explain_pca
from eckart.explain.topics.pinv import PinvResults, explain_pinv
from eckart.explain.topics.rank import RankResults, explain_rank
from eckart.explain.topics.svd import SvdResults, explain_svd

TOPICS = ("svd", "rank", "lowrank", "lora", "pinv", "pca")


@overload
def explain(topic: Literal["svd"], matrix: MatrixSource) -> Explanation[SvdResults]: ...
@overload
def explain(topic: Literal["rank"], matrix: MatrixSource) -> Explanation[RankResults]: ...
@overload
def explain(topic: Literal["pinv"], matrix: MatrixSource) -> Explanation[PinvResults]: ...
@overload
def explain(topic: Literal["pca"], matrix: MatrixSource) -> Explanation[PcaResults]: ...
@overload
def explain(
    topic: Literal["lowrank"], matrix: MatrixSource, *, rank: int | None = None
) -> Explanation[LowRankResults]: ...
@overload
def explain(
    topic: Literal["lora"],
    matrix: MatrixSource,
    *,
    rank: int | None = None,
    alpha: str | float | None = None,
    given: MatrixSource | None = None,
) -> Explanation[LoraResults]: ...
@overload
def explain(
    topic: str,
    matrix: MatrixSource,
    *,
    rank: int | None = None,
    alpha: str | float | None = None,
    given: MatrixSource | None = None,
) -> Explanation[object]: ...


def explain(
    topic: str,
    matrix: MatrixSource,
    *,
    rank: int | None = None,
    alpha: str | float | None = None,
    given: MatrixSource | None = None,
) -> Explanation[object]:
    """Explain a topic on a small matrix, with every step as on paper.

    Parameters
    ----------
    topic : {"svd", "rank", "lowrank", "lora", "pinv", "pca"}
        What to explain.
    matrix : str, Path or array_like (m, n)
        ``"4 0; 3 5"``, a .csv or .npy file, or an array; at most 5 x 5, for ``pca`` 12 x 5. The entries are
        integers, decimals, fractions and square roots of at most 6 digits.
    rank : int, optional
        The rank of the approximation, for ``lowrank`` and ``lora``. The default is 1.
    alpha : str or float, optional
        For ``lora``: the scale is alpha / rank. By default alpha is the rank.
    given : str, Path or array_like (m, k), optional
        For ``lora``: a matrix B, for which the best A is computed by least squares.

    Returns
    -------
    Explanation
        The steps, for `render`, and the results as exact sympy objects. The attributes of the results are:

        * ``svd``: rank, sigma, eigenvalues, gram, U, S, V, exact;
        * ``rank``: rank, echelon, C, F, sigma;
        * ``lowrank``: rank, sigma, best, error_squared, spectral_squared, energy, exact;
        * ``lora``: rank, sigma, best, exact, B, A, scale (the last three are None for a zero matrix), and
          coefficients, fit, mean_absolute_error, fit_error_squared (None without ``given``);
        * ``pinv``: pinv, sigma, rank, exact;
        * ``pca``: mean, centred, covariance, variances, components, sigma, exact.

    Raises
    ------
    MatrixError
        The matrix is not a matrix of real numbers, or is too large.
    UsageError
        The topic is unknown, the rank is above that of the matrix, or an option belongs to another topic.

    Notes
    -----
    The results are exact as long as the eigenvalues of W^T W contain only fractions and simple square roots.
    Otherwise a step reports this, and the computation continues with 80 digits. It takes less than a second
    for 5 x 5.

    Examples
    --------
    >>> explanation = explain("svd", "4 0; 3 5")
    >>> explanation.results.sigma, all(check.holds and check.exact for check in explanation.checks)
    ([2*sqrt(10), sqrt(10)], True)
    >>> explain("lowrank", "3 1; 1 3; 1 1", rank=1).results.best.tolist()
    [[2, 2], [2, 2], [1, 1]]
    """
    topic = check_choice(topic, "topic", TOPICS)
    if rank is not None and topic not in ("lowrank", "lora"):
        raise UsageError(argument("rank", rank), "this argument is only for lowrank and lora", "Remove it")
    for name, value in (("alpha", alpha), ("given", given)):
        if value is not None and topic != "lora":
            raise UsageError(argument(name, value), "this argument is only for lora", "Remove it")
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
            scale = None if alpha is None else read_entry(str(alpha), argument("alpha", str(alpha)))
            if scale is not None and not (scale.is_Rational and scale > 0):
                raise UsageError(
                    argument("alpha", alpha),
                    "expected a number or fraction above 0",
                    "Use for example 16 or 1/2",
                )
            return explain_lora(W, rank, scale, None if given is None else read_matrix(given))


def _check_rank(W: Matrix, rank: int | None) -> None:
    if rank is None:
        return
    if not is_whole_number(rank, least=1):
        raise UsageError(argument("rank", rank), "expected a whole number of at least 1")
    highest = W.rank()
    if rank > highest:
        fix = f"Use at most {highest}" if highest else "Remove this argument"
        raise UsageError(argument("rank", rank), f"the matrix has rank {highest}", fix)
