"""Factors that are not smaller than their matrices are reported, with their number and size."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

import eckart
from eckart.rank.dense import Factored, notes_on_dense
from support.pairs import make_pair
from support.terminal import run

SHAPES = {"layers.0.q_proj.weight": (12, 10), "layers.1.q_proj.weight": (30, 8)}
FULL = "The factors of 2 modules (layers.0.q_proj, layers.1.q_proj) are not smaller than the dense update: "
# 10 (12 + 10) + 8 (30 + 8) entries in place of 12 x 10 + 30 x 8, in float32
NOTE = FULL + "524 parameters (2.1 kB) instead of 360 (1.4 kB)"


@given(
    st.lists(st.tuples(st.integers(0, 20), st.integers(1, 30), st.integers(1, 30)), max_size=5),
    st.sampled_from([1, 2, 4]),
)
def test_a_matrix_counts_from_the_rank_at_which_its_factors_are_as_large(rows, size):
    matrices = [Factored(f"m{i}", rank, (m, n)) for i, (rank, m, n) in enumerate(rows)]
    large = [(r * m + r * n, m * n) for r, m, n in rows if r and r * m + r * n >= m * n]
    notes = notes_on_dense(matrices, size)
    assert len(notes) == bool(large)
    for note in notes:
        factors, dense = (sum(numbers) for numbers in zip(*large, strict=True))
        assert f"{len(large)} module" in note
        assert f": {factors:,} parameters (" in note and f" instead of {dense:,} (" in note


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dense")
    pair = make_pair(folder, shapes=SHAPES)
    eckart.factor(*pair.paths, folder / "store")
    eckart.extract(*pair.paths, folder / "full", rank=100_000)
    eckart.extract(*pair.paths, folder / "small", rank=2)
    return folder


def commands(work):
    """Return a call of every command that chooses or writes ranks; each of them keeps all components."""
    pair = [work / "base.safetensors", work / "tuned.safetensors"]
    return {
        "extract": ["extract", *pair, "--rank", 100_000],
        "resize": ["resize", work / "full", "--rank", 100_000],
        "combine": ["combine", work / "full"],
        "convert": ["convert", work / "full", "--to", "peft"],
    }


@pytest.mark.parametrize("name", ["extract", "resize", "combine", "convert"])
def test_every_command_that_writes_such_factors_says_so_once(work, tmp_path, name):
    argv = commands(work)[name]
    done = run(*argv, "-o", tmp_path / "out")
    assert done.code == 0
    assert done.err.count(f"note: {NOTE}\n") == 1
    assert "not smaller" not in done.out
    document = json.loads(run(*argv, "-o", tmp_path / "again", "--json").out)
    assert [note for note in document["notes"] if "not smaller" in note] == [NOTE]


def test_a_plan_says_so_on_stderr(work):
    done = run("plan", work / "store", "--rank", 100_000)
    assert done.code == 0
    note = NOTE.replace("modules", "tensors").replace("q_proj", "q_proj.weight")
    assert done.err.count(f"note: {note}\n") == 1
    assert "not smaller" not in done.out
    assert "not smaller" not in run("plan", work / "store", "--rank", 100_000, "--quiet").err


def test_python_results_hold_the_note(work, tmp_path):
    pair = work / "base.safetensors", work / "tuned.safetensors"
    assert NOTE in eckart.extract(*pair, tmp_path / "a", rank=100_000).notes
    assert NOTE in eckart.resize(work / "full", tmp_path / "b", rank=100_000).notes
    assert NOTE in eckart.combine([work / "full"], tmp_path / "c").notes


def test_smaller_factors_are_not_reported(work, tmp_path):
    argv = ["resize", work / "small", "-o", tmp_path / "out", "--rank", 2]
    assert "not smaller" not in run(*argv).err
    assert "not smaller" not in run("plan", work / "store", "--rank", 2).err
