"""TIES and DARE: merging methods that drop entries of the updates before adding them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from eckart.adapter.adapter import Adapter, Module
from eckart.adapter.updates import check_weights, common_modules, describe, summed_bias
from eckart.arguments import argument
from eckart.arrays import Floats
from eckart.checks import is_number
from eckart.errors import UsageError
from eckart.linalg import Spectrum, spectrum, svd


@dataclass(frozen=True)
class DenseCore:
    """The spectrum of an update whose entries were computed.

    Parameters
    ----------
    spectrum : Spectrum
        The nonzero singular values.
    """

    spectrum: Spectrum


class Interference:
    """The combination of adapters by TIES or DARE, entry by entry.

    Parameters
    ----------
    adapters : sequence of Adapter
    weights : sequence of float
        One for each adapter; for TIES none may be negative.
    method : {"ties", "dare"}
    density : float
        Share of the entries of each update to keep, above 0 and at most 1.
    seed : int
        Random seed for DARE. The draws also depend on the module's name and the adapter's position.

    Raises
    ------
    UsageError
        If the method is unknown, or the density or a weight is out of range.
    AdapterError
        If two adapters update a module with different shapes.

    Notes
    -----
    Each update scale * B A is formed in float64, one module at a time: m n numbers. A module costs one SVD
    of an m x n matrix for its spectrum, and another for its factors once the ranks are chosen. PEFT applies
    these methods to A and to B separately, which gives a different result.

    TIES (Yadav et al., 2023, arXiv:2306.01708, section 4) keeps the entries of largest magnitude in each
    update. The sign of each entry of the result is that of the weighted sum, and its value is the weighted
    mean of the kept entries with that sign, times the sum of all weights. For one adapter and density 1, the
    result is the adapter times its weight. DARE (Yu et al., 2023, arXiv:2311.03099, equation 2) keeps each
    entry with probability `density`, divides it by `density`, and adds the updates.
    """

    def __init__(
        self, adapters: Sequence[Adapter], weights: Sequence[float], method: str, *, density: float, seed: int
    ) -> None:
        check_weights(adapters, weights)
        check_method(method, density, weights)
        self.adapters, self.weights = list(adapters), list(weights)
        self.method, self.density, self.seed = method, density, seed
        self.modules: Mapping[str, Module] = common_modules(adapters)
        self.sources = describe(adapters, weights)

    def _parts(self, name: str) -> list[tuple[int, float, Module]]:
        """Return each adapter's module of this name, with the adapter's position and weight."""
        kind = self.modules[name].kind
        return [
            (position, weight, adapter.modules[name].as_kind(kind))
            for position, (adapter, weight) in enumerate(zip(self.adapters, self.weights, strict=True))
            if name in adapter.modules and weight
        ]

    def dense(self, name: str) -> Floats:
        """Return the combined update of a module, (m, n)."""
        updates, weights = [], []
        for position, weight, module in self._parts(name):
            left, right = module.product()
            update = left @ right  # (m, n)
            if self.method == "ties":
                updates.append(weight * _largest(update, self.density))
            else:
                kept = _generator(self.seed, name, position).random(update.shape) < self.density
                updates.append(weight * np.where(kept, update, 0.0) / self.density)
            weights.append(weight)
        if not updates:
            return np.zeros(self.modules[name].shape)
        if self.method == "dare":
            return np.asarray(np.sum(updates, axis=0))
        return _mean_of_agreeing(updates, weights)

    def core(self, name: str) -> DenseCore:
        dense = self.dense(name)
        values = spectrum(dense).values
        noise = np.finfo(np.float64).eps * max(dense.shape) * values.max(initial=0.0)
        return DenseCore(Spectrum(values[values > noise]))

    def cut(self, name: str, core: DenseCore, rank: int) -> tuple[Floats, Floats]:
        return svd(self.dense(name), rank=rank).factors()

    def bias(self, name: str) -> Floats | None:
        return summed_bias([(weight, module) for _, weight, module in self._parts(name)])

    def release(self) -> None:
        for adapter in self.adapters:
            adapter.release()


def check_method(method: str, density: float, weights: Sequence[float]) -> None:
    """Raise `UsageError` if a setting of TIES or DARE is out of range."""
    if not is_number(density) or not 0 < density <= 1:
        raise UsageError(f"density={density!r}", "expected a share of the entries, above 0 and at most 1")
    if method == "ties" and any(weight < 0 for weight in weights):
        raise UsageError(
            argument("weights"),
            f"TIES needs non-negative weights, got {list(weights)}",
            f"Use {argument('method', 'sum')} or {argument('method', 'dare')}",
        )


def _largest(update: Floats, density: float) -> Floats:
    """Keep the entries of largest magnitude; among equal entries at the limit, the first in row order."""
    keep = max(1, round(density * update.size))
    if keep >= update.size:
        return update
    magnitudes = np.abs(update).reshape(-1)
    chosen = np.argpartition(-magnitudes, keep - 1)[:keep]
    limit = magnitudes[chosen].min()
    kept = magnitudes > limit
    equal = np.flatnonzero(magnitudes == limit)[: keep - int(kept.sum())]
    kept[equal] = True
    return np.where(kept.reshape(update.shape), update, 0.0)


def _mean_of_agreeing(updates: list[Floats], weights: list[float]) -> Floats:
    """Return the weighted mean of the entries with the sign of their sum, times the sum of all weights."""
    stack = np.stack(updates)  # (k, m, n), weighted
    sign = np.sign(stack.sum(axis=0))
    agrees = (np.sign(stack) == sign) & (sign != 0)
    shares = np.array(weights)[:, None, None]
    weight = (agrees * shares).sum(axis=0)
    total = np.where(agrees, stack, 0.0).sum(axis=0)
    mean: Floats = np.divide(total, weight, out=np.zeros_like(total), where=weight > 0)
    return mean * sum(weights)


def _generator(seed: int, name: str, position: int) -> np.random.Generator:
    """Return a generator that depends only on the seed, the module and the adapter's position."""
    digest = hashlib.sha256(f"{seed}:{position}:{name}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "little"))
