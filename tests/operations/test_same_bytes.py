"""The same input gives the same bytes, whatever the number of workers and the seed of Python's hashes."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from eckart.adapter import Adapter, Module, load_adapter
from eckart.operations import combine, convert, merge, overlaps, resize
from support.adapter_files import PEFT_READERS, VARIED_RANKS, adapter_with, write_base


def digest(path):
    files = sorted(f for f in path.rglob("*") if f.is_file()) if path.is_dir() else [path]
    return hashlib.sha256(b"".join(f.read_bytes() for f in files)).hexdigest()


def adapters(folder):
    return [
        adapter_with(ranks=VARIED_RANKS, lora_alpha=7)(folder / "a"),
        adapter_with(without="o_proj", use_rslora=True)(folder / "b"),
        adapter_with(ranks=7, without="0.mlp")(folder / "c"),
    ]


def resized(folder, workers):
    resize(adapters(folder)[0], folder / "out", energy=0.8, workers=workers)


def resized_for_all(folder, workers):
    resize(adapters(folder)[1], folder / "out", rank=3, consumers=PEFT_READERS, workers=workers)


def summed(folder, workers):
    sources = [load_adapter(path) for path in adapters(folder)]
    combine(sources, folder / "out", [0.5, -1.0, 2.0], rank=4, workers=workers)
    (folder / "out" / "overlaps").write_text(repr(overlaps(sources, workers)))


def ties(folder, workers):
    combine(adapters(folder), folder / "out", method="ties", rank=4, workers=workers)


def dare(folder, workers):
    combine(adapters(folder), folder / "out", method="dare", rank=4, seed=3, workers=workers)


def merged(folder, workers):
    merge(write_base(folder / "base"), adapters(folder), folder / "out", workers=workers)


OPERATIONS = {f.__name__: f for f in (resized, resized_for_all, summed, ties, dare, merged)}


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_bytes_do_not_depend_on_the_number_of_workers(name, tmp_path, monkeypatch):
    seen = set()
    for run, workers in enumerate([1, 2, 3, 2, 3]):
        folder = tmp_path / str(run)
        folder.mkdir()
        monkeypatch.chdir(folder)  # the statement holds the paths as given
        OPERATIONS[name](Path("."), workers)
        seen.add(digest(folder / "out"))
    assert len(seen) == 1


def resized_and_converted():
    resized_for_all(Path("."), 2)
    for to in ("kohya", "diffusers"):
        convert("a", f"{to}.safetensors", to)


SCRIPT = "import operations.test_same_bytes as here; here.resized_and_converted()"


def test_the_bytes_do_not_depend_on_the_seed_of_hashes(tmp_path):
    seen = set()
    for seed in ("1", "2", "3"):
        folder = tmp_path / seed
        folder.mkdir()
        env = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)}
        subprocess.run([sys.executable, "-c", SCRIPT], cwd=folder, env=env, check=True)
        seen.add(tuple(digest(folder / n) for n in ("out", "kohya.safetensors", "diffusers.safetensors")))
    assert len(seen) == 1


def test_the_bytes_of_one_module_do_not_depend_on_the_number_of_threads(tmp_path):
    """With several threads, the two factors of a single module are processed at the same time."""
    random = np.random.default_rng(0)
    factors = random.standard_normal((900, 40)), random.standard_normal((40, 700))
    adapter = Adapter({"x": Module("x", "linear", *(f.astype(np.float32) for f in factors))})
    seen = set()
    for workers in (1, 2, 8):
        (module,) = resize(adapter, rank=7, workers=workers).adapter
        seen.add((module.left.tobytes(), module.right.tobytes()))
    assert len(seen) == 1
