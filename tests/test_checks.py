"""The argument checks accept Python's and NumPy's numbers, and nothing that merely behaves like one."""

import numpy as np
import pytest

from eckart.checks import check_whole_number, is_number, is_whole_number
from eckart.errors import UsageError

WHOLE = [0, 3, np.int64(3), np.uint8(3), 10**30]
FRACTIONS = [0.5, 3.0, np.float32(3.0), np.float64(0.5)]
NOT_FINITE = [float("nan"), float("inf"), -np.inf, np.float32("nan"), np.float32("inf")]
NOT_NUMBERS = [True, False, np.True_, None, "3", b"3", 3j, [3], np.array(3), np.array([3])]


@pytest.mark.parametrize("value", WHOLE + FRACTIONS)
def test_finite_real_numbers_are_numbers(value):
    assert is_number(value) is True


@pytest.mark.parametrize("value", NOT_FINITE + NOT_NUMBERS, ids=repr)
def test_other_values_are_not_numbers(value):
    assert is_number(value) is False


def test_integers_beyond_float64_are_not_numbers():
    assert is_number(10**308) is True
    assert is_number(10**309) is False and is_number(-(10**309)) is False


@pytest.mark.parametrize("value", WHOLE)
def test_integers_are_whole_numbers_and_become_python_ints(value):
    assert is_whole_number(value) is True
    checked = check_whole_number(value, "rank=...")
    assert checked == value and type(checked) is int


@pytest.mark.parametrize("value", FRACTIONS + NOT_FINITE + NOT_NUMBERS, ids=repr)
def test_other_values_are_not_whole_numbers(value):
    assert is_whole_number(value) is False
    with pytest.raises(UsageError, match="expected a whole number of at least 0"):
        check_whole_number(value, "rank=...")


@pytest.mark.parametrize("value, inside", [(1, False), (2, True), (5, True), (6, False), (-3, False)])
def test_both_bounds_are_included(value, inside):
    assert is_whole_number(value, 2, 5) is inside
    if not inside:
        with pytest.raises(UsageError, match=f"rank={value}.*expected a whole number from 2 to 5"):
            check_whole_number(value, f"rank={value}", 2, 5)
