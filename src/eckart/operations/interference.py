"""TIES and DARE: adapters combined with the entries of their updates that agree, or that are drawn."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from eckart.adapter.adapter import Adapter, Module
from eckart.adapter.updates import check_weights, common_modules, describe, summed_bias
from eckart.checks import is_number
from eckart.errors import UsageError
from eckart.linalg import Spectrum, spectrum, svd

Floats = NDArray[np.float64]
Method = Literal["ties", "dare"]


@dataclass(frozen=True)
class DenseCore:
    """The spectrum of an update that had to be formed."""

    spectrum: Spectrum


class Interference:
    """Updates that TIES or DARE make of several adapters', entry by entry.

    Parameters
    ----------
    adapters : sequence of Adapter
    weights : sequence of float
    method : {"ties", "dare"}
    density : float
        Share of the entries that each adapter keeps.
    seed : int
        Of DARE's draws, which also depend on the module's name and the adapter's place.

    Notes
    -----
    The updates themselves are formed, scale * B A in float64, one module at a time: mn numbers, and the
    SVD of an m x n matrix for its spectrum and, after the ranks are chosen, another one for the factors.
    PEFT applies these methods to A and B
    apart, which is another thing.

    TIES (Yadav et al., 2023, arXiv:2306.01708, section 4): each update keeps the ``density`` largest of
    its entries; the sign of an entry is that of the weighted sum; the result is the sum of the weighted
    entries of that sign over the sum of their weights, times the sum of all weights, so that for one
    adapter and density 1 it is the plain sum. DARE (Yu et al., 2023, arXiv:2311.03099, equation 2): each
    entry is kept with probability ``density`` and divided by it, then all are added.
    """

    def __init__(
        self, adapters: Sequence[Adapter], weights: Sequence[float], method: str, density: float, seed: int
    ) -> None:
        check_weights(adapters, weights)
        if method not in ("ties", "dare"):
            raise UsageError(f"method={method!r}", "expected sum, ties or dare")
        if not is_number(density) or not 0 < density <= 1:
            raise UsageError(f"density={density!r}", "expected a share of entries above 0 and at most 1")
        if method == "ties" and any(w < 0 for w in weights):
            raise UsageError("weights", "are to be at least 0 with ties, whose signs are elected")
        self.adapters, self.weights = list(adapters), list(weights)
        self.method, self.density, self.seed = method, density, seed
        self.like: Mapping[str, Module] = common_modules(adapters)
        self.sources = describe(adapters, weights)

    def _parts(self, name: str) -> list[tuple[int, float, Module]]:
        return [
            (place, weight, adapter.modules[name].as_kind(self.like[name].kind))
            for place, (adapter, weight) in enumerate(zip(self.adapters, self.weights, strict=True))
            if name in adapter.modules and weight
        ]

    def dense(self, name: str) -> Floats:
        """Return the combined update of a module, (m, n)."""
        updates, weights = [], []
        for place, weight, module in self._parts(name):
            left, right = module.product()
            update = left @ right
            if self.method == "ties":
                updates.append(weight * _largest(update, self.density))
            else:
                draw = _generator(self.seed, name, place).random(update.shape) < self.density
                updates.append(weight * np.where(draw, update, 0.0) / self.density)
            weights.append(weight)
        if not updates:
            return np.zeros(self.like[name].shape)
        if self.method == "dare":
            return np.asarray(np.sum(updates, axis=0))
        return _elected(updates, weights)

    def core(self, name: str) -> DenseCore:
        values = spectrum(dense := self.dense(name)).values
        noise = np.finfo(np.float64).eps * max(dense.shape) * values.max(initial=0.0)
        return DenseCore(Spectrum(values[values > noise]))

    def cut(self, name: str, core: DenseCore, rank: int) -> tuple[Floats, Floats]:
        return svd(self.dense(name), rank=rank).factors()

    def bias(self, name: str) -> Floats | None:
        return summed_bias([(weight, module) for _, weight, module in self._parts(name)])

    def release(self) -> None:
        for adapter in self.adapters:
            adapter.release()


def _largest(update: Floats, density: float) -> Floats:
    """Keep the largest entries by magnitude; of equal ones at the edge, the first in row order."""
    keep = max(1, round(density * update.size))
    if keep >= update.size:
        return update
    flat = np.abs(update).reshape(-1)
    chosen = np.argpartition(-flat, keep - 1)[:keep]
    edge = flat[chosen].min()
    above = flat > edge
    ties = np.flatnonzero(flat == edge)[: keep - int(above.sum())]
    above[ties] = True
    return np.where(above.reshape(update.shape), update, 0.0)


def _elected(updates: list[Floats], weights: list[float]) -> Floats:
    """Add the entries whose sign is that of the sum, weighed so that agreement loses nothing."""
    stack = np.stack(updates)
    sign = np.sign(stack.sum(axis=0))
    agrees = (np.sign(stack) == sign) & (sign != 0)
    shares = np.array(weights)[:, None, None]
    weight = (agrees * shares).sum(axis=0)
    total = np.where(agrees, stack, 0.0).sum(axis=0)
    merged: Floats = np.divide(total, weight, out=np.zeros_like(total), where=weight > 0) * sum(weights)
    return merged


def _generator(seed: int, name: str, place: int) -> np.random.Generator:
    """Return a generator that depends on the seed, the module and the adapter, and on nothing else."""
    digest = hashlib.sha256(f"{seed}:{place}:{name}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "little"))
