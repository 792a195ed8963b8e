"""Inputs that once hung the program, took gigabytes or ended in an internal error: one line each, quickly.

Each is built here in its smallest form, and goes through every command that accepts it. Where the project's
larger test data is present, the originals are read too.
"""

from __future__ import annotations

import json
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eckart.checkpoint import Checkpoint, read_header, write_safetensors
from eckart.errors import CheckpointError
from support.fine_tune import FineTune, make_fine_tune
from support.real_data import DATA
from support.terminal import ENVIRONMENT, run, start, tree

SECONDS = 5.0
BYTES = 1_000_000_000
DIGITS = 10**400

Config = dict[str, Any]


@pytest.fixture(scope="module")
def fine_tune(tmp_path_factory: pytest.TempPathFactory) -> FineTune:
    return make_fine_tune(tmp_path_factory.mktemp("fine-tune"))


def attacked(fine_tune: FineTune, folder: Path, file: str, change: Config) -> Path:
    """Copy the adapter, and change entries of one of its JSON files."""
    adapter = fine_tune.copy_adapter(folder)
    document = json.loads((adapter / file).read_bytes())
    for key, value in change.items():
        is_table = isinstance(value, dict)
        document[key] = document[key] | value if is_table else value
    (adapter / file).write_text(json.dumps(document))
    return adapter


CONFIG, STATEMENT = "adapter_config.json", "eckart.json"
# name: the file, what is changed in it, and a part of the message; no message if the adapter is valid
ADAPTERS: dict[str, tuple[str, Config, str]] = {
    "bigalpha": (CONFIG, {"lora_alpha": DIGITS}, f"{CONFIG}: lora_alpha`: the number is too large"),
    "bigpat": (
        CONFIG,
        {"alpha_pattern": {"q_proj": DIGITS}},
        f"{CONFIG}: alpha_pattern.q_proj`: the number is too large",
    ),
    "ekbig": (STATEMENT, {"error": DIGITS}, f"{STATEMENT}: error`: the number is too large"),
    "flagpat": (CONFIG, {"rank_pattern": {"(?i)x": 4}}, 'rank_pattern`: the key "(?i)x" is not a regular'),
    "listpat": (
        CONFIG,
        {"rank_pattern": [["a", 1]]},
        "rank_pattern`: expected an object of whole numbers or null, found a list of 1 value",
    ),
    "mts": (CONFIG, {"modules_to_save": 5}, "modules_to_save`: expected a list of strings, a string or null"),
    "tp": (
        CONFIG,
        {"target_parameters": 5},
        "target_parameters`: expected a list of strings or null, found 5",
    ),
    "redos": (CONFIG, {"alpha_pattern": {"(([a-z._0-9]+)+)+!": 4}}, ""),
}
COMMANDS: dict[str, Callable[[FineTune, Path, Path], list[object]]] = {
    "inspect": lambda tune, bad, out: ["inspect", bad],
    "check": lambda tune, bad, out: ["check", bad, "--for", "vllm"],
    "check --against": lambda tune, bad, out: ["check", tune.adapter, "--against", bad],
    "verify": lambda tune, bad, out: ["verify", *tune.pair.paths, bad],
    "resize": lambda tune, bad, out: ["resize", bad, "-o", out, "--rank", 2],
    "combine": lambda tune, bad, out: ["combine", tune.adapter, bad, "-o", out],
    "merge": lambda tune, bad, out: ["merge", tune.pair.base, bad, "-o", out],
    "convert": lambda tune, bad, out: ["convert", bad, "-o", out, "--to", "peft"],
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("name", ADAPTERS)
def test_an_attacking_adapter_is_refused_in_one_line_or_read_quickly(
    name: str, command: str, fine_tune: FineTune, tmp_path: Path
) -> None:
    file, change, message = ADAPTERS[name]
    bad = attacked(fine_tune, tmp_path, file, change)
    before = tree(tmp_path)
    beginning = time.perf_counter()
    done = run(*COMMANDS[command](fine_tune, bad, tmp_path / "out"))
    assert time.perf_counter() - beginning < SECONDS
    if not message:
        assert done.code == 0, done.err
        return
    assert (done.code, done.out) == (2, "")
    assert message in done.err and done.err.count("\n") == 1
    assert tree(tmp_path) == before


def header_file(path: Path, header: bytes, data: int = 0) -> Path:
    """Write a safetensors file with this header, and data of zeros that take no space on the disk."""
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + data)
    return path


def entries(number: int, name: str = "t{}") -> bytes:
    """Return a header of this many tensors of one float32 number each."""
    text = ",".join(
        f'"{name.format(i)}":{{"dtype":"F32","shape":[1],"data_offsets":[{4 * i},{4 * i + 4}]}}'
        for i in range(number)
    )
    return f"{{{text}}}".encode()


CHECKPOINT_COMMANDS: dict[str, Callable[[FineTune, Path, Path], list[object]]] = {
    "inspect": lambda tune, bad, out: ["inspect", bad],
    "inspect a pair": lambda tune, bad, out: ["inspect", bad, bad],
    "factor": lambda tune, bad, out: ["factor", bad, bad, "-o", out],
    "extract": lambda tune, bad, out: ["extract", bad, bad, "-o", out, "--rank", 1],
    "merge": lambda tune, bad, out: ["merge", bad, tune.adapter, "-o", out],
    "verify": lambda tune, bad, out: ["verify", bad, bad, tune.adapter],
    "check --base": lambda tune, bad, out: ["check", tune.adapter, "--base", bad],
}


@pytest.mark.parametrize("command", CHECKPOINT_COMMANDS)
@pytest.mark.parametrize("letters", [".", "a.", "_", "1", "x"])
def test_a_tensor_name_of_200_kb_is_refused(
    letters: str, command: str, fine_tune: FineTune, tmp_path: Path
) -> None:
    bad = header_file(tmp_path / "m.safetensors", entries(1, letters * (200_000 // len(letters))), 4)
    beginning = time.perf_counter()
    done = run(*CHECKPOINT_COMMANDS[command](fine_tune, bad, tmp_path / "out"))
    assert time.perf_counter() - beginning < SECONDS
    assert done.code == 2 and "the name has 200,000 characters, but the limit is 1,000" in done.err
    assert done.err.count("\n") == 1 and len(done.err) < 1000


@pytest.mark.parametrize("command", ["inspect", "inspect a pair", "factor", "extract"])
def test_an_empty_tensor_of_huge_shape_is_left_out(command: str, fine_tune: FineTune, tmp_path: Path) -> None:
    bad = tmp_path / "m.safetensors"
    write_safetensors(bad, {"v.weight": np.eye(4, dtype=np.float32), "w.weight": np.zeros((0, 2**33), "f4")})
    done = run(*CHECKPOINT_COMMANDS[command](fine_tune, bad, tmp_path / "out"))
    if command == "extract":
        assert done.code == 2 and "hold the same weights" in done.err  # the pair is one file twice
    elif command == "factor":
        assert done.code == 0 and "out: 1 tensor, " in done.out
    else:
        assert done.code == 0 and "Skipped 1 tensor without entries: w.weight" in done.err


def test_a_header_of_a_million_tensors_is_refused_before_it_is_parsed(tmp_path: Path) -> None:
    path = header_file(tmp_path / "m.safetensors", entries(1_000_000), 4_000_000)
    tracemalloc.start()
    beginning = time.process_time()
    with pytest.raises(CheckpointError, match="the header holds more than 4,000,000 values"):
        read_header(path)
    seconds, peak = time.process_time() - beginning, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert seconds < SECONDS
    assert peak < 4 * path.stat().st_size  # the text itself; the parsed header would take ten times as much


def test_a_header_of_100_000_tensors_is_read_within_the_limits_of_time_and_memory(tmp_path: Path) -> None:
    path = header_file(tmp_path / "m.safetensors", entries(100_000), 400_000)
    beginning = time.process_time()
    assert len(Checkpoint.open(path)) == 100_000
    assert time.process_time() - beginning < SECONDS  # 1.5 s on a slow machine
    tracemalloc.start()
    Checkpoint.open(header_file(tmp_path / "small.safetensors", entries(20_000), 80_000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 5 * peak < BYTES  # a fifth of the tensors, because tracing is slow


@pytest.mark.skipif(not (DATA / "cases" / "attack").is_dir(), reason="needs ECKART_TEST_DATA")
@pytest.mark.parametrize("name", [*ADAPTERS, "dots", "zrow"])
def test_the_original_inputs_are_refused_or_read_within_five_seconds(name: str) -> None:
    beginning = time.perf_counter()
    done = start("inspect", DATA / "cases" / "attack" / name, env=ENVIRONMENT)
    assert time.perf_counter() - beginning < 3 * SECONDS  # includes the start of Python on a busy machine
    assert done.returncode == (0 if name in ("redos", "zrow") else 2)
    assert done.returncode == 0 or len(done.stderr.splitlines()) == 1
