"""The singular value decomposition, every step of it."""

from __future__ import annotations

from collections.abc import Iterator

import sympy

from eckart.explain.eigen import dot
from eckart.explain.exact import Matrix, decimals, inverse, is_zero, nice, tidied, tidy
from eckart.explain.formula import Formula, Frac, Mark, Norm, Op, Paren, Power, Root, Row, Sym
from eckart.explain.notation import chain, grid, in_decimals, letter, number, row, vector
from eckart.explain.steps import Check, Explanation, Part, Show, Step, Table, Text, say
from eckart.explain.topics.circle import can_be_drawn, circle_step
from eckart.explain.topics.common import IDENTITY, WT, W, joined, matrix_step, polynomial_parts, total
from eckart.explain.work import Work, work_out

U, UT, S, V, VT = Sym("U"), Sym("U", "", "T"), Sym("Σ"), Sym("V"), Sym("V", "", "T")
GRAM = Row((WT, W))


def explain_svd(matrix: Matrix) -> Explanation:
    """Work out W = U Sigma V^T: W^T W, its eigenvalues, sigma, V, U, and the product again.

    Follows Golub and Van Loan, Matrix Computations, section 2.4, backwards: their proof starts from
    sigma_1; paper starts from W^T W, which squares the condition number and would lose half the
    digits in floating point. Here nothing is rounded, so nothing is lost.
    """
    work = work_out(matrix)
    drawing = (circle_step(work),) if can_be_drawn(matrix) else ()
    steps = (
        matrix_step(matrix),
        _gram(work),
        Step("title.polynomial", tuple([say("polynomial"), *polynomial_parts(work.eigen, GRAM)])),
        _sigma(work),
        Step("title.right", tuple(_right(work))),
        Step("title.left", tuple(_left(work))),
        _assembled(work),
        *drawing,
        _forms(work),
    )
    results = {
        "rank": work.rank, "sigma": work.sigma, "eigenvalues": work.eigen.values, "gram": work.eigen.matrix,
        "U": work.U, "S": work.S, "V": work.V, "exact": work.exact,
    }  # fmt: skip
    return Explanation("svd", steps, results)


def _gram(work: Work) -> Step:
    G = work.eigen.matrix
    return Step(
        "title.gram",
        (say("gram"), Show(chain(GRAM, Row((grid(work.W.T), grid(work.W))), G))),
    )


def _sigma(work: Work) -> Step:
    parts: list[Part] = [say("sigma")]
    for i, (square, value) in enumerate(zip(work.squares, work.sigma, strict=True), 1):
        under = Root(number(square)) if not square.is_Float else Root(letter("λ", i))
        written = under if under != number(value) else Root(letter("λ", i))
        parts.append(Show(chain(letter("σ", i), written, value)))
    n = work.W.cols
    if work.rank < n:
        parts.append(say("sigma.zero", k=n - work.rank))
    parts.append(say("sigma.rank", r=work.rank))
    trace = tidy(work.eigen.matrix.trace())
    left = joined("+", [letter("λ", i) for i in range(1, n + 1)])
    holds = is_zero(total(work.eigen.values) - trace)
    parts += [say("sigma.trace"), Check(chain(left, Power(Norm(W, "F"), 2), trace), holds, work.exact)]
    return Step("title.sigma", tuple(parts))


def _right(work: Work) -> Iterator[Part]:
    yield say("right")
    if not work.exact:
        yield say("right.decimals")
        for i, unit in enumerate(work.right, 1):
            yield Show(chain(letter("v", i), unit))
        return
    place = 1
    for space in work.eigen.spaces:
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
            yield from _gram_schmidt(space.found, space.directions)
        for unit in work.right[place - 1 : place - 1 + count]:
            yield Show(chain(letter("v", place), unit))
            place += 1


def _gram_schmidt(found: tuple[Matrix, ...], directions: tuple[Matrix, ...]) -> Iterator[Part]:
    """Show how vectors of one eigenvalue are made orthogonal."""
    yield say("right.repeated", k=len(found))
    yield Show(
        Row(
            tuple(x for i, f in enumerate(found, 1) for x in (Mark(","), chain(letter("x", i), vector(f))))[
                1:
            ]
        )
    )
    if found == directions:
        yield say("right.orthogonal")
        return
    yield say("right.gramschmidt")
    done = [found[0]]  # the y as they are shown
    for i in range(1, len(found)):
        rest, terms = found[i], [letter("x", i + 1)]
        written: list[Formula] = list(terms)
        for j in range(i):
            y = done[j]
            share = tidy(dot(y, found[i]) * inverse(dot(y, y)))
            rest = tidied(rest - share * y)
            if share != 0:
                written += _minus(share, letter("y", j + 1))
        parts = [letter("y", i + 1), Row(tuple(written))] if len(written) > 1 else [letter("y", i + 1)]
        done.append(rest)
        scaled, factor = nice(rest)
        last = vector(rest) if factor == 1 else Row((number(factor), Op("·"), vector(scaled)))
        yield Show(chain(*parts, last))


def _minus(share: sympy.Expr, of: Formula) -> list[Formula]:
    """Return ``- share of``, or plus where the share is negative, without a 1."""
    size: Formula = number(-share) if share.could_extract_minus_sign() else number(share)
    sign = Op("+" if share.could_extract_minus_sign() else "-")
    return [sign, of] if size == number(1) else [sign, size, Op("·"), of]


def _left(work: Work) -> Iterator[Part]:
    yield say("left")
    for i, (v, u) in enumerate(zip(work.right, work.left[: work.rank], strict=False), 1):
        product = Row((W, letter("v", i)))
        if work.exact:
            image = vector(tidied(work.W * v.direction))
            over = Frac(number(1), number(sympy.sqrt(v.square)))
            yield Show(chain(product, image if v.square == 1 else Row((over, Op("·"), image))))
        line = chain(letter("u", i), Frac(product, letter("σ", i)), u)
        if line.items[-2] == Op("=") and not all(x.is_Rational for x in u.vector):
            line = Row((*line.items, Op("≈"), vector(decimals(u.vector))))
        yield Show(line)
    if work.completion:
        yield say("left.complete", k=len(work.completion), r=work.rank, m=work.W.rows)
    for place, step in enumerate(work.completion, work.rank):
        e = letter("e", step.axis + 1)
        terms: list[Formula] = [e]
        for j, u in enumerate(work.left[:place], 1):
            if not is_zero(u.direction[step.axis]):
                terms += [Op("-"), Paren(Row((letter("u", j), Op("·"), e))), letter("u", j)]
        if len(terms) > 1:
            yield Show(chain(Row(tuple(terms)), vector(step.rest)))
            yield Show(chain(letter("u", place + 1), step.unit))
        else:
            yield Show(chain(letter("u", place + 1), e, step.unit))


def _assembled(work: Work) -> Step:
    exact = work.exact
    parts: list[Part] = [Show(chain(U, work.U)), Show(chain(S, work.S)), Show(chain(VT, work.V.T))]
    if exact and any(in_decimals(M) for M in (work.U, work.S, work.V)):
        parts.append(say("assembled.decimals"))
    parts += [
        say("assembled.check"),
        Check(chain(Row((UT, U)), IDENTITY), work.is_orthonormal(work.left), exact),
        Check(chain(Row((VT, V)), IDENTITY), work.is_orthonormal(work.right), exact),
        Check(chain(Row((U, S, VT)), *([] if in_decimals(work.W) else [work.W]), W), work.is_whole(), exact),
    ]
    return Step("title.assembled", tuple(parts))


def _forms(work: Work) -> Step:
    m, n = work.W.shape
    r = work.rank
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
