"""The best approximation of a rank, and its error in two norms."""

from __future__ import annotations

import sympy

from eckart.explain.exact import Matrix, inverse, is_zero, root, same, tidied, tidy
from eckart.explain.formula import Formula, Frac, Norm, Op, Row
from eckart.explain.notation import chain, decimal, letter
from eckart.explain.steps import Check, Explanation, Part, Show, Step, say
from eckart.explain.topics.common import W, energy_step, fits, joined, matrix_step, summary_step, total
from eckart.explain.work import Work, work_out


def explain_lowrank(matrix: Matrix, rank: int | None = None) -> Explanation:
    """Cut W to a rank and measure what is left out, from the entries and from sigma.

    Notes
    -----
    No matrix of rank r is nearer, in either norm: Eckart and Young, Psychometrika 1 (1936), 211-218,
    for the Frobenius norm; Mirsky, Quart. J. Math. 11 (1960), 50-59, for the spectral.
    """
    work = work_out(matrix)
    r = fits(rank, work.rank)
    best = work.best(r)
    steps = (
        matrix_step(matrix),
        summary_step(work),
        energy_step(work),
        _cut(work, r, best),
        _errors(work, r, best),
    )
    rest = total(work.squares[r:])
    results = {
        "rank": r, "sigma": work.sigma, "best": best, "error_squared": rest,
        "spectral_squared": work.squares[r] if r < work.rank else sympy.Integer(0),
        "energy": 1 - rest * inverse(total(work.squares)) if work.rank else sympy.Integer(1),
        "exact": work.exact,
    }  # fmt: skip
    return Explanation("lowrank", steps, results)


def _cut(work: Work, r: int, best: Matrix) -> Step:
    cut = letter("W", r)
    if not r:
        return Step("title.cut", (say("cut.zero"), Show(chain(cut, best))))
    names: list[Formula] = [
        Row((letter("σ", i), letter("u", i), letter("v", i, "T"))) for i in range(1, r + 1)
    ]
    parts: list[Part] = [say("cut", r=r), Show(chain(cut, joined("+", names)))]
    if r > 1:
        parts += [Show(chain(name, work.piece(i))) for i, name in enumerate(names)]
    parts.append(Show(chain(cut, best)))
    return Step("title.cut", tuple(parts))


def _errors(work: Work, r: int, best: Matrix) -> Step:
    E = tidied(work.W - best)
    difference = Row((W, Op("-"), letter("W", r)))
    parts: list[Part] = [Show(chain(difference, E))]
    rest = total(work.squares[r:])
    if r >= work.rank:
        parts += [say("errors.none"), Check(chain(letter("W", r), W), same(best, work.W), work.exact)]
        return Step("title.errors", tuple(parts))
    entries = total([x**2 for x in E])
    parts.append(say("errors.frobenius"))
    parts.append(Check(chain(Norm(difference, "F"), root(rest)), is_zero(entries - rest), work.exact))
    # The spectral norm is sigma_{r+1}: E^T E has v_{r+1} for that square, and the v before it for 0.
    G = tidied(E.T * E)
    values = [sympy.Integer(0)] * r + work.squares[r:]
    holds = all(
        is_zero(x)
        for v, value in zip(work.right, values, strict=False)
        for x in tidied(G * v.direction - value * v.direction)
    )
    parts.append(say("errors.spectral", sigma=letter("σ", r + 1)))
    parts.append(Check(chain(Norm(difference, "2"), letter("σ", r + 1), work.sigma[r]), holds, work.exact))
    whole = total(work.squares)
    relative = root(tidy(rest * inverse(whole)))
    parts += [
        say("errors.relative"),
        Show(chain(Frac(Norm(difference, "F"), Norm(W, "F")), relative)),
        say("errors.theorem", r=r, error=decimal(root(rest))),
    ]
    return Step("title.errors", tuple(parts))
