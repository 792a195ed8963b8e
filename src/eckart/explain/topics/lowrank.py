"""The best approximation of a given rank, and its error in two norms."""

from __future__ import annotations

from dataclasses import dataclass

import sympy

from eckart.explain.decomposition import Decomposition, decompose
from eckart.explain.exact import Matrix, Number, inverse, is_zero, root, same, tidied, tidy
from eckart.explain.formula import Formula, Frac, Norm, Op, Row
from eckart.explain.notation import chain, decimal, letter
from eckart.explain.steps import Check, Explanation, Part, Show, Step, say
from eckart.explain.topics.common import (
    W,
    energy_step,
    joined,
    matrix_step,
    rank_to_keep,
    summary_step,
    total,
)


@dataclass(frozen=True)
class LowRankResults:
    """The results of the topic ``lowrank``, for a matrix W of shape (m, n).

    Attributes
    ----------
    rank : int
        The rank of the approximation.
    sigma : list of Number
        The nonzero singular values of W, largest first.
    best : Matrix (m, n)
        The best approximation.
    error_squared : Number
        The squared Frobenius norm of its error.
    spectral_squared : Number
        The squared spectral norm of its error.
    energy : Number
        The share of the energy that it keeps.
    exact : bool
        Whether the results are exact; otherwise they are decimals.
    """

    rank: int
    sigma: list[Number]
    best: Matrix
    error_squared: Number
    spectral_squared: Number
    energy: Number
    exact: bool


def explain_lowrank(matrix: Matrix, rank: int | None = None) -> Explanation[LowRankResults]:
    """Truncate W to a rank, and compute the error from the entries and from the singular values.

    Notes
    -----
    No matrix of rank r is nearer in either norm: Eckart and Young, Psychometrika 1 (1936), 211-218, for
    the Frobenius norm; Mirsky, Quart. J. Math. 11 (1960), 50-59, for the spectral norm.
    """
    svd = decompose(matrix)
    r = rank_to_keep(rank, svd.rank)
    best = svd.best(r)
    steps = (
        matrix_step(matrix),
        summary_step(svd),
        energy_step(svd),
        _cut(svd, r, best),
        _errors(svd, r, best),
    )
    rest = total(svd.squares[r:])
    results = LowRankResults(
        rank=r,
        sigma=svd.sigma,
        best=best,
        error_squared=rest,
        spectral_squared=svd.squares[r] if r < svd.rank else sympy.Integer(0),
        energy=1 - rest * inverse(total(svd.squares)) if svd.rank else sympy.Integer(1),
        exact=svd.exact,
    )
    return Explanation("lowrank", steps, results)


def _cut(svd: Decomposition, r: int, best: Matrix) -> Step:
    cut = letter("W", r)
    if not r:
        return Step("title.cut", (say("cut.zero"), Show(chain(cut, best))))
    names: list[Formula] = [
        Row((letter("σ", i), letter("u", i), letter("v", i, "T"))) for i in range(1, r + 1)
    ]
    parts: list[Part] = [say("cut", r=r), Show(chain(cut, joined("+", names)))]
    if r > 1:
        parts += [Show(chain(name, svd.piece(i))) for i, name in enumerate(names)]
    parts.append(Show(chain(cut, best)))
    return Step("title.cut", tuple(parts))


def _errors(svd: Decomposition, r: int, best: Matrix) -> Step:
    E = tidied(svd.W - best)
    difference = Row((W, Op("-"), letter("W", r)))
    parts: list[Part] = [Show(chain(difference, E))]
    rest = total(svd.squares[r:])
    if r >= svd.rank:
        parts += [say("errors.none"), Check(chain(letter("W", r), W), same(best, svd.W), svd.exact)]
        return Step("title.errors", tuple(parts))
    entries = total([x**2 for x in E])
    parts.append(say("errors.frobenius"))
    parts.append(Check(chain(Norm(difference, "F"), root(rest)), is_zero(entries - rest), svd.exact))
    # The spectral norm is sigma_{r+1}: E^T E has the eigenvectors v_i, with eigenvalue 0 for i <= r and
    # sigma_i^2 for i > r.
    G = tidied(E.T * E)
    values = [sympy.Integer(0)] * r + svd.squares[r:]
    holds = all(
        is_zero(x)
        for v, value in zip(svd.right, values, strict=False)
        for x in tidied(G * v.direction - value * v.direction)
    )
    parts.append(say("errors.spectral", sigma=letter("σ", r + 1)))
    parts.append(Check(chain(Norm(difference, "2"), letter("σ", r + 1), svd.sigma[r]), holds, svd.exact))
    whole = total(svd.squares)
    relative = root(tidy(rest * inverse(whole)))
    parts += [
        say("errors.relative"),
        Show(chain(Frac(Norm(difference, "F"), Norm(W, "F")), relative)),
        say("errors.theorem", r=r, error=decimal(root(rest))),
    ]
    return Step("title.errors", tuple(parts))
