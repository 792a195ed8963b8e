"""Damaged and hostile adapters: a quarter of the cases of the fuzzer."""

from __future__ import annotations

from fuzz.family import assert_no_fault


def test_damaged_adapters_get_one_line_within_the_limits():
    assert_no_fault("adapters")
