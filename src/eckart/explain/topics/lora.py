"""The factors B and A of a LoRA adapter, from the singular value decomposition or for a given B."""

from __future__ import annotations

from dataclasses import dataclass, replace

import sympy

from eckart.arguments import argument
from eckart.errors import UsageError
from eckart.explain.decomposition import Decomposition, decompose
from eckart.explain.elimination import eliminate, inverse_matrix
from eckart.explain.exact import Matrix, Number, decimals, inverse, is_surd, is_zero, root, tidied, tidy
from eckart.explain.formula import Formula, Frac, Mark, Norm, Op, Paren, Root, Row, Sym
from eckart.explain.notation import chain, decimal, grid, letter, number, percent, row
from eckart.explain.steps import Check, Explanation, Part, Show, Step, say
from eckart.explain.topics.common import W, energy_step, matrix_step, rank_to_keep, summary_step, total

B, A = Sym("B"), Sym("A")
BT = Sym("B", "", "T")


@dataclass(frozen=True)
class LoraResults:
    """The results of the topic ``lora``, for an update W of shape (m, n).

    Attributes
    ----------
    rank : int
        The rank r of the factors.
    sigma : list of Number
        The nonzero singular values of W, largest first.
    best : Matrix (m, n)
        The best approximation of rank r.
    exact : bool
        Whether the results are exact; otherwise they are decimals.
    B : Matrix (m, r) or None
        The left factor. None, like A and scale, if W is 0.
    A : Matrix (r, n) or None
        The right factor.
    scale : Number or None
        alpha / r; ``best`` is scale times B A.
    coefficients : Matrix (k, n) or None
        The best A for a given B. None, like the following attributes, if no B was given.
    fit : Matrix (m, n) or None
        The given B times ``coefficients``.
    mean_absolute_error : Number or None
        The mean absolute entry of W - ``fit``.
    fit_error_squared : Number or None
        The squared Frobenius norm of W - ``fit``.
    """

    rank: int
    sigma: list[Number]
    best: Matrix
    exact: bool
    B: Matrix | None = None
    A: Matrix | None = None
    scale: Number | None = None
    coefficients: Matrix | None = None
    fit: Matrix | None = None
    mean_absolute_error: Number | None = None
    fit_error_squared: Number | None = None


def explain_lora(
    matrix: Matrix, rank: int | None = None, alpha: Number | None = None, given: Matrix | None = None
) -> Explanation[LoraResults]:
    """Split the best approximation of rank r into B (m x r) and A (r x n), W_r = (alpha/r) B A.

    Parameters
    ----------
    matrix : Matrix (m, n)
        The update.
    rank : int, optional
        The rank r; 1 by default.
    alpha : Number, optional
        The scale is alpha / r; r by default.
    given : Matrix (m, k), optional
        A matrix B, for which the best A is computed by least squares as well.

    Notes
    -----
    The convention is that of Hu et al., LoRA (ICLR 2022), section 4.1.
    """
    svd = decompose(matrix)
    r = rank_to_keep(rank, svd.rank)
    steps = [matrix_step(matrix), summary_step(svd), energy_step(svd)]
    results = LoraResults(rank=r, sigma=svd.sigma, best=svd.best(r), exact=svd.exact)
    if r:
        factors = _factors(svd, r, sympy.Integer(1) if alpha is None else tidy(alpha / r))
        steps += [_split(svd, r, factors), _parameters(svd, r)]
        results = replace(results, B=factors.B, A=factors.A, scale=factors.scale)
    if given is not None:
        fit = _fit(svd.W, given)
        steps.append(_least_squares(svd, given, fit))
        results = replace(
            results,
            coefficients=fit.A,
            fit=fit.product,
            mean_absolute_error=fit.mean_absolute_error,
            fit_error_squared=fit.error_squared,
        )
    return Explanation("lora", tuple(steps), results)


@dataclass(frozen=True)
class Factors:
    """The factors of an approximation.

    Attributes
    ----------
    B : Matrix (m, r)
        The left factor.
    A : Matrix (r, n)
        The right factor.
    scale : Number
        alpha / r.
    root_scale : Number
        The square root of 1 / scale, which both factors contain.
    roots : list of Number
        The lengths of the columns of B, which are those of the rows of A.
    """

    B: Matrix
    A: Matrix
    scale: Number
    root_scale: Number
    roots: list[Number]


def _factors(svd: Decomposition, r: int, scale: Number) -> Factors:
    root_scale = root(inverse(scale))
    roots = [sympy.sqrt(value) * root_scale for value in svd.sigma[:r]]
    B = sympy.Matrix.hstack(*(u.vector * c for u, c in zip(svd.left, roots, strict=False)))
    A = sympy.Matrix.vstack(*(v.vector.T * c for v, c in zip(svd.right, roots, strict=False)))
    return Factors(B, A, scale, root_scale, roots)


def _split(svd: Decomposition, r: int, factors: Factors) -> Step:
    scale = factors.scale
    parts: list[Part] = [say("split")]
    alpha = Frac(Sym("α"), Sym("r"))
    names = Row((letter("W", r), Op("="), alpha, Op("·"), B, A))
    if scale == 1:
        parts += [say("split.scale", r=r), Show(Row((names, Mark(","), chain(alpha, 1))))]
        factor: tuple[Formula, ...] = ()
    else:
        parts += [say("split.alpha"), Show(Row((names, Mark(","), chain(alpha, scale))))]
        factor = (*chain(number(factors.root_scale)).items, Op("·"))
    for i in range(1, r + 1):
        parts.append(Show(chain(Root(letter("σ", i)), decimal(sympy.sqrt(svd.sigma[i - 1])), relation="≈")))
    half = Sym("Σ", str(r), "1/2")
    parts += [
        Show(chain(Row((B, Op("="), *factor, letter("U", r), half)), _decimals(factors.B), relation="≈")),
        Show(
            chain(Row((A, Op("="), *factor, half, letter("V", r, "T"))), _decimals(factors.A), relation="≈")
        ),
    ]
    # Column i of B times row i of A is sigma_i u_i v_i^T / scale: the square roots combine to sigma_i.
    best = svd.best(r)
    holds = svd.is_complete() and all(
        is_zero(tidy(c**2 * scale) - value) for c, value in zip(factors.roots, svd.sigma, strict=False)
    )
    written = Row((B, A)) if scale == 1 else Row((number(scale), Op("·"), B, A))
    parts += [say("split.product"), Check(chain(written, best), holds, svd.exact)]
    return Step("title.split", tuple(parts))


def _decimals(M: Matrix) -> Formula:
    """Return a matrix in decimals unless all entries are fractions."""
    return grid(M if all(x.is_Rational for x in M) else decimals(M))


def _parameters(svd: Decomposition, r: int) -> Step:
    m, n = svd.W.shape
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
    if stored < dense:
        key = "saves"
    elif stored == dense:
        key = "same"
    else:
        key = "costs"
    shown = number(limit) if limit.is_Integer else row(limit, "≈", decimal(limit))
    parts += [say(f"parameters.{key}"), say("parameters.limit", limit=shown)]
    return Step("title.parameters", tuple(parts))


@dataclass(frozen=True)
class Fit:
    """The least-squares solution A of B A = W for a given B.

    Attributes
    ----------
    gram : Matrix (k, k)
        B^T B.
    right : Matrix (k, n)
        B^T W.
    A : Matrix (k, n)
        The solution.
    product : Matrix (m, n)
        B A.
    rest : Matrix (m, n)
        W - B A.
    error_squared : Number
        The squared Frobenius norm of ``rest``.
    mean_absolute_error : Number
        The mean absolute value of the entries of ``rest``.
    """

    gram: Matrix
    right: Matrix
    A: Matrix
    product: Matrix
    rest: Matrix
    error_squared: Number
    mean_absolute_error: Number


def _fit(matrix: Matrix, given: Matrix) -> Fit:
    if given.rows != matrix.rows:
        raise UsageError(
            argument("given"),
            f"expected a B with as many rows as the matrix, which is {matrix.rows} x {matrix.cols}; "
            f"found {given.rows} x {given.cols}",
        )
    if eliminate(given).rank < given.cols:
        raise UsageError(
            argument("given"),
            "the columns of B are linearly dependent",
            "Remove columns until they are independent",
        )
    gram, right = tidied(given.T * given), tidied(given.T * matrix)
    solution = tidied(inverse_matrix(gram) * right)
    product = tidied(given * solution)
    rest = tidied(matrix - product)
    squared = total([x**2 for x in rest])
    mean = total([sympy.Abs(x) for x in rest]) / len(rest)
    return Fit(gram, right, solution, product, rest, squared, mean)


def _least_squares(svd: Decomposition, given: Matrix, fit: Fit) -> Step:
    squared = fit.error_squared
    normal = tidied(given.T * fit.rest)
    least = total(svd.squares[given.cols :])
    parts: list[Part] = [
        say("given"),
        Show(chain(B, given)),
        Show(chain(Row((BT, B)), fit.gram)),
        Show(chain(Row((BT, W)), fit.right)),
        Show(chain(A, Row((Paren(Row((BT, B))), Sym("", "", "-1"), BT, W)), fit.A)),
        *_in_decimals(fit.A),
        Show(chain(Row((B, A)), fit.product)),
        say("given.normal"),
        Check(chain(Row((BT, Paren(row(W, "-", Row((B, A)))))), 0), normal.is_zero_matrix, True),
        say("given.error"),
        Show(chain(Norm(row(W, "-", Row((B, A))), "F"), root(squared) if is_surd(squared) else squared)),
        say("given.mean", mean=decimal(fit.mean_absolute_error)),
        say("given.best", r=given.cols, error=decimal(root(least))),
    ]
    return Step("title.given", tuple(parts))


def _in_decimals(coefficients: Matrix) -> list[Part]:
    """Show fractions as decimals as well, which are easier to compare."""
    if all(x.is_Integer for x in coefficients):
        return []
    return [Show(Row((A, Op("≈"), grid(decimals(coefficients)))))]
