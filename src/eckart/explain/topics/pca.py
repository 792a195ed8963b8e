"""Principal components of a small table of data, by the covariance and again by the singular values."""

from __future__ import annotations

from typing import Any

import sympy

from eckart.errors import MatrixError
from eckart.explain.eigen import Eigen, eigen
from eckart.explain.exact import Matrix, inverse, is_zero, tidied, tidy
from eckart.explain.formula import Formula, Frac, Op, Power, Row, Sym
from eckart.explain.notation import chain, decimal, is_long, letter, number, percent, vector
from eckart.explain.steps import Check, Explanation, Part, Show, Step, Table, Text, say
from eckart.explain.topics.common import matrix_step, polynomial_parts, total
from eckart.explain.work import Work, work_out

X, CENTRED, C = Sym("X"), Sym("X", "c"), Sym("C")


def explain_pca(data: Matrix) -> Explanation:
    """Work out the principal components of data, a row a sample and a column a variable.

    Notes
    -----
    The covariance divides by n - 1, as ``numpy.cov`` and scikit-learn do. Pearson, Phil. Mag. 2
    (1901), 559-572; Hotelling, J. Educ. Psychol. 24 (1933), 417-441.
    """
    n = data.rows
    if n < 2:
        raise MatrixError("pca", "one row of data has no variance", "Give at least two rows, one a sample")
    mean = tidied(sympy.ones(1, n) * data / n)
    centred = tidied(data - sympy.ones(n, 1) * mean)
    work = work_out(centred)
    covariance = tidied(work.eigen.matrix / (n - 1))
    found = eigen(covariance, work.rank)
    steps = (
        matrix_step(data, X), _centred(mean, centred), _covariance(covariance), _eigen(found, work, n),
        _explained(found), _by_svd(found, work, n),
    )  # fmt: skip
    results: dict[str, Any] = {
        "mean": mean, "centred": centred, "covariance": covariance, "variances": found.values,
        "components": [unit.vector for unit in work.right], "sigma": work.sigma, "exact": work.exact,
    }  # fmt: skip
    return Explanation("pca", steps, results)


def _centred(mean: Matrix, centred: Matrix) -> Step:
    sums = tidied(sympy.ones(1, centred.rows) * centred)
    return Step(
        "title.centred",
        (
            say("mean"),
            Show(chain(Sym("μ"), vector(mean))),
            Show(chain(CENTRED, centred)),
            say("mean.zero"),
            Check(chain(Row((Sym("1", "", "T"), CENTRED)), 0), sums.is_zero_matrix, True),
        ),
    )


def _covariance(covariance: Matrix) -> Step:
    written = Row(
        (Frac(number(1), Row((Sym("n"), Op("-"), number(1)))), Op("·"), Sym("X", "c", "T"), CENTRED)
    )
    return Step("title.covariance", (say("covariance"), Show(chain(C, written, covariance))))


def _eigen(found: Eigen, work: Work, n: int) -> Step:
    parts: list[Part] = [say("components"), *polynomial_parts(found, C)]
    parts += [Show(chain(letter("v", i), unit)) for i, unit in enumerate(work.right, 1)]
    for i, (value, unit) in enumerate(zip(found.values, work.right, strict=True), 1):
        holds = all(is_zero(x) for x in tidied(found.matrix * unit.direction - value * unit.direction))
        parts.append(
            Check(chain(Row((C, letter("v", i))), Row((letter("λ", i), letter("v", i)))), holds, found.exact)
        )
    return Step("title.components", tuple(parts))


def _explained(found: Eigen) -> Step:
    whole = total(found.values)
    if is_zero(whole):
        return Step("title.explained", (say("explained.zero"),))
    rows, so_far = [], sympy.Integer(0)
    for i, value in enumerate(found.values, 1):
        so_far = tidy(so_far + value)
        over = inverse(whole)
        shown = decimal(value) if is_long(value, 14) else number(value)
        rows.append((number(i), shown, percent(tidy(value * over)), percent(tidy(so_far * over))))
    header: tuple[Text | Formula, ...] = (
        Sym("i"),
        letter("λ", "i"),
        Text("explained.share"),
        Text("explained.sum"),
    )
    return Step("title.explained", (say("explained"), Table(header, tuple(rows))))


def _by_svd(found: Eigen, work: Work, n: int) -> Step:
    parts: list[Part] = [say("by.svd")]
    for i, (value, square) in enumerate(zip(work.sigma, work.squares, strict=True), 1):
        same_value = is_zero(tidy(square / (n - 1)) - found.values[i - 1])
        ratio = Frac(Power(letter("σ", i), 2), Row((Sym("n"), Op("-"), number(1))))
        parts += [
            Show(chain(letter("σ", i), value)),
            Check(chain(ratio, letter("λ", i), found.values[i - 1]), same_value, work.exact),
        ]
    scores = tidied(work.W * work.V)
    parts += [say("by.scores"), Show(chain(Row((CENTRED, Sym("V"))), Row((Sym("U"), Sym("Σ"))), scores))]
    parts.append(
        Check(chain(Row((Sym("U"), Sym("Σ"), Sym("V", "", "T"))), CENTRED), work.is_whole(), work.exact)
    )
    return Step("title.by.svd", tuple(parts))
