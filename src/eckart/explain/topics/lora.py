"""B and A for a LoRA adapter, from the singular value decomposition or for a given B."""

from __future__ import annotations

from typing import Any

import sympy

from eckart.errors import UsageError
from eckart.explain.elimination import eliminate, inverse_matrix
from eckart.explain.exact import Matrix, Number, decimals, inverse, is_surd, is_zero, root, tidied, tidy
from eckart.explain.formula import Formula, Frac, Mark, Norm, Op, Paren, Root, Row, Sym
from eckart.explain.notation import chain, decimal, grid, letter, number, percent, row
from eckart.explain.steps import Check, Explanation, Part, Show, Step, say
from eckart.explain.topics.common import W, energy_step, fits, matrix_step, summary_step, total
from eckart.explain.work import Work, work_out

B, A = Sym("B"), Sym("A")
BT = Sym("B", "", "T")


def explain_lora(
    matrix: Matrix, rank: int | None = None, alpha: Number | None = None, given: Matrix | None = None
) -> Explanation:
    """Split the best approximation of rank r into B (m x r) and A (r x n), W_r = (alpha/r) B A.

    The convention is that of Hu et al., LoRA (ICLR 2022), section 4.1. With ``given``, the A that
    fits a given B best is found by least squares as well.
    """
    work = work_out(matrix)
    r = fits(rank, work.rank)
    steps = [matrix_step(matrix), summary_step(work), energy_step(work)]
    results: dict[str, Any] = {"rank": r, "sigma": work.sigma, "best": work.best(r), "exact": work.exact}
    if r:
        scale = sympy.Integer(1) if alpha is None else tidy(alpha / r)
        steps += [_split(work, r, scale, results), _parameters(work, r)]
    if given is not None:
        steps.append(_least_squares(work, given, results))
    return Explanation("lora", tuple(steps), results)


def _split(work: Work, r: int, scale: Number, results: dict[str, Any]) -> Step:
    each = root(inverse(scale))  # goes into both factors, so that the scale in front is undone
    roots = [sympy.sqrt(value) * each for value in work.sigma[:r]]
    left = sympy.Matrix.hstack(*(u.vector * c for u, c in zip(work.left, roots, strict=False)))
    right = sympy.Matrix.vstack(*(v.vector.T * c for v, c in zip(work.right, roots, strict=False)))
    results |= {"B": left, "A": right, "scale": scale}
    parts: list[Part] = [say("split")]
    alpha = Frac(Sym("α"), Sym("r"))
    names = Row((letter("W", r), Op("="), alpha, Op("·"), B, A))
    if scale == 1:
        parts += [say("split.scale", r=r), Show(Row((names, Mark(","), chain(alpha, 1))))]
        factor: tuple[Formula, ...] = ()
    else:
        parts += [say("split.alpha"), Show(Row((names, Mark(","), chain(alpha, scale))))]
        factor = (*chain(number(each)).items, Op("·"))
    for i in range(1, r + 1):
        parts.append(Show(chain(Root(letter("σ", i)), decimal(sympy.sqrt(work.sigma[i - 1])), relation="≈")))
    half = Sym("Σ", str(r), "1/2")
    parts += [
        Show(chain(Row((B, Op("="), *factor, letter("U", r), half)), _decimals(left), relation="≈")),
        Show(chain(Row((A, Op("="), *factor, half, letter("V", r, "T"))), _decimals(right), relation="≈")),
    ]
    # Column i of B times row i of A is sigma_i u_i v_i^T / scale: the roots meet and are gone.
    best = work.best(r)
    holds = work.is_whole() and all(
        is_zero(tidy(c**2 * scale) - value) for c, value in zip(roots, work.sigma, strict=False)
    )
    written = Row((B, A)) if scale == 1 else Row((number(scale), Op("·"), B, A))
    parts += [say("split.product"), Check(chain(written, best), holds, work.exact)]
    return Step("title.split", tuple(parts))


def _decimals(M: Matrix) -> Formula:
    """Return a matrix in decimals, unless all of it is fractions."""
    return grid(M if all(x.is_Rational for x in M) else decimals(M))


def _parameters(work: Work, r: int) -> Step:
    m, n = work.W.shape
    stored, dense = r * (m + n), m * n
    share = percent(sympy.Rational(stored, dense))
    sign = "=" if (1000 * stored) % dense == 0 else "≈"
    names = row(Sym("r"), Paren(row(Sym("m"), "+", Sym("n"))))
    limit = sympy.Rational(dense, m + n)
    parts: list[Part] = [
        say("parameters"),
        Show(chain(names, row(r, "·", Paren(row(m, "+", n))), stored)),
        Show(chain(Row((Sym("m"), Sym("n"))), row(m, "·", n), dense)),
        Show(chain(Frac(number(stored), number(dense)), share, relation=sign)),
    ]
    key = "saves" if stored < dense else "same" if stored == dense else "costs"
    shown = number(limit) if limit.is_Integer else row(limit, "≈", decimal(limit))
    parts += [say(f"parameters.{key}"), say("parameters.limit", limit=shown)]
    return Step("title.parameters", tuple(parts))


def _least_squares(work: Work, given: Matrix, results: dict[str, Any]) -> Step:
    if given.rows != work.W.rows:
        raise UsageError(
            f"--given of {given.rows} x {given.cols}",
            f"B needs as many rows as the matrix, which is {work.W.rows} x {work.W.cols}",
        )
    if eliminate(given).rank < given.cols:
        raise UsageError("--given", "its columns depend on each other", "Leave out those that do")
    gram, right = tidied(given.T * given), tidied(given.T * work.W)
    coefficients = tidied(inverse_matrix(gram) * right)
    fit = tidied(given * coefficients)
    rest = tidied(work.W - fit)
    squared = total([x**2 for x in rest])
    mean = total([sympy.Abs(x) for x in rest]) / len(rest)
    results |= {
        "coefficients": coefficients,
        "fit": fit,
        "mean_absolute_error": mean,
        "fit_error_squared": squared,
    }
    normal = tidied(given.T * rest)
    limit = total(work.squares[given.cols :])
    parts: list[Part] = [
        say("given"),
        Show(chain(B, given)),
        Show(chain(Row((BT, B)), gram)),
        Show(chain(Row((BT, W)), right)),
        Show(chain(A, Row((Paren(Row((BT, B))), Sym("", "", "-1"), BT, W)), coefficients)),
        *_again(coefficients),
        Show(chain(Row((B, A)), fit)),
        say("given.normal"),
        Check(chain(Row((BT, Paren(row(W, "-", Row((B, A)))))), 0), normal.is_zero_matrix, True),
        say("given.error"),
        Show(chain(Norm(row(W, "-", Row((B, A))), "F"), root(squared) if is_surd(squared) else squared)),
        say("given.mean", mean=decimal(mean)),
        say("given.best", r=given.cols, error=decimal(root(limit))),
    ]
    return Step("title.given", tuple(parts))


def _again(coefficients: Matrix) -> list[Part]:
    """Fractions again as decimals, which are easier to compare."""
    if all(x.is_Integer for x in coefficients):
        return []
    return [Show(Row((A, Op("≈"), grid(decimals(coefficients)))))]
