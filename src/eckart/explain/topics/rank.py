"""The rank of a matrix, found in three ways, and the rank factorisation W = C F."""

from __future__ import annotations

from dataclasses import dataclass

from eckart.explain.decomposition import Decomposition, decompose
from eckart.explain.elimination import Elimination, Move, determinant, rank_factors, vanishing_minors
from eckart.explain.exact import Matrix, Number, same, tidied
from eckart.explain.formula import Formula, Op, Row, Sym
from eckart.explain.notation import alone, chain, grid, in_decimals, letter, number
from eckart.explain.steps import Check, Explanation, Part, Show, Step, say
from eckart.explain.topics.common import WT, W, matrix_step, polynomial_parts


@dataclass(frozen=True)
class RankResults:
    """The results of the topic ``rank``, for a matrix W of shape (m, n) and rank r.

    Attributes
    ----------
    rank : int
        The rank.
    echelon : Matrix (m, n)
        The echelon form of W.
    C : Matrix (m, r)
        The columns of W with a pivot.
    F : Matrix (r, n)
        The nonzero rows of the reduced echelon form; W = C F.
    sigma : list of Number
        The nonzero singular values, largest first.
    """

    rank: int
    echelon: Matrix
    C: Matrix
    F: Matrix
    sigma: list[Number]


def explain_rank(matrix: Matrix) -> Explanation[RankResults]:
    """Find the rank by elimination, by minors and by singular values, then factor W = C F."""
    svd = decompose(matrix)
    C, F = rank_factors(matrix)
    steps = [matrix_step(matrix), _elimination(svd.elimination), _minors(svd), _values(svd)]
    if svd.rank == min(matrix.shape):
        steps.append(Step("title.factors", (say("factors.full"),)))
    elif svd.rank:
        steps.append(_factors(matrix, C, F))
    steps.append(Step("title.agree", (say("agree", r=svd.rank),)))
    results = RankResults(rank=svd.rank, echelon=svd.elimination.echelon, C=C, F=F, sigma=svd.sigma)
    return Explanation("rank", tuple(steps), results)


def _elimination(elimination: Elimination) -> Step:
    parts: list[Part] = [say("elimination")]
    if not elimination.stages:
        parts.append(say("elimination.already"))
    for stage in elimination.stages:
        parts += [Show(_operation(move)) for move in stage.moves]
        parts.append(Show(alone(stage.after)))
    parts.append(say("elimination.count", r=elimination.rank))
    return Step("title.elimination", tuple(parts))


def _operation(move: Move) -> Formula:
    target, source = letter("R", move.row + 1), letter("R", move.source + 1)
    if move.factor is None:
        return Row((target, Op("↔"), source))
    negative = move.factor.could_extract_minus_sign()
    size = -move.factor if negative else move.factor
    scaled = (source,) if size == 1 else (number(size), Op("·"), source)
    return Row((target, Op("←"), target, Op("+" if negative else "-"), *scaled))


def _minors(svd: Decomposition) -> Step:
    M, r = svd.W, svd.rank
    parts: list[Part] = [say("minors")]
    if r:
        rows, columns = sorted(svd.elimination.rows), list(svd.elimination.columns)
        block = M.extract(rows, columns)
        parts.append(say("minors.found", r=r, rows=_list(rows), columns=_list(columns)))
        parts.append(Show(chain(grid(block, "||"), determinant(block))))
    if r == min(M.shape):
        parts.append(say("minors.none", k=r + 1))
    else:
        count = vanishing_minors(M, r + 1)
        if count is None:
            raise AssertionError("a minor above the rank is not zero")
        parts.append(say("minors.zero", k=r + 1, count=count))
    return Step("title.minors", tuple(parts))


def _list(places: list[int]) -> Formula:
    return Row(tuple(x for i in places for x in (Sym(", "), number(i + 1)))[1:])


def _values(svd: Decomposition) -> Step:
    parts: list[Part] = [say("values"), Show(chain(Row((WT, W)), svd.eigen.matrix))]
    parts += polynomial_parts(svd.eigen, Row((WT, W)))
    parts += [Show(chain(letter("σ", i), value)) for i, value in enumerate(svd.sigma, 1)]
    parts.append(say("sigma.rank", r=svd.rank))
    return Step("title.values", tuple(parts))


def _factors(matrix: Matrix, C: Matrix, F: Matrix) -> Step:
    m, n = matrix.shape
    r = C.cols
    product = [] if in_decimals(C) or in_decimals(F) else [Row((grid(C), grid(F)))]
    return Step(
        "title.factors",
        (
            say("factors"),
            Show(chain(Sym("C"), C)),
            Show(chain(Sym("F"), F)),
            Check(chain(Row((Sym("C"), Sym("F"))), *product, W), same(tidied(C * F), matrix), True),
            say("factors.count", stored=r * (m + n), dense=m * n),
        ),
    )
