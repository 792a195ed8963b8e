"""`eckart factor`: what it prints about the store that it fills."""

from __future__ import annotations

import pytest

import eckart
from support.fine_tune import LINEAR
from support.pairs import make_pair
from support.terminal import run


def test_the_summary_counts_tensors_and_factors(fine_tune, tmp_path):
    done = run("factor", *fine_tune.pair.paths, "-o", tmp_path / "store", "--max-rank", "9")
    assert done.code == 0
    assert done.out == f"{tmp_path / 'store'}: 5 tensors, 3 with factors up to rank 9\n"
    assert done.err == f"Next: eckart plan {tmp_path / 'store'} --energy 0.9\n"
    assert eckart.FactorStore.open(tmp_path / "store").record(LINEAR[0]).rank == 9


@pytest.mark.parametrize(
    ("shapes", "summary"),
    [
        ({"a.weight": (7, 5)}, "1 tensor, 1 with factors up to rank 5"),
        ({"a.bias": (7,)}, "1 tensor, 0 with factors up to rank 0"),
    ],
    ids=["matrix", "vector"],
)
def test_one_tensor_is_in_the_singular(tmp_path, shapes, summary):
    pair = make_pair(tmp_path, shapes=shapes)
    assert run("factor", *pair.paths, "-o", tmp_path / "store").out == f"{tmp_path / 'store'}: {summary}\n"
