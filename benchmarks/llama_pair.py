"""Write a pair of checkpoints with the shapes of a Llama model, whose update decays like a real one.

The singular values of the update of every projection are near ``i ** -0.7``, for all i up to min(m, n). The
first few hundred come from a product of Gaussian factors, the others from Gaussian noise with the same
energy. Rounding to bfloat16 adds its own noise. Embeddings, head and norms are equal in both checkpoints. One
tensor at a time is in memory.
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
COLUMNS = 512  # singular values that are built one by one; noise replaces the others


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
        """The number of heads; by default each has 64 or 128 dimensions."""
        return self.heads or max(1, self.hidden // (128 if self.hidden >= 4096 else 64))

    def __str__(self) -> str:
        depth = "1 layer" if self.layers == 1 else f"{self.layers} layers"
        return f"hidden {self.hidden}, intermediate {self.intermediate}, {depth}"

    def tensors(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Yield the name and shape of every tensor, in the order of the file."""
        d, d_inner = self.hidden, self.intermediate
        yield "model.embed_tokens.weight", (self.vocab, d)
        for i in range(self.layers):
            layer = f"model.layers.{i}"
            yield f"{layer}.input_layernorm.weight", (d,)
            for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
                yield f"{layer}.self_attn.{name}.weight", (d, d)
            yield f"{layer}.post_attention_layernorm.weight", (d,)
            yield f"{layer}.mlp.gate_proj.weight", (d_inner, d)
            yield f"{layer}.mlp.up_proj.weight", (d_inner, d)
            yield f"{layer}.mlp.down_proj.weight", (d, d_inner)
        yield "model.norm.weight", (d,)
        yield "lm_head.weight", (self.vocab, d)

    def config(self) -> dict[str, object]:
        """Return the contents of the model's config.json."""
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
    """Return whether a tensor is one of the seven per layer that the fine-tune changed."""
    return "_proj." in name


def update(
    random: np.random.Generator, m: int, n: int, norm: float, columns: int = COLUMNS
) -> NDArray[np.float32]:
    """Return an (m, n) matrix with Frobenius norm `norm` and sigma_i near i ** -DECAY."""
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
    """Write the folders `base` and `tuned` in `out`, and return both paths."""
    folders = out / "base", out / "tuned"
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
        _write_json(folder / "config.json", shape.config())
        _write_json(folder / "generation_config.json", {"bos_token_id": 1, "eos_token_id": 2})
    header = _header(shape)
    base_path, tuned_path = (folder / "model.safetensors" for folder in folders)
    with base_path.open("wb") as base, tuned_path.open("wb") as tuned:
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
    """Return the first bytes of a safetensors file: the length of the header, and the header."""
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    begin = 0
    for name, size in shape.tensors():
        end = begin + 2 * int(np.prod(size))
        entries[name] = {"dtype": "BF16", "shape": list(size), "data_offsets": [begin, end]}
        begin = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the data must begin at a multiple of 8 bytes
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
    parser.add_argument("--heads", type=int, default=0, help="0: one per 64 or 128 dimensions")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    shape = Shape(args.hidden, args.intermediate, args.layers, args.vocab, args.heads)
    for folder in write_pair(args.out, shape, args.seed):
        print(folder)


if __name__ == "__main__":
    main()
