"""Principal components of a small table of data, from the covariance and from the singular values."""

from __future__ import annotations

from dataclasses import dataclass

import sympy

from eckart.errors import MatrixError
from eckart.explain.decomposition import Decomposition, decompose
from eckart.explain.eigen import Eigen, eigen
from eckart.explain.exact import Matrix, Number, inverse, is_zero, tidied, tidy
from eckart.explain.formula import Formula, Frac, Op, Power, Row, Sym
from eckart.explain.notation import chain, decimal, is_long, letter, number, percent, vector
from eckart.explain.steps import Check, Explanation, Part, Show, Step, Table, Text, say
from eckart.explain.topics.common import matrix_step, polynomial_parts, total

X, CENTRED, C = Sym("X"), Sym("X", "c"), Sym("C")


@dataclass(frozen=True)
class PcaResults:
    """The results of the topic ``pca``, for data of shape (n, p).

    Attributes
    ----------
    mean : Matrix (1, p)
        The mean of each column.
    centred : Matrix (n, p)
        The data minus its mean.
    covariance : Matrix (p, p)
        The covariance, with the divisor n - 1.
    variances : list of Number
        The eigenvalues of the covariance with multiplicity, largest first.
    components : list of Matrix (p, 1)
        The principal components, by decreasing variance.
    sigma : list of Number
        The nonzero singular values of the centred data, largest first.
    exact : bool
        Whether the results are exact; otherwise they are decimals.
    """

    mean: Matrix
    centred: Matrix
    covariance: Matrix
    variances: list[Number]
    components: list[Matrix]
    sigma: list[Number]
    exact: bool


def explain_pca(data: Matrix) -> Explanation[PcaResults]:
    """Find the principal components of data with one sample per row and one variable per column.

    Notes
    -----
    The covariance divides by n - 1, as ``numpy.cov`` and scikit-learn do. Pearson, Phil. Mag. 2
    (1901), 559-572; Hotelling, J. Educ. Psychol. 24 (1933), 417-441.
    """
    n = data.rows
    if n < 2:
        raise MatrixError("pca", "one row of data has no variance", "Use at least two rows, one per sample")
    mean = tidied(sympy.ones(1, n) * data / n)
    centred = tidied(data - sympy.ones(n, 1) * mean)
    svd = decompose(centred)
    covariance = tidied(svd.eigen.matrix / (n - 1))
    components = eigen(covariance, svd.rank)
    steps = (
        matrix_step(data, X),
        _centred(mean, centred),
        _covariance(covariance),
        _components(components, svd),
        _explained(components),
        _by_svd(components, svd, n),
    )
    results = PcaResults(
        mean=mean,
        centred=centred,
        covariance=covariance,
        variances=components.values,
        components=[unit.vector for unit in svd.right],
        sigma=svd.sigma,
        exact=svd.exact,
    )
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


def _components(components: Eigen, svd: Decomposition) -> Step:
    parts: list[Part] = [say("components"), *polynomial_parts(components, C)]
    parts += [Show(chain(letter("v", i), unit)) for i, unit in enumerate(svd.right, 1)]
    for i, (value, unit) in enumerate(zip(components.values, svd.right, strict=True), 1):
        difference = tidied(components.matrix * unit.direction - value * unit.direction)
        equation = chain(Row((C, letter("v", i))), Row((letter("λ", i), letter("v", i))))
        parts.append(Check(equation, all(is_zero(x) for x in difference), components.exact))
    return Step("title.components", tuple(parts))


def _explained(components: Eigen) -> Step:
    whole = total(components.values)
    if is_zero(whole):
        return Step("title.explained", (say("explained.zero"),))
    rows, cumulative = [], sympy.Integer(0)
    over = inverse(whole)
    for i, value in enumerate(components.values, 1):
        cumulative = tidy(cumulative + value)
        shown = decimal(value) if is_long(value, 14) else number(value)
        rows.append((number(i), shown, percent(tidy(value * over)), percent(tidy(cumulative * over))))
    header: tuple[Text | Formula, ...] = (
        Sym("i"),
        letter("λ", "i"),
        Text("explained.share"),
        Text("explained.sum"),
    )
    return Step("title.explained", (say("explained"), Table(header, tuple(rows))))


def _by_svd(components: Eigen, svd: Decomposition, n: int) -> Step:
    parts: list[Part] = [say("by.svd")]
    for i, (value, square) in enumerate(zip(svd.sigma, svd.squares, strict=True), 1):
        variance = components.values[i - 1]
        ratio = Frac(Power(letter("σ", i), 2), Row((Sym("n"), Op("-"), number(1))))
        holds = is_zero(tidy(square / (n - 1)) - variance)
        parts += [
            Show(chain(letter("σ", i), value)),
            Check(chain(ratio, letter("λ", i), variance), holds, svd.exact),
        ]
    scores = tidied(svd.W * svd.V)
    parts += [say("by.scores"), Show(chain(Row((CENTRED, Sym("V"))), Row((Sym("U"), Sym("Σ"))), scores))]
    parts.append(
        Check(chain(Row((Sym("U"), Sym("Σ"), Sym("V", "", "T"))), CENTRED), svd.is_complete(), svd.exact)
    )
    return Step("title.by.svd", tuple(parts))
