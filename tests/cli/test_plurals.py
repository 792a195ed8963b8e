"""Counts in the output of commands: "1 module", never "1 modules"."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import eckart
from support.pairs import Synthetic, make_pair
from support.terminal import run

SHAPES = {"model.layers.0.q_proj.weight": (12, 10)}  # whose rank-1 factors have 22 parameters
WRONG = re.compile(
    r"\b1 (modules|tensors|matrices|layers|adapters|parameters|problems|programs|components|bytes|values)\b"
)

# The line with the counts, by command line.
LINES = {
    "extract": "{out}: 1 module, rank 1, 22 parameters, float32",
    "resize": "{out}: 1 module, rank 1, 22 parameters (of 22), float32",
    "combine": "{out}: 1 module, rank 1, 22 parameters (of 44), float32",
    "merge": "{out}: changed 1 tensor, 552 B",  # the tensor, and a buffer of nine int64
    "convert": "{out}: 1 module, peft to kohya",
    "inspect": "1 module, 22 parameters, float32",
    "factor": "{out}: 1 tensor, 1 with factors up to rank 10",
    "inspect, pair": "100.0% of the change's energy is in 1 matrix",
}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Synthetic:
    """Two checkpoints of a single tensor."""
    return make_pair(tmp_path_factory.mktemp("pair"), shapes=SHAPES)


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory, pair: Synthetic) -> Path:
    """An adapter of a single module."""
    return eckart.extract(*pair.paths, tmp_path_factory.mktemp("adapter") / "adapter", rank=1).path


def command_line(name: str, pair: Synthetic, adapter: Path, out: Path) -> list[object]:
    return {
        "extract": ["extract", *pair.paths, "-o", out, "--rank", 1],
        "resize": ["resize", adapter, "-o", out, "--rank", 1],
        "combine": ["combine", adapter, adapter, "-o", out, "--rank", 1],
        "merge": ["merge", pair.base, adapter, "-o", out],
        "convert": ["convert", adapter, "-o", out, "--to", "kohya"],
        "inspect": ["inspect", adapter],
        "factor": ["factor", *pair.paths, "-o", out],
        "inspect, pair": ["inspect", *pair.paths],
        "inspect, base": ["inspect", pair.base, adapter],
        "verify": ["verify", *pair.paths, adapter],
        "check": ["check", adapter, "--for", "peft,vllm", "--base", pair.base, "--against", adapter],
    }[name]


@pytest.mark.parametrize("name", LINES)
def test_one_thing_is_counted_in_the_singular(pair, adapter, tmp_path, name):
    out = tmp_path / "out.safetensors" if name == "convert" else tmp_path / "out"
    done = run(*command_line(name, pair, adapter, out))
    assert done.code == 0, done.err
    assert LINES[name].format(out=out) in done.out.splitlines()


@pytest.mark.parametrize("name", [*LINES, "inspect, base", "verify", "check"])
def test_no_plural_follows_the_number_one(pair, adapter, tmp_path, name):
    out = tmp_path / "out.safetensors" if name == "convert" else tmp_path / "out"
    done = run(*command_line(name, pair, adapter, out))
    assert done.code == 0, done.err
    assert WRONG.findall(done.out + done.err) == []
