"""The pseudo-inverse from the singular value decomposition, and the four conditions that define it."""

from __future__ import annotations

from dataclasses import dataclass

import sympy

from eckart.explain.decomposition import Decomposition, decompose
from eckart.explain.elimination import inverse_matrix, rank_factors
from eckart.explain.exact import DIGITS, Matrix, Number, inverse, is_surd, same, tidied, tidy
from eckart.explain.formula import Formula, Frac, Num, Op, Paren, Row, Sym
from eckart.explain.notation import chain, letter
from eckart.explain.steps import Check, Explanation, Part, Show, Step, say
from eckart.explain.topics.common import WT, W, joined, matrix_step, summary_step

P = Sym("W", "", "+")


@dataclass(frozen=True)
class PinvResults:
    """The results of the topic ``pinv``, for a matrix W of shape (m, n).

    Attributes
    ----------
    pinv : Matrix (n, m)
        The pseudo-inverse, always exact.
    sigma : list of Number
        The nonzero singular values, largest first.
    rank : int
        The rank of W.
    exact : bool
        Whether the singular values are exact; otherwise they are decimals.
    """

    pinv: Matrix
    sigma: list[Number]
    rank: int
    exact: bool


def explain_pinv(matrix: Matrix) -> Explanation[PinvResults]:
    """Compute W^+ = V Sigma^+ U^T and check the four conditions of Penrose.

    Notes
    -----
    Penrose, Proc. Cambridge Phil. Soc. 51 (1955), 406-413. The conditions are checked on the exact
    pseudo-inverse from W = C F, which contains no square roots besides those of W. The one computed from the
    singular values, which may be decimals, is compared with it.
    """
    svd = decompose(matrix)
    exact = exact_pinv(matrix)
    steps = (
        matrix_step(matrix),
        summary_step(svd),
        _built(svd, exact),
        _conditions(matrix, exact),
        _size(svd),
    )
    results = PinvResults(pinv=exact, sigma=svd.sigma, rank=svd.rank, exact=svd.exact)
    return Explanation("pinv", steps, results)


def exact_pinv(matrix: Matrix) -> Matrix:
    """Return F^T (F F^T)^-1 (C^T C)^-1 C^T for W = C F; it is exact for every matrix."""
    C, F = rank_factors(matrix)
    if not C.cols:
        return sympy.zeros(*matrix.T.shape)
    right = tidied(F.T * inverse_matrix(tidied(F * F.T)))
    return tidied(right * tidied(inverse_matrix(tidied(C.T * C)) * C.T))


def _built(svd: Decomposition, exact: Matrix) -> Step:
    inverted = sympy.zeros(*svd.W.T.shape)
    for i, value in enumerate(svd.sigma):
        inverted[i, i] = 1 / value
    names: list[Formula] = [
        Row((Frac(Num("1"), letter("σ", i)), Op("·"), letter("v", i), letter("u", i, "T")))
        for i in range(1, svd.rank + 1)
    ]
    parts: list[Part] = [say("pinv"), Show(chain(Sym("Σ", "", "+"), inverted))]
    written = chain(
        P, Row((Sym("V"), Sym("Σ", "", "+"), Sym("U", "", "T"))), *([joined("+", names)] if names else [])
    )
    parts.append(Show(written))
    for i, name in enumerate(names):
        piece = tidied(svd.piece(i).T * inverse(svd.squares[i]))
        parts.append(Show(chain(name, piece)))
    holds = same(svd.pseudo_inverse(), exact)
    parts += [say("pinv.sum"), Check(chain(P, exact), holds, svd.exact)]
    if svd.rank == svd.W.cols:
        parts += _normal_equations(svd.W, exact)
    return Step("title.pinv", tuple(parts))


def _normal_equations(matrix: Matrix, exact: Matrix) -> list[Part]:
    product = tidied(inverse_matrix(tidied(matrix.T * matrix)) * matrix.T)
    written = Row((Paren(Row((WT, W))), Sym("", "", "-1"), WT))
    return [say("pinv.normal"), Check(chain(P, written), same(product, exact), True)]


def _conditions(M: Matrix, X: Matrix) -> Step:
    left, right = tidied(M * X), tidied(X * M)
    WP, PW = Row((W, P)), Row((P, W))
    return Step(
        "title.conditions",
        (
            say("conditions"),
            Show(chain(WP, left)),
            Show(chain(PW, right)),
            Check(chain(Row((W, P, W)), W), same(tidied(left * M), M), True),
            Check(chain(Row((P, W, P)), P), same(tidied(right * X), X), True),
            Check(chain(Row((Paren(WP), Sym("", "", "T"))), WP), same(left.T, left), True),
            Check(chain(Row((Paren(PW), Sym("", "", "T"))), PW), same(right.T, right), True),
            say("conditions.use"),
        ),
    )


def _size(svd: Decomposition) -> Step:
    if not svd.rank:
        return Step("title.condition", (say("condition.zero"),))
    first, last = svd.sigma[0], svd.sigma[-1]
    ratio = Frac(letter("σ", 1), letter("σ", svd.rank))
    simple = all(is_surd(value) for value in svd.sigma)
    value = tidy(first * inverse(last)) if simple else sympy.N(first / last, DIGITS)
    return Step("title.condition", (say("condition"), Show(chain(Sym("κ"), ratio, value))))
