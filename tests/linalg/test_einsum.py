"""The ten operations compared with NumPy without einsum, and costs of contractions counted by hand."""

import re
import sys

import numpy as np
import pytest

from eckart.errors import MatrixError, MissingExtraError, UsageError
from eckart.extras import requirement
from eckart.linalg import OPERATIONS, contraction, contraction_table, eckart_young, einsum_table
from support.matrices import with_values

SIZES = {"b": 2, "h": 3, "i": 4, "j": 5, "k": 6}


@pytest.mark.parametrize("op", OPERATIONS, ids=lambda op: op.name)
def test_einsum_equals_the_numpy_expression(op):
    random = np.random.default_rng(0)
    arrays = [random.standard_normal(shape) for shape in op.shapes(SIZES)]
    names = dict(zip(_letters(op), arrays, strict=True))
    assert op(*arrays) == pytest.approx(op.direct(*arrays), abs=1e-13)
    # The text in the table computes the same as the function.
    assert op(*arrays) == pytest.approx(eval(op.numpy, {"np": np, **names}), abs=1e-13)


def _letters(op):
    """Return the names of the operands on the right side of the formula."""
    return re.findall(r"\b([a-zA-Z])_", op.formula.split("=")[1])


def test_table_lists_ten_operations():
    assert len(OPERATIONS) == 10
    table = einsum_table(SIZES)
    assert len(table.splitlines()) == 11
    for op in OPERATIONS:
        assert op.einsum in table and op.name in table


@pytest.mark.parametrize(
    ("expression", "shapes", "flops", "naive", "largest"),
    [
        # Counted on paper: one multiplication and one addition for each combination of the indices.
        ("ik,kj->ij", ((4, 6), (6, 5)), 2 * 4 * 6 * 5, 2 * 4 * 6 * 5, 20),
        ("i,j->ij", ((4,), (5,)), 20, 20, 20),
        ("ij->ji", ((4, 5),), 0, 0, 20),
        ("ii->", ((4, 4),), 4, 4, 1),
        (
            "ij,jk,kl->il",
            ((100, 50), (50, 200), (200, 100)),
            2 * 50 * 200 * 100 + 2 * 100 * 50 * 100,
            3 * 100 * 50 * 200 * 100,
            10000,
        ),
    ],
)
def test_flops_counted_by_hand(expression, shapes, flops, naive, largest):
    plan = contraction(expression, *shapes)
    assert (plan.flops, plan.naive_flops, plan.largest_intermediate) == (flops, naive, largest)


def test_path_is_optimal_and_numpy_accepts_it():
    random = np.random.default_rng(1)
    shapes = [(30, 2), (2, 40), (40, 3), (3, 20)]
    arrays = [random.standard_normal(s) for s in shapes]
    plan = contraction("ij,jk,kl,lm->im", *shapes)
    # The textbook algorithm for a matrix chain: cost[i, j] is the least over all splits.
    sizes = [30, 2, 40, 3, 20]
    cost = {(i, i): 0 for i in range(4)}
    for length in range(1, 4):
        for i in range(4 - length):
            j = i + length
            cost[i, j] = min(
                cost[i, k] + cost[k + 1, j] + 2 * sizes[i] * sizes[k + 1] * sizes[j + 1] for k in range(i, j)
            )
    assert plan.flops == cost[0, 3]
    assert plan.speedup > 100
    result = np.einsum("ij,jk,kl,lm->im", *arrays, optimize=["einsum_path", *plan.path])
    assert result == pytest.approx(np.linalg.multi_dot(arrays), abs=1e-10)
    # The steps, carried out one after another, give the contraction.
    operands = list(arrays)
    for pair, step in zip(plan.path, plan.steps, strict=True):
        taken = [operands[i] for i in sorted(pair)]
        operands = [a for i, a in enumerate(operands) if i not in pair] + [np.einsum(step, *taken)]
    assert operands[0] == pytest.approx(result, abs=1e-10)
    assert f"flops {plan.flops:,}" in contraction_table(plan)


def test_invalid_contractions_are_refused(monkeypatch):
    with pytest.raises(UsageError, match="do not fit"):
        contraction("ij,jk->ik", (2, 3), (4, 5))
    with pytest.raises(UsageError, match="do not fit"):
        contraction("ij,jk->ik", (2, 3))
    for shape in ((2.5, 3), (-2, 3), (True, 3), ("2", 3)):
        with pytest.raises(UsageError, match="whole numbers"):
            contraction("ij->ji", shape)
    monkeypatch.setitem(sys.modules, "opt_einsum", None)
    with pytest.raises(MissingExtraError, match=re.escape(f"Run: pip install {requirement('einsum')}")):
        contraction("i->", (2,))


@pytest.mark.parametrize("rank", [1, 3, 7])
def test_eckart_young_in_both_norms(rank):
    sigma = np.array([9.0, 5.0, 4.0, 2.0, 1.0, 0.5, 0.25])
    result = eckart_young(with_values(sigma, 12, 7), rank)
    assert result.frobenius == pytest.approx(np.sqrt((sigma[rank:] ** 2).sum()), rel=1e-12, abs=1e-13)
    assert result.spectral == pytest.approx(sigma[rank] if rank < 7 else 0.0, rel=1e-12, abs=1e-13)
    assert result.frobenius_predicted == pytest.approx(result.frobenius, rel=1e-12, abs=1e-13)
    assert result.spectral_predicted == pytest.approx(result.spectral, rel=1e-12, abs=1e-13)
    if rank < 7:
        assert result.best_competitor > 1
    else:
        assert result.best_competitor == 1


def test_eckart_young_refuses_invalid_arguments():
    with pytest.raises(UsageError, match="from 1 to 3"):
        eckart_young(np.eye(3), 4)
    with pytest.raises(UsageError, match="tries=0"):
        eckart_young(np.eye(3), 1, tries=0)
    with pytest.raises(MatrixError, match=r"eckart_young\(A, rank\).*range"):
        eckart_young(np.eye(3) * 1e200, 1)
