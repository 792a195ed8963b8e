"""The kinds of cases: valid inputs, and the commands that read them.

Inputs lie in two folders: ``in``, in which no command may change anything, and ``work``, whose stores a
command may fill. Commands run in the folder that holds both, and write to ``out``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from fuzz import inputs

FAMILIES = ("checkpoints", "adapters", "stores", "applications")


@dataclass(frozen=True)
class Kind:
    """One kind of input.

    Parameters
    ----------
    family : str
        One of `FAMILIES`.
    write : callable
        Writes the valid inputs into a folder.
    commands : tuple of str
        Command lines. Every one of them succeeds, or fails a check, on the valid inputs.
    refused : tuple of str
        Command lines that are refused even on the valid inputs, because they need what is not supported.
    """

    family: str
    write: Callable[[Path], None]
    commands: tuple[str, ...]
    refused: tuple[str, ...] = ()


PAIR = (
    "inspect in/base in/tuned",
    "inspect in/base in/tuned --json",
    "inspect in/tuned",
    "inspect in/base in/tuned --dry-run",
    "factor in/base in/tuned -o out/store --max-rank 4",
    "extract in/base in/tuned -o out/adapter --rank 2",
    "extract in/base in/tuned -o out/adapter --energy 0.9 --embeddings --modules-to-save",
    "extract in/base in/tuned -o out/adapter --budget 20% --for vllm --dtype f16 --json",
    "verify in/base in/tuned in/adapter",
    "merge in/base in/adapter -o out/model",
    "check in/adapter --base in/base --for vllm",
    "resize in/adapter -o out/adapter --rank 1 --base in/base",
    "inspect in/base in/adapter",
)
ONE = (
    "inspect in/A",
    "inspect in/A --json",
    "check in/A --for peft,vllm,llama.cpp,diffusers,comfyui",
    "check in/A --against in/A",
    "resize in/A -o out/new{ext} --rank 1",
    "resize in/A -o out/new{ext} --energy 0.9 --dtype f16",
    "combine in/A in/A -o out/new{ext} --weights 0.5,2",
    "combine in/A in/A -o out/new{ext} --method ties --rank 2",
    "convert in/A -o out/folder --to peft",
    "convert in/A -o out/k.safetensors --to kohya",
    "convert in/A -o out/d.safetensors --to diffusers",
    "merge in/model in/A -o out/model",
    "inspect in/model in/A",
)
STORE = (
    "plan work/store --energy 0.9",
    "plan work/store --rank 2 -o out/plan.json",
    "plan work/store --budget 20% --json",
    "extract in/base.safetensors in/tuned.safetensors -o out/adapter --store work/store --rank 2",
    "extract in/base.safetensors in/tuned.safetensors -o out/adapter --store work/store --energy 0.9",
    "extract in/base.safetensors in/tuned.safetensors -o out/adapter --store work/store --plan in/plan.json",
    "extract in/base.safetensors in/tuned.safetensors -o out/adapter --plan in/plan.json",
    "factor in/base.safetensors in/tuned.safetensors -o work/store",
    "factor in/base.safetensors in/tuned.safetensors -o work/store --overwrite",
    "factor in/base.safetensors in/tuned.safetensors -o work/half",
    "inspect in/base.safetensors in/tuned.safetensors --store work/store",
    "inspect in/base.safetensors in/tuned.safetensors --store work/half",
)


def _named(name: str, extension: str = "") -> tuple[str, ...]:
    """Return the commands for an adapter of this name."""
    return tuple(line.replace("in/A", f"in/{name}").format(ext=extension) for line in ONE)


def _only(commands: tuple[str, ...], *verbs: str) -> tuple[str, ...]:
    return tuple(line for line in commands if line.startswith(verbs))


def _picture(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(f"image in/{name} -o out/p.eki --rank 2" for name in names)


FILE = ".safetensors"
PAIR_OF_FILES = tuple(
    line.replace("/base", f"/base{FILE}").replace("/tuned", f"/tuned{FILE}") for line in PAIR
)
KINDS: dict[str, Kind] = {
    "files": Kind("checkpoints", inputs.pair_of_files, PAIR_OF_FILES),
    "folders": Kind("checkpoints", inputs.pair_of_folders, PAIR),
    "shards": Kind("checkpoints", inputs.pair_of_shards, PAIR),
    "experts": Kind("checkpoints", inputs.pair_with_experts, PAIR),
    "scaled float8": Kind(
        "checkpoints", inputs.pair_with_scales, (PAIR[2], *PAIR[-3:]), (*PAIR[:2], *PAIR[3:-3])
    ),
    "peft": Kind("adapters", inputs.peft_folder, _named("adapter")),
    "peft with statement": Kind(
        "adapters", inputs.stated_folder, (*_named("adapter"), "verify in/base in/tuned in/adapter")
    ),
    "peft with whole tensors": Kind(
        "adapters",
        inputs.peft_with_whole_tensors,
        _named("adapter")[:-4],
        _only(_named("adapter"), "convert")[1:],
    ),
    "dora": Kind("adapters", inputs.dora_folder, (), _only(_named("adapter"), "inspect", "resize", "merge")),
    "peft of a pipeline": Kind("adapters", inputs.pipeline_folder, _named("adapter")),
    "kohya": Kind("adapters", inputs.kohya_file, _named("k.safetensors", FILE)),
    "diffusers": Kind("adapters", inputs.diffusers_file, _named("d.safetensors", FILE)),
    "kohya with statement": Kind("adapters", inputs.stated_file, _named("k.safetensors", FILE)),
    "folder of adapters": Kind(
        "adapters",
        inputs.many_adapters,
        ("resize in/all -o out/all --rank 1", "resize in/all -o out/all --energy 0.9 --json"),
    ),
    "cloneofsimo": Kind(
        "adapters", inputs.cloneofsimo_file, _only(_named("c.safetensors"), "inspect in/c", "check")
    ),
    "store": Kind("stores", inputs.store, STORE),
    "recommender": Kind(
        "applications",
        inputs.recommender,
        (
            "recommend in/model.safetensors",
            "recommend in/model.safetensors --user u1 --top 3",
            "recommend in/model.safetensors --user u1 --item i2 --json",
            "recommend in/model.safetensors --user nobody",
        ),
    ),
    "ratings": Kind(
        "applications",
        inputs.ratings,
        tuple(
            f"recommend in/{name} {options}"
            for name in ("u.data", "ratings.dat", "ratings.csv", "semicolons.csv")
            for options in ("--rank 1 --method als", "--user 1 --rank 1 --method softimpute --skip-bad")
        ),
    ),
    "compressed picture": Kind(
        "applications",
        inputs.compressed,
        ("image in/p.eki -o out/p.png", "image in/g.eki -o out/p.png --json"),
    ),
    "picture": Kind(
        "applications", inputs.pictures, _picture(inputs.PICTURES_READ), _picture(inputs.PICTURES_REFUSED)
    ),
    "matrix": Kind(
        "applications",
        inputs.matrices,
        (
            "explain rank in/a.npy",
            "explain rank in/a.csv",
            "explain pinv in/a.txt",
            "explain lowrank in/a.tsv",
            "explain lora in/a.csv --given in/b.npy",
        ),
    ),
}
