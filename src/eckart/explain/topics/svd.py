"""The singular value decomposition, with every step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import sympy

from eckart.explain.decomposition import Decomposition, decompose
from eckart.explain.eigen import dot
from eckart.explain.exact import Matrix, Number, decimals, inverse, is_zero, primitive, tidied, tidy
from eckart.explain.formula import Formula, Frac, Mark, Norm, Op, Paren, Power, Root, Row, Sym
from eckart.explain.notation import chain, grid, in_decimals, letter, number, row, vector
from eckart.explain.steps import Check, Explanation, Part, Show, Step, Table, Text, say
from eckart.explain.topics.circle import can_be_drawn, circle_step
from eckart.explain.topics.common import IDENTITY, WT, W, joined, matrix_step, polynomial_parts, total

U, UT, S, V, VT = Sym("U"), Sym("U", "", "T"), Sym("Σ"), Sym("V"), Sym("V", "", "T")
GRAM = Row((WT, W))


@dataclass(frozen=True)
class SvdResults:
    """The results of the topic ``svd``, for a matrix W of shape (m, n).

    Attributes
    ----------
    rank : int
        The rank of W.
    sigma : list of Number
        The nonzero singular values, largest first.
    eigenvalues : list of Number
        The eigenvalues of W^T W with multiplicity, largest first.
    gram : Matrix (n, n)
        W^T W.
    U : Matrix (m, m)
        Left singular vectors.
    S : Matrix (m, n)
        Sigma.
    V : Matrix (n, n)
        Right singular vectors.
    exact : bool
        Whether the results are exact; otherwise they are decimals.
    """

    rank: int
    sigma: list[Number]
    eigenvalues: list[Number]
    gram: Matrix
    U: Matrix
    S: Matrix
    V: Matrix
    exact: bool


def explain_svd(matrix: Matrix) -> Explanation[SvdResults]:
    """Compute W = U Sigma V^T: W^T W, its eigenvalues, sigma, V, U, and the product as a check.

    Notes
    -----
    By hand one starts from W^T W, which squares the condition number. In floating point this would lose half
    of the digits; here nothing is rounded. The existence proof of Golub and Van Loan, Matrix Computations,
    section 2.4, starts from sigma_1 instead.
    """
    svd = decompose(matrix)
    drawing = (circle_step(svd),) if can_be_drawn(matrix) else ()
    steps = (
        matrix_step(matrix),
        _gram(svd),
        Step("title.polynomial", tuple([say("polynomial"), *polynomial_parts(svd.eigen, GRAM)])),
        _sigma(svd),
        Step("title.right", tuple(_right(svd))),
        Step("title.left", tuple(_left(svd))),
        _assembled(svd),
        *drawing,
        _forms(svd),
    )
    results = SvdResults(
        rank=svd.rank,
        sigma=svd.sigma,
        eigenvalues=svd.eigen.values,
        gram=svd.eigen.matrix,
        U=svd.U,
        S=svd.S,
        V=svd.V,
        exact=svd.exact,
    )
    return Explanation("svd", steps, results)


def _gram(svd: Decomposition) -> Step:
    G = svd.eigen.matrix
    return Step(
        "title.gram",
        (say("gram"), Show(chain(GRAM, Row((grid(svd.W.T), grid(svd.W))), G))),
    )


def _sigma(svd: Decomposition) -> Step:
    parts: list[Part] = [say("sigma")]
    for i, (square, value) in enumerate(zip(svd.squares, svd.sigma, strict=True), 1):
        under = Root(number(square)) if not square.is_Float else Root(letter("λ", i))
        written = under if under != number(value) else Root(letter("λ", i))
        parts.append(Show(chain(letter("σ", i), written, value)))
    n = svd.W.cols
    if svd.rank < n:
        parts.append(say("sigma.zero", k=n - svd.rank))
    parts.append(say("sigma.rank", r=svd.rank))
    trace = tidy(svd.eigen.matrix.trace())
    left = joined("+", [letter("λ", i) for i in range(1, n + 1)])
    holds = is_zero(total(svd.eigen.values) - trace)
    parts += [say("sigma.trace"), Check(chain(left, Power(Norm(W, "F"), 2), trace), holds, svd.exact)]
    return Step("title.sigma", tuple(parts))


def _right(svd: Decomposition) -> Iterator[Part]:
    yield say("right")
    if not svd.exact:
        yield say("right.decimals")
        for i, unit in enumerate(svd.right, 1):
            yield Show(chain(letter("v", i), unit))
        return
    place = 1
    for space in svd.eigen.spaces:
        count = len(space.directions)
        yield say("right.solve", value=chain(Sym("λ"), space.value))
        if space.reduced is not None and space.reduced.rows:
            yield Show(chain(row(grid(space.reduced), Sym("x")), 0))
        else:
            yield say("right.any")
        if count == 1:
            x = space.directions[0]
            size = dot(x, x)
            yield Show(row(chain(Sym("x"), vector(x)), Mark(","), chain(Norm(Sym("x")), sympy.sqrt(size))))
        else:
            yield from _gram_schmidt(space.basis, space.directions)
        for unit in svd.right[place - 1 : place - 1 + count]:
            yield Show(chain(letter("v", place), unit))
            place += 1


def _gram_schmidt(basis: tuple[Matrix, ...], directions: tuple[Matrix, ...]) -> Iterator[Part]:
    """Show how the vectors of one eigenvalue are made orthogonal."""
    yield say("right.repeated", k=len(basis))
    equations: list[Formula] = []
    for i, x in enumerate(basis, 1):
        equations += [Mark(","), chain(letter("x", i), vector(x))]
    yield Show(Row(tuple(equations[1:])))
    if basis == directions:
        yield say("right.orthogonal")
        return
    yield say("right.gramschmidt")
    orthogonal = [basis[0]]  # the y, without scaling
    for i in range(1, len(basis)):
        rest = basis[i]
        terms: list[Formula] = [letter("x", i + 1)]
        for j in range(i):
            y = orthogonal[j]
            share = tidy(dot(y, basis[i]) * inverse(dot(y, y)))
            rest = tidied(rest - share * y)
            if share != 0:
                terms += _minus(share, letter("y", j + 1))
        sides: list[Formula] = [letter("y", i + 1)]
        if len(terms) > 1:
            sides.append(Row(tuple(terms)))
        orthogonal.append(rest)
        scaled, factor = primitive(rest)
        last = vector(rest) if factor == 1 else Row((number(factor), Op("·"), vector(scaled)))
        yield Show(chain(*sides, last))


def _minus(share: Number, vector: Formula) -> list[Formula]:
    """Return ``- share vector``; with + for a negative share, and without a factor 1."""
    negative = share.could_extract_minus_sign()
    size = number(-share) if negative else number(share)
    sign = Op("+" if negative else "-")
    return [sign, vector] if size == number(1) else [sign, size, Op("·"), vector]


def _left(svd: Decomposition) -> Iterator[Part]:
    yield say("left")
    for i, (v, u) in enumerate(zip(svd.right, svd.left[: svd.rank], strict=False), 1):
        product = Row((W, letter("v", i)))
        if svd.exact:
            image = vector(tidied(svd.W * v.direction))
            over = Frac(number(1), number(sympy.sqrt(v.square)))
            yield Show(chain(product, image if v.square == 1 else Row((over, Op("·"), image))))
        line = chain(letter("u", i), Frac(product, letter("σ", i)), u)
        if line.items[-2] == Op("=") and not all(x.is_Rational for x in u.vector):
            line = Row((*line.items, Op("≈"), vector(decimals(u.vector))))
        yield Show(line)
    if svd.completion:
        yield say("left.complete", k=len(svd.completion), r=svd.rank, m=svd.W.rows)
    for place, step in enumerate(svd.completion, svd.rank):
        e = letter("e", step.axis + 1)
        terms: list[Formula] = [e]
        for j, u in enumerate(svd.left[:place], 1):
            if not is_zero(u.direction[step.axis]):
                terms += [Op("-"), Paren(Row((letter("u", j), Op("·"), e))), letter("u", j)]
        if len(terms) > 1:
            yield Show(chain(Row(tuple(terms)), vector(step.rest)))
            yield Show(chain(letter("u", place + 1), step.unit))
        else:
            yield Show(chain(letter("u", place + 1), e, step.unit))


def _assembled(svd: Decomposition) -> Step:
    exact = svd.exact
    parts: list[Part] = [Show(chain(U, svd.U)), Show(chain(S, svd.S)), Show(chain(VT, svd.V.T))]
    if exact and any(in_decimals(M) for M in (svd.U, svd.S, svd.V)):
        parts.append(say("assembled.decimals"))
    parts += [
        say("assembled.check"),
        Check(chain(Row((UT, U)), IDENTITY), svd.is_orthonormal(svd.left), exact),
        Check(chain(Row((VT, V)), IDENTITY), svd.is_orthonormal(svd.right), exact),
        Check(chain(Row((U, S, VT)), *([] if in_decimals(svd.W) else [svd.W]), W), svd.is_complete(), exact),
    ]
    return Step("title.assembled", tuple(parts))


def _forms(svd: Decomposition) -> Step:
    m, n = svd.W.shape
    r = svd.rank
    header = (Text("forms.form"), U, S, VT, Text("forms.numbers"))

    def line(key: str, k: int, j: int, numbers: int) -> tuple[Text | Formula, ...]:
        return (Text(key), _size(m, k), _size(k, j), _size(j, n), number(numbers))

    rows = [line("forms.full", m, n, m * m + min(m, n) + n * n)]
    if r:
        rows.append(line("forms.compact", r, r, r * (m + n + 1)))
    if r > 1:
        rows.append(line("forms.truncated", r - 1, r - 1, (r - 1) * (m + n + 1)))
    return Step("title.forms", (say("forms"), Table(header, tuple(rows))))


def _size(m: int, n: int) -> Formula:
    return row(m, "×", n)
