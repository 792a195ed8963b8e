"""Pairs of checkpoints drawn at random: ties, copies, stacks, convolutions, tables, buffers and new rows.

Every pair is small, and `read` reads it without Eckart, so a test can compute from the files what is stated.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path

import ml_dtypes
import numpy as np
from hypothesis import strategies as st

from eckart.checkpoint import write_safetensors

DTYPES = {
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
}
WIDTH, ROWS = 8, 11  # of the residual stream and of the vocabulary

# Tensors of one module next to its weight. Each is a tensor of its own, whatever its name looks like.
COMPANIONS: dict[str, tuple[int, ...]] = {
    "bias": (10,),
    "rel": (10, WIDTH),
    "relative_position_bias_table": (7, 3),
    "weight_g": (10, 1),
    "weight_v": (10, WIDTH),
    "lora_A": (3, WIDTH),
    "scale": (),
    "window": (2, 3, 4),
}


@dataclass(frozen=True)
class Entry:
    """One tensor: its shapes, whether and how it changed, and which checkpoints store it."""

    name: str
    base: tuple[int, ...]
    tuned: tuple[int, ...]
    change: str = "full"  # "none", "full", "low rank"
    integers: bool = False
    copy_of: str = ""  # the same numbers as another tensor, stored twice
    stored_in: str = "both"  # "both", "base", "tuned"


@dataclass(frozen=True)
class Drawn:
    """A pair to write: its tensors, its configuration, and how the files are made."""

    entries: tuple[Entry, ...]
    config: dict = field(default_factory=dict)
    base_dtype: str = "F32"
    tuned_dtype: str = "F32"
    size: float = 0.1
    prefix: str = ""  # put before every name in the tuned checkpoint alone
    shards: bool = False
    seed: int = 0


CONFIGS = [
    {},
    {"architectures": ["LlamaForCausalLM"]},
    {"architectures": ["BertForMaskedLM"]},
    {"architectures": ["T5ForConditionalGeneration"]},
    {"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2"},
    {"architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "num_experts": 3},
    {"architectures": ["GptOssForCausalLM"], "model_type": "gpt_oss", "num_local_experts": 3},
]
CHANGES = st.sampled_from(["none", "full", "low rank"])


def _same(name: str, shape: tuple[int, ...], change: str) -> Entry:
    return Entry(name, shape, shape, change)


@st.composite
def checkpoints(draw, dtypes: tuple[str, ...] = tuple(DTYPES)) -> Drawn:
    """Draw a pair. At least one linear layer changes."""
    entries: list[Entry] = []
    for layer in range(draw(st.integers(1, 2))):
        for part, shape in (("q_proj", (10, WIDTH)), ("up_proj", (10, WIDTH)), ("down_proj", (WIDTH, 9))):
            change = "full" if not entries else draw(CHANGES)
            module = f"model.layers.{layer}.{part}"
            entries.append(_same(f"{module}.weight", shape, change))
            for leaf in draw(st.lists(st.sampled_from(sorted(COMPANIONS)), max_size=2, unique=True)):
                companion = COMPANIONS[leaf] if leaf != "bias" else shape[:1]
                entries.append(_same(f"{module}.{leaf}", companion, draw(CHANGES)))
    for name, shape in {
        "model.norm.weight": (WIDTH,),
        "model.conv.weight": (5, 4, 3, 3),
        "model.positions": (6, WIDTH),
        "model.layers.0.inv_freq": (4,),
        "logit_scale": (),
        "visual.pos_embed": (1, 5, WIDTH),
    }.items():
        if draw(st.booleans()):
            entries.append(_same(name, shape, draw(CHANGES)))
    if draw(st.booleans()):
        entries.append(replace(_same("model.position_ids", (6,), draw(CHANGES)), integers=True))
    if draw(st.booleans()):
        entries.append(Entry("classifier.weight", (), (3, WIDTH), stored_in="tuned"))
    entries += draw(_vocabulary())
    config = dict(draw(st.sampled_from(CONFIGS)))
    tie = draw(st.sampled_from([True, False, None]))
    config |= {} if tie is None else {"tie_word_embeddings": tie}
    entries += draw(_layers_of(config.get("model_type")))
    if config.get("model_type") != "qwen3_moe" and draw(st.booleans()):  # its files never hold stacks
        entries.append(_same("model.layers.0.mlp.experts.gate_up_proj", (3, 6, WIDTH), draw(CHANGES)))
        entries.append(_same("model.layers.0.mlp.experts.down_proj", (3, WIDTH, 3), draw(CHANGES)))
    base_dtype, tuned_dtype = draw(st.sampled_from(dtypes)), draw(st.sampled_from(dtypes))
    return Drawn(
        tuple(entries),
        config,
        base_dtype,
        tuned_dtype if draw(st.booleans()) else base_dtype,
        draw(st.sampled_from([0.1, 1.0])),
        draw(st.sampled_from(["", "", "wrapped."])),
        draw(st.booleans()),
        draw(st.integers(0, 2**16)),
    )


@st.composite
def _layers_of(draw, model_type: str | None) -> list[Entry]:
    """Draw layers that only a certain type of model has: Conv1D, split experts and their router."""
    if model_type == "gpt2":
        return [_same("model.h.0.attn.c_attn.weight", (WIDTH, 12), draw(CHANGES))]
    if model_type != "qwen3_moe":
        return []
    path = "model.layers.1.mlp"
    entries = [_same(f"{path}.gate.weight", (3, WIDTH), draw(CHANGES))]
    for expert in range(3):
        for part, shape in (("gate_proj", (5, WIDTH)), ("up_proj", (5, WIDTH)), ("down_proj", (WIDTH, 5))):
            entries.append(_same(f"{path}.experts.{expert}.{part}.weight", shape, draw(CHANGES)))
    return entries


@st.composite
def _vocabulary(draw) -> list[Entry]:
    """Draw an embedding, which may grow or shrink, and a head: absent, stored, a copy, or in one file."""
    if not draw(st.booleans()):
        return []
    table = draw(st.sampled_from(["model.embed_tokens.weight", "model.wte.weight"]))
    base, tuned = (ROWS, WIDTH), (ROWS + draw(st.sampled_from([0, 0, 3, -2])), WIDTH)
    entries = [Entry(table, base, tuned, draw(CHANGES))]
    head = draw(st.sampled_from(["absent", "both", "copy", "base", "tuned"]))
    if head != "absent":
        copy_of = table if head == "copy" else ""
        stored_in = head if head in ("base", "tuned") else "both"
        entries.append(
            Entry("lm_head.weight", base, tuned, draw(CHANGES), copy_of=copy_of, stored_in=stored_in)
        )
    return entries


def write(drawn: Drawn, folder: Path) -> tuple[Path, Path]:
    """Write a pair, each checkpoint a folder with its configuration."""
    before, after = _numbers(drawn)
    sides = []
    for side, tensors, prefix in (("base", before, ""), ("tuned", after, drawn.prefix)):
        place = folder / side
        place.mkdir(parents=True)
        named = {prefix + name: array for name, array in tensors.items()}
        (place / "config.json").write_text(json.dumps(drawn.config))
        if drawn.shards and len(named) > 1:
            _write_shards(place, named)
        else:
            write_safetensors(place / "model.safetensors", named)
        sides.append(place)
    return sides[0], sides[1]


def _write_shards(place: Path, tensors: dict[str, np.ndarray]) -> None:
    files: dict[str, dict[str, np.ndarray]] = {}
    for i, (name, array) in enumerate(tensors.items()):
        files.setdefault(f"model-0000{i % 2 + 1}-of-00002.safetensors", {})[name] = array
    for file, part in files.items():
        write_safetensors(place / file, part)
    index = {name: file for file, part in files.items() for name in part}
    (place / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))


def _numbers(drawn: Drawn) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    random = np.random.default_rng(drawn.seed)
    before: dict[str, np.ndarray] = {}
    after: dict[str, np.ndarray] = {}
    for entry in drawn.entries:
        old, new = _entry_numbers(entry, drawn, random)
        if entry.copy_of:
            old, new = before[entry.copy_of], after[entry.copy_of]
        if entry.stored_in != "tuned":
            before[entry.name] = old
        if entry.stored_in != "base":
            after[entry.name] = new
    return before, after


def _entry_numbers(entry: Entry, drawn: Drawn, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    if entry.integers:
        old = random.integers(0, 9, entry.base)
        return old, old if entry.change == "none" else old + 1
    base_dtype, tuned_dtype = DTYPES[drawn.base_dtype], DTYPES[drawn.tuned_dtype]
    old = random.standard_normal(entry.base).astype(base_dtype)
    new = random.standard_normal(entry.tuned)
    if len(entry.base) != len(entry.tuned):
        return old, new.astype(tuned_dtype)
    shared = tuple(slice(0, min(a, b)) for a, b in zip(entry.base, entry.tuned, strict=True))
    new[shared] = old.astype(np.float64)[shared] + _change(entry, new[shared].shape, drawn.size, random)
    return old, new.astype(tuned_dtype)


def _change(
    entry: Entry, shape: tuple[int, ...], size: float, random: np.random.Generator
) -> np.ndarray | float:
    if entry.change == "none":
        return 0.0
    if entry.change == "low rank" and len(shape) == 2:
        return size * random.standard_normal((shape[0], 2)) @ random.standard_normal((2, shape[1]))
    return size * random.standard_normal(shape)


# --- an independent reader ---


def read(path: Path) -> dict[str, np.ndarray]:
    """Return the tensors of all safetensors files of a folder: float64, or the integers that they hold."""
    tensors = {}
    for file in sorted(path.glob("*.safetensors")):
        data = file.read_bytes()
        length = int.from_bytes(data[:8], "little")
        for name, entry in json.loads(data[8 : 8 + length]).items():
            if name == "__metadata__":
                continue
            start, stop = (8 + length + offset for offset in entry["data_offsets"])
            dtype = DTYPES.get(entry["dtype"], np.dtype(np.int64))
            array = np.frombuffer(data[start:stop], dtype).reshape(entry["shape"])
            tensors[name] = array if dtype == np.int64 else array.astype(np.float64)
    return tensors
