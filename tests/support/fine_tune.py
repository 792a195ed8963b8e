"""A small fine-tune for the tests of commands: two checkpoints, a store of their update, and an adapter."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import eckart
from support.pairs import Synthetic, make_pair

SHAPES = {
    "model.embed_tokens.weight": (50, 24),
    "model.layers.0.q_proj.weight": (40, 30),
    "model.layers.0.q_proj.bias": (40,),
    "model.layers.1.q_proj.weight": (33, 70),
    "model.norm.weight": (30,),
}
MATRICES = [name for name, shape in SHAPES.items() if len(shape) == 2]
LINEAR = MATRICES[1:]  # the matrices that get factors unless embeddings are asked for
MODULES = [name.removesuffix(".weight") for name in LINEAR]


@dataclass(frozen=True)
class FineTune:
    """A folder with ``base.safetensors``, ``tuned.safetensors``, ``store/`` and ``adapter/``."""

    folder: Path
    pair: Synthetic

    @property
    def store(self) -> Path:
        return self.folder / "store"

    @property
    def adapter(self) -> Path:
        return self.folder / "adapter"

    def copy_adapter(self, folder: Path) -> Path:
        """Copy the adapter into a folder, where a test may change it."""
        return Path(shutil.copytree(self.adapter, folder / "adapter"))


def make_fine_tune(folder: Path) -> FineTune:
    """Write the pair, factor its update, and extract an adapter that keeps 90 % of the energy."""
    fine_tune = FineTune(folder, make_pair(folder, shapes=SHAPES))
    eckart.factor(*fine_tune.pair.paths, fine_tune.store)
    eckart.extract(*fine_tune.pair.paths, fine_tune.adapter, energy=0.9, base_name="base")
    return fine_tune
