"""Pairs of checkpoints that hold matrices with a known update, without a model around them."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np

from eckart.checkpoint import write_safetensors
from support.matrices import DECAYS, with_values

DTYPE = {"F32": np.dtype(np.float32), "F16": np.dtype(np.float16), "BF16": np.dtype(ml_dtypes.bfloat16)}

# The last one is larger than the size up to which LAPACK is used, so that a Krylov route is tested too.
SHAPES = {
    "layers.0.q_proj": ((40, 60), "1/i"),
    "layers.0.up_proj": ((60, 33), "exp(-i/20)"),
    "layers.1.q_proj": ((40, 60), "spikes"),
    "layers.1.up_proj": ((60, 33), "i^-0.5"),
    "layers.2.down_proj": ((300, 280), "1/i"),
}


def weights(seed: int = 0) -> dict[str, np.ndarray]:
    """Return float64 weights of standard deviation 0.05, a bias and a norm."""
    random = np.random.default_rng(seed)
    tensors = {f"{name}.weight": 0.05 * random.standard_normal(shape) for name, (shape, _) in SHAPES.items()}
    return tensors | {"layers.0.q_proj.bias": 0.05 * random.standard_normal(40), "norm.weight": np.ones(60)}


def updates(scale: float = 0.2) -> dict[str, np.ndarray]:
    """Return float64 updates whose singular values decay as `SHAPES` lists."""
    return {
        f"{name}.weight": scale * with_values(DECAYS[decay](min(shape)), *shape, seed=i)
        for i, (name, (shape, decay)) in enumerate(SHAPES.items())
    }


def save(folder: Path, tensors: dict[str, np.ndarray], dtype: str) -> Path:
    """Write tensors as a checkpoint of one dtype, and return its folder."""
    folder.mkdir(parents=True)
    write_safetensors(folder / "model.safetensors", {k: v.astype(DTYPE[dtype]) for k, v in tensors.items()})
    return folder


def save_pair(
    folder: Path, base: dict[str, np.ndarray], change: dict[str, np.ndarray], dtype: str = "F32"
) -> tuple[Path, Path]:
    """Write base and base + change, each rounded to the dtype, and return their folders."""
    tuned = {name: array + change.get(name, 0.0) for name, array in base.items()}
    return save(folder / "base", base, dtype), save(folder / "tuned", tuned, dtype)
