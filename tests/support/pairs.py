"""Small pairs of checkpoints whose updates are built from given singular values, and reference results."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import ml_dtypes
import numpy as np

from eckart.checkpoint import DTYPES, write_safetensors
from support.matrices import with_values

EPS = float(np.finfo(np.float32).eps)

# Matrices on both sides of 256, up to which LAPACK is always used, and vectors, an embedding table and a
# scalar.
SHAPES: dict[str, tuple[int, ...]] = {
    "model.embed_tokens.weight": (50, 24),
    "model.layers.0.input_layernorm.weight": (30,),
    "model.layers.0.mlp.up_proj.weight": (300, 260),
    "model.layers.0.self_attn.q_proj.bias": (40,),
    "model.layers.0.self_attn.q_proj.weight": (40, 30),
    "model.layers.1.self_attn.q_proj.weight": (33, 70),
    "model.scale": (),
}
MATRICES = [name for name, shape in SHAPES.items() if len(shape) == 2]
LINEAR = [name for name in MATRICES if "embed" not in name]
SMALL = {name: shape for name, shape in SHAPES.items() if max(shape, default=0) < 256}
SMALL_LINEAR = [name for name in LINEAR if name in SMALL]
BUFFER = "model.position_ids"


@dataclass(frozen=True)
class Synthetic:
    """Two checkpoint files, and the tensors that were written to them."""

    base: Path
    tuned: Path
    before: dict[str, np.ndarray]
    after: dict[str, np.ndarray]

    @property
    def paths(self) -> tuple[Path, Path]:
        return self.base, self.tuned

    def update(self, name: str) -> np.ndarray:
        """Return tuned - base in float64, as a matrix."""
        wide = self.after[name].astype(np.float64) - self.before[name].astype(np.float64)
        return wide if wide.ndim == 2 else wide.reshape(1, -1)

    def sigma(self, name: str) -> np.ndarray:
        """Return the singular values of the update, by NumPy in float64."""
        return np.linalg.svd(self.update(name), compute_uv=False)


def write_pair(folder: Path, before: dict[str, np.ndarray], after: dict[str, np.ndarray]) -> Synthetic:
    """Write a pair as two files into a folder, which is created."""
    folder.mkdir(parents=True, exist_ok=True)
    pair = Synthetic(folder / "base.safetensors", folder / "tuned.safetensors", before, after)
    write_safetensors(pair.base, before)
    write_safetensors(pair.tuned, after)
    return pair


def make_pair(
    folder: Path,
    base_dtype: str = "F32",
    tuned_dtype: str = "F32",
    shapes: dict[str, tuple[int, ...]] = SHAPES,
    size: float = 0.3,
) -> Synthetic:
    """Write Gaussian weights, and a copy with an update whose singular values fall as 1/i.

    The first row of every matrix stays unchanged, so that the share of equal entries is not zero.
    """
    before: dict[str, np.ndarray] = {}
    after: dict[str, np.ndarray] = {}
    for seed, (name, shape) in enumerate(shapes.items()):
        weights = np.random.default_rng(seed).standard_normal(shape)
        # Entries stay away from zero, so that no dtype has to store them as subnormal numbers.
        weights = np.where(np.abs(weights) < 0.1, 0.1, weights)
        before[name] = np.asarray(weights, DTYPES[base_dtype])
        if len(shape) == 2:
            change = with_values(size * shape[0] / np.arange(1, min(shape) + 1), *shape, seed=seed)
        else:
            change = np.random.default_rng(100 + seed).standard_normal(shape) * size
        changed = before[name].astype(np.float64) + change
        changed = np.where(np.abs(changed) < 0.1, 0.1, changed)
        if len(shape) == 2:
            changed[0] = before[name][0]
        after[name] = np.asarray(changed, DTYPES[tuned_dtype])
    before[BUFFER] = np.arange(9)
    after[BUFFER] = np.arange(9)
    return write_pair(folder, before, after)


def noise_floor(*sides: np.ndarray) -> float:
    """Return the noise floor of a pair, computed entry by entry.

    It is the root of the largest row sum of ulp^2 / 12, plus that of the largest column sum. The unit in the
    last place (ulp) is the distance to the next number of the dtype, computed with `np.frexp`.
    """
    variance = np.zeros(sides[0].shape)
    for side in sides:
        if side.dtype == np.float64:
            continue  # far below the rounding of float32 arithmetic
        info = ml_dtypes.finfo(side.dtype)
        exponent = np.frexp(side.astype(np.float64))[1] - 1
        exponent = np.where(side == 0, info.minexp, np.maximum(exponent, info.minexp))
        variance += 4.0 ** (exponent - info.nmant) / 12
    return float(np.sqrt(variance.sum(axis=1).max()) + np.sqrt(variance.sum(axis=0).max()))


def contents(folder: Path) -> dict[str, bytes]:
    """Return the bytes of every file in a folder, by relative path."""
    return {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }
