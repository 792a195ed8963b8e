"""Invalid input is refused with the right error class, and a message that names the call and the fault."""

import numpy as np
import pytest

import eckart
from eckart import LowRank
from eckart.errors import EckartError, MatrixError, UsageError
from eckart.linalg import Goal

I3 = np.eye(3)
NAN = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, np.nan]])
INF = np.array([[1.0, -np.inf]], np.float32)

MATRICES = [
    ("a NaN", NAN, ["1 of 6", "[1, 2]"]),
    ("an infinity", INF, ["1 of 2", "[0, 1]"]),
    ("both", np.array([[np.nan, np.inf]]), ["2 of 2", "[0, 0]"]),
    ("complex", I3 * 1j, ["complex", "A.real"]),
    ("no rows", np.ones((0, 3)), ["(0, 3)"]),
    ("no columns", np.ones((3, 0)), ["(3, 0)"]),
    ("a vector", np.ones(3), ["matrix", "(3,)"]),
    ("a number", 3.0, ["matrix", "()"]),
    ("a stack", np.ones((2, 3, 4)), ["matrix", "(2, 3, 4)"]),
    ("strings", np.array([["a", "b"]]), ["numbers", "<U1"]),
    ("objects", np.array([[object(), 1]]), ["numbers", "object"]),
    ("dates", np.array([["2020-01-01"]], "datetime64[D]"), ["numbers", "datetime64"]),
    ("a ragged list", [[1.0, 2.0], [3.0]], ["matrix"]),
]


@pytest.mark.parametrize("call", [eckart.svd, eckart.spectrum])
@pytest.mark.parametrize(("A", "parts"), [m[1:] for m in MATRICES], ids=[m[0] for m in MATRICES])
def test_invalid_matrices_are_refused(call, A, parts):
    with pytest.raises(MatrixError) as caught:
        call(A)
    text = str(caught.value)
    assert text.startswith(f"`eckart.{call.__name__}(A)`: ")
    for part in parts:
        assert part in text


USAGES = [
    ({"rank": 0}, ["rank=0", "at least 1"]),
    ({"rank": -2}, ["rank=-2", "at least 1"]),
    ({"rank": 4}, ["rank=4", "3 x 3", "at most 3"]),
    ({"rank": 1.5}, ["rank=1.5", "whole number"]),
    ({"rank": True}, ["rank=True"]),
    ({"rank": np.True_}, ["rank="]),
    ({"rank": "2"}, ["rank='2'"]),
    ({"rank": np.nan}, ["rank=nan", "finite"]),
    ({"energy": 0.0}, ["energy=0.0", "above 0"]),
    ({"energy": 1.0001}, ["energy=1.0001", "at most 1"]),
    ({"energy": 90}, ["energy=90", "Use energy=0.9 for 90 %"]),
    ({"energy": -0.1}, ["energy=-0.1"]),
    ({"energy": np.nan}, ["energy=nan"]),
    ({"energy": True}, ["energy=True"]),
    ({"energy": "0.9"}, ["energy='0.9'"]),
    ({"error": 1.0}, ["error=1.0", "below 1"]),
    ({"error": -0.1}, ["error=-0.1"]),
    ({"error": np.inf}, ["error=inf", "finite"]),
    ({"rank": 2, "energy": 0.9}, ["eckart.svd", "rank and energy"]),
    ({"energy": 0.9, "error": 0.1}, ["eckart.svd", "energy and error"]),
    ({"rank": 2, "energy": 0.9, "error": 0.1}, ["rank and energy and error"]),
    ({"method": "fast"}, ["method='fast'", "krylov"]),
    ({"seed": -1}, ["seed=-1"]),
]


@pytest.mark.parametrize(("arguments", "parts"), USAGES, ids=[str(u[0]) for u in USAGES])
def test_invalid_goals_are_refused(arguments, parts):
    with pytest.raises(UsageError) as caught:
        eckart.svd(I3, **arguments)
    for part in parts:
        assert part in str(caught.value)


@pytest.mark.parametrize("method", ["fast", "krylov"])
def test_spectrum_refuses_unknown_methods(method):
    with pytest.raises(UsageError, match=f"method='{method}'"):
        eckart.spectrum(I3, method=method)


@pytest.mark.parametrize(
    ("kind", "value"), [("ratio", 0.5), ("ratio", np.inf), ("above", -1.0), ("above", np.nan)]
)
def test_invalid_thresholds_are_refused(kind, value):
    with pytest.raises(UsageError, match=f"{kind}="):
        Goal(kind, value)


F = LowRank.from_product(np.ones((3, 1)), np.ones((1, 4)))

OPERATIONS = [
    ("shapes that do not chain", lambda: F @ np.ones(3), UsageError, ["(3, 4)", "(3,)"]),
    ("a row vector that does not chain", lambda: np.ones((2, 4)) @ F, UsageError, ["(2, 4)", "(3, 4)"]),
    ("two factorisations that do not chain", lambda: F @ F, UsageError, ["(3, 4)"]),
    ("a sum of two shapes", lambda: F + F.T, UsageError, ["(3, 4)", "(4, 3)"]),
    ("a difference of two shapes", lambda: F - F.T, UsageError, ["(3, 4)", "(4, 3)"]),
    ("times a matrix", lambda: F * np.ones((3, 4)), UsageError, ["LowRank * x", "Use @"]),
    ("an unknown norm", lambda: F.norm(1), UsageError, ["norm(1)", "nuc"]),
    ("two goals", lambda: F.truncate(rank=1, energy=0.5), UsageError, ["LowRank.truncate"]),
    ("rank 0", lambda: F.truncate(0), UsageError, ["rank=0"]),
    (
        "a product that does not chain",
        lambda: LowRank.from_product(I3, np.ones((2, 3))),
        MatrixError,
        ["(3, 3)", "(2, 3)"],
    ),
    ("a NaN in a factor", lambda: LowRank.from_product(NAN, I3), MatrixError, ["from_product", "NaN"]),
    ("a vector for a factor", lambda: LowRank.from_product(np.ones(3), I3), MatrixError, ["(3,)"]),
]


@pytest.mark.parametrize(
    ("make", "error", "parts"), [o[1:] for o in OPERATIONS], ids=[o[0] for o in OPERATIONS]
)
def test_invalid_operations_are_refused(make, error, parts):
    with pytest.raises(error) as caught:
        make()
    for part in parts:
        assert part in str(caught.value)


def test_adding_another_type_is_a_type_error():
    with pytest.raises(TypeError):
        _ = F + 1.0
    assert issubclass(MatrixError, EckartError) and issubclass(UsageError, EckartError)


@pytest.mark.parametrize("scale", [1e200, 1e-200])
def test_squares_out_of_range_are_refused(scale):
    """An energy out of float64's range would be reported as 0 or infinity."""
    for call in (eckart.svd, eckart.spectrum):
        with pytest.raises(MatrixError, match=r"out of float64's range.*Divide the matrix by"):
            call(np.diag([3.0, 2.0, 1.0]) * scale)
