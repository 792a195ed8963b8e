"""Write a Llama-shaped pair of checkpoints, base and tuned, whose update decays like a real one.

The update of every projection has singular values near ``i ** -0.7`` over the whole of min(m, n): a
product of Gaussian factors for the first few hundred, Gaussian noise with the energy of the rest,
and on top the bulk that rounding to bfloat16 leaves. Embeddings, head and norms are equal on both
sides. One tensor at a time is in memory.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

SCALE = 0.02  # standard deviation of a weight
UPDATE = 2e-2  # ||update|| / ||weight||
DECAY = 0.7  # sigma_i ~ i ** -DECAY
COLUMNS = 512  # singular values built one by one; past them the noise is as high as they are


@dataclass(frozen=True)
class Shape:
    """The sizes of a Llama model."""

    hidden: int
    intermediate: int
    layers: int
    vocab: int = 512
    heads: int = 0

    @property
    def attention_heads(self) -> int:
        """Heads of 64 or 128 numbers where the caller has not said how many."""
        return self.heads or max(1, self.hidden // (128 if self.hidden >= 4096 else 64))

    def __str__(self) -> str:
        depth = "1 layer" if self.layers == 1 else f"{self.layers} layers"
        return f"hidden {self.hidden}, intermediate {self.intermediate}, {depth}"

    def tensors(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Yield every tensor's name and shape, in the order of the file."""
        d, wide = self.hidden, self.intermediate
        yield "model.embed_tokens.weight", (self.vocab, d)
        for i in range(self.layers):
            layer = f"model.layers.{i}"
            yield f"{layer}.input_layernorm.weight", (d,)
            for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
                yield f"{layer}.self_attn.{name}.weight", (d, d)
            yield f"{layer}.post_attention_layernorm.weight", (d,)
            yield f"{layer}.mlp.gate_proj.weight", (wide, d)
            yield f"{layer}.mlp.up_proj.weight", (wide, d)
            yield f"{layer}.mlp.down_proj.weight", (d, wide)
        yield "model.norm.weight", (d,)
        yield "lm_head.weight", (self.vocab, d)

    def config(self) -> dict[str, object]:
        """Return the model's config.json."""
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_size": self.hidden,
            "intermediate_size": self.intermediate,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.attention_heads,
            "num_key_value_heads": self.attention_heads,
            "vocab_size": self.vocab,
            "max_position_embeddings": 512,
            "hidden_act": "silu",
            "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0,
            "attention_bias": False,
            "mlp_bias": False,
            "tie_word_embeddings": False,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "torch_dtype": "bfloat16",
        }


def is_projection(name: str) -> bool:
    """Return whether a tensor is one of the seven per layer that the tuning has changed."""
    return "_proj." in name


def update(
    random: np.random.Generator, m: int, n: int, norm: float, columns: int = COLUMNS
) -> NDArray[np.float32]:
    """Return an (m, n) matrix of Frobenius norm ``norm`` with sigma_i near i ** -DECAY."""
    small = min(m, n)
    columns = min(columns, max(1, small // 2))
    energies = np.arange(1, small + 1) ** (-2 * DECAY)
    left = random.standard_normal((m, columns), dtype=np.float32)
    left *= np.sqrt(energies[:columns] / (m * n)).astype(np.float32)
    change = left @ random.standard_normal((columns, n), dtype=np.float32)  # (m, n)
    bulk = random.standard_normal((m, n), dtype=np.float32)
    bulk *= np.float32(np.sqrt(energies[columns:].sum() / (m * n)))
    change += bulk
    change *= np.float32(norm / np.sqrt(np.vdot(change, change)))
    return change


def write_pair(out: Path, shape: Shape, seed: int = 0) -> tuple[Path, Path]:
    """Write ``out/base`` and ``out/tuned`` and return both folders."""
    folders = out / "base", out / "tuned"
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
        _write_json(folder / "config.json", shape.config())
        _write_json(folder / "generation_config.json", {"bos_token_id": 1, "eos_token_id": 2})
    header = _header(shape)
    names = [folder / "model.safetensors" for folder in folders]
    with names[0].open("wb") as base, names[1].open("wb") as tuned:
        for file in (base, tuned):
            file.write(header)
        for i, (name, size) in enumerate(shape.tensors()):
            _write_tensor(np.random.default_rng([seed, i]), name, size, base, tuned)
    return folders


def _write_tensor(
    random: np.random.Generator, name: str, size: tuple[int, ...], base: BinaryIO, tuned: BinaryIO
) -> None:
    if len(size) == 1:
        weight = np.ones(size, ml_dtypes.bfloat16)
    else:
        weight = random.standard_normal(size, dtype=np.float32) * np.float32(SCALE)
        weight = weight.astype(ml_dtypes.bfloat16)
    base.write(weight.view(np.uint16).data)
    if is_projection(name):
        m, n = size
        change = update(random, m, n, UPDATE * SCALE * float(np.sqrt(m * n)))
        change += weight.astype(np.float32)
        weight = change.astype(ml_dtypes.bfloat16)
    tuned.write(weight.view(np.uint16).data)


def _header(shape: Shape) -> bytes:
    """Return the first bytes of a safetensors file: the header, and its length before it."""
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, size in shape.tensors():
        end = at + 2 * int(np.prod(size))
        entries[name] = {"dtype": "BF16", "shape": list(size), "data_offsets": [at, end]}
        at = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # data begin at a multiple of eight
    return len(text).to_bytes(8, "little") + text


def _write_json(path: Path, data: object) -> None:
    path.write_text(json.dumps(data, indent=2) + "\n", "utf-8")


def main() -> None:
    """Write a pair from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder for base/ and tuned/")
    parser.add_argument("--hidden", type=int, default=1024)
    parser.add_argument("--intermediate", type=int, default=2816)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--vocab", type=int, default=512)
    parser.add_argument("--heads", type=int, default=0, help="0: one per 64 or 128 hidden numbers")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    shape = Shape(args.hidden, args.intermediate, args.layers, args.vocab, args.heads)
    for folder in write_pair(args.out, shape, args.seed):
        print(folder)


if __name__ == "__main__":
    main()
