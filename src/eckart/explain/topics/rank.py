"""The rank of a matrix three ways, and what it is good for: W = C F."""

from __future__ import annotations

from eckart.explain.elimination import Elimination, Move, determinant, rank_factors, vanishing_minors
from eckart.explain.exact import Matrix, same, tidied
from eckart.explain.formula import Formula, Op, Row, Sym
from eckart.explain.notation import alone, chain, grid, in_decimals, letter, number
from eckart.explain.steps import Check, Explanation, Part, Show, Step, say
from eckart.explain.topics.common import WT, W, matrix_step, polynomial_parts
from eckart.explain.work import Work, work_out


def explain_rank(matrix: Matrix) -> Explanation:
    """Find the rank by elimination, by minors and by singular values, then factor W = C F with it."""
    work = work_out(matrix)
    C, F = rank_factors(matrix)
    steps = [matrix_step(matrix), _elimination(work.elimination), _minors(work), _values(work)]
    if work.rank == min(matrix.shape):
        steps.append(Step("title.factors", (say("factors.full"),)))
    elif work.rank:
        steps.append(_factors(matrix, C, F))
    steps.append(Step("title.agree", (say("agree", r=work.rank),)))
    results = {"rank": work.rank, "echelon": work.elimination.echelon, "C": C, "F": F, "sigma": work.sigma}
    return Explanation("rank", tuple(steps), results)


def _elimination(done: Elimination) -> Step:
    parts: list[Part] = [say("elimination")]
    if not done.stages:
        parts.append(say("elimination.already"))
    for stage in done.stages:
        parts += [Show(_operation(move)) for move in stage.moves]
        parts.append(Show(alone(stage.after)))
    parts.append(say("elimination.count", r=done.rank))
    return Step("title.elimination", tuple(parts))


def _operation(move: Move) -> Formula:
    this, source = letter("R", move.row + 1), letter("R", move.source + 1)
    if move.factor is None:
        return Row((this, Op("↔"), source))
    negative = move.factor.could_extract_minus_sign()
    size = -move.factor if negative else move.factor
    scaled = (source,) if size == 1 else (number(size), Op("·"), source)
    return Row((this, Op("←"), this, Op("+" if negative else "-"), *scaled))


def _minors(work: Work) -> Step:
    M, r = work.W, work.rank
    parts: list[Part] = [say("minors")]
    if r:
        rows, columns = sorted(work.elimination.rows), list(work.elimination.columns)
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


def _values(work: Work) -> Step:
    parts: list[Part] = [say("values"), Show(chain(Row((WT, W)), work.eigen.matrix))]
    parts += polynomial_parts(work.eigen, Row((WT, W)))
    parts += [Show(chain(letter("σ", i), value)) for i, value in enumerate(work.sigma, 1)]
    parts.append(say("sigma.rank", r=work.rank))
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
