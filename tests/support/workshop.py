"""A folder with one small input of every kind, and one call of every command that writes an output."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import eckart
from eckart.checkpoint import Checkpoint, write_safetensors
from support.adapters import adapter, module
from support.pairs import make_pair

SHAPES = {
    "model.layers.0.self_attn.q_proj.weight": (24, 20),
    "model.layers.1.self_attn.q_proj.weight": (20, 28),
    "model.norm.weight": (20,),
}
UNET = ("unet.mid_block.attentions.0.proj_in", "unet.mid_block.attentions.0.proj_out")


def make_inputs(folder: Path) -> Path:
    """Fill a folder with the inputs of `COMMANDS`, and return it."""
    pair = make_pair(folder, shapes=SHAPES)
    eckart.factor(*pair.paths, folder / "store", workers=1)
    eckart.extract(*pair.paths, folder / "a", rank=4, workers=1)
    eckart.extract(*pair.paths, folder / "b", rank=3, workers=1)
    (folder / "both").mkdir()
    for name in ("a", "b"):
        shutil.copytree(folder / name, folder / "both" / name)
    for number, name in enumerate(("k", "l")):
        made = adapter(*(module(n, 12, 10, rank=4, seed=5 * number) for n in UNET), components=("unet",))
        made.save(folder / f"{name}.safetensors", "kohya")
    _write_sharded(pair.base, folder / "model")
    random = np.random.default_rng(0)
    rows = [f"{u},{i},{1 + random.integers(5)}" for u in range(6) for i in range(5)]
    (folder / "ratings.csv").write_text("\n".join(rows) + "\n")
    (folder / "fewer.csv").write_text("\n".join(rows[:-3]) + "\n")
    return folder


def add_pictures(folder: Path) -> None:
    """Add a picture and a compressed one to the inputs; needs Pillow and constriction."""
    from eckart.applications.images import compress, write_picture

    picture = np.add.outer(np.arange(16), np.arange(24)).astype(np.uint8) * 5
    write_picture(folder / "photo.png", picture)
    (folder / "photo.eki").write_bytes(compress(picture, psnr=35).bytes)


def _write_sharded(source: Path, folder: Path) -> None:
    """Write a checkpoint as two shards with an index, a configuration and a tokenizer."""
    checkpoint = Checkpoint.open(source)
    names = checkpoint.names()
    folder.mkdir()
    files = {name: f"model-0000{1 + (i > 0)}-of-00002.safetensors" for i, name in enumerate(names)}
    for file in sorted(set(files.values())):
        tensors = {name: np.array(checkpoint.map(name)) for name in names if files[name] == file}
        write_safetensors(folder / file, tensors, {"format": "pt"})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))
    (folder / "config.json").write_text("{}")
    (folder / "tokenizer.json").write_text("{}")


@dataclass(frozen=True)
class Command:
    """A command that writes one output.

    Parameters
    ----------
    name : str
        The output's name.
    argv : callable
        Returns the arguments, from the folder of the inputs and a number from 1 to 3 on which the output
        depends. ``-o`` and ``--overwrite`` are added by the caller.
    kind : {"an adapter", "a model", "a plan", ...}
        What is written. A file or folder of another kind is never replaced.
    is_folder : bool
        Whether the output is a folder.
    extra : str
        The optional dependency that it needs.
    """

    name: str
    argv: Callable[[Path, int], list[object]]
    kind: str
    is_folder: bool = False
    extra: str = ""


W = ("--workers", 1)
COMMANDS = {
    "extract": Command(
        "out",
        lambda p, n: ["extract", p / "base.safetensors", p / "tuned.safetensors", "--rank", n, *W],
        "an adapter",
        is_folder=True,
    ),
    "plan": Command("out.json", lambda p, n: ["plan", p / "store", "--rank", n, *W], "a plan"),
    "resize": Command("out", lambda p, n: ["resize", p / "a", "--rank", n, *W], "an adapter", is_folder=True),
    "resize-file": Command(
        "out.safetensors", lambda p, n: ["resize", p / "k.safetensors", "--rank", n, *W], "an adapter file"
    ),
    "resize-many": Command(
        "out", lambda p, n: ["resize", p / "both", "--rank", n, *W], "adapters", is_folder=True
    ),
    "combine": Command(
        "out",
        lambda p, n: ["combine", p / "a", p / "b", "--weights", f"{n},1", *W],
        "an adapter",
        is_folder=True,
    ),
    "combine-file": Command(
        "out.safetensors",
        lambda p, n: ["combine", p / "k.safetensors", p / "l.safetensors", "--weights", f"{n},1", *W],
        "an adapter file",
    ),
    "merge": Command(
        "out",
        lambda p, n: ["merge", p / "model", p / "a", "--weights", n, *W],
        "a model",
        is_folder=True,
    ),
    "convert": Command(
        "out",
        lambda p, n: ["convert", p / f"{'-kl'[min(n, 2)]}.safetensors", "--to", "peft"],
        "an adapter of a pipeline",
        is_folder=True,
    ),
    "convert-file": Command(
        "out.safetensors",
        lambda p, n: ["convert", p / f"{'-kl'[min(n, 2)]}.safetensors", "--to", "diffusers"],
        "an adapter file",
    ),
    "image": Command(
        "out.eki", lambda p, n: ["image", p / "photo.png", "--rank", 4 * n], "a picture", extra="PIL"
    ),
    "image-decoded": Command(
        "out.png", lambda p, n: ["image", p / "photo.png", "--rank", 4 * n], "a picture", extra="PIL"
    ),
    "recommend": Command(
        "out.safetensors",
        lambda p, n: ["recommend", p / ("fewer.csv" if n == 1 else "ratings.csv"), "--method", "biases"],
        "a recommender",
    ),
    "explain": Command("out.md", lambda p, n: ["explain", "rank", f"{n} 1; 1 1"], "a page", extra="sympy"),
    "demo": Command("out", lambda p, n: ["demo", "--pair"], "the pair", is_folder=True),
}
