"""Updates: where the low-rank matrices of a new adapter come from, one module at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from eckart.adapter.adapter import Adapter, Module, Rows
from eckart.adapter.statement import SourceStatement
from eckart.checks import is_number
from eckart.errors import AdapterError, UsageError
from eckart.linalg import Spectrum
from eckart.linalg.routes.product import Product, ProductCore
from eckart.linalg.routes.tall import Tall

Floats = NDArray[np.float64]


class Core(Protocol):
    """What is kept of an update between choosing its rank and cutting it."""

    @property
    def spectrum(self) -> Spectrum:
        """All its singular values that are not zero."""


class Updates(Protocol):
    """Updates by module name."""

    @property
    def like(self) -> Mapping[str, Module]:
        """The modules as they are in shape and kind."""

    @property
    def sources(self) -> tuple[SourceStatement, ...]:
        """What they are made of, for the statement."""

    def core(self, name: str) -> Core:
        """Factor one update."""

    def cut(self, name: str, core: Any, rank: int) -> tuple[Floats, Floats]:
        """Return B' = U sqrt(S) and A' = sqrt(S) V^T of its leading components, once all ranks are chosen."""

    def bias(self, name: str) -> Floats | None:
        """Return the update of the module's bias."""

    def release(self) -> None:
        """Give back memory of files that were read."""


class WeightedSum:
    """The sum of adapters, each times its weight, exactly: factors side by side.

    Parameters
    ----------
    adapters : sequence of Adapter
    weights : sequence of float, optional
        1 for each by default; negative ones subtract.
    threads : int
        For the work on one module; they change no byte of the result.

    Raises
    ------
    AdapterError
        If two adapters give one module different shapes.

    Notes
    -----
    sum_i w_i s_i B_i A_i = [w_1 s_1 B_1, w_2 s_2 B_2, ...] [A_1; A_2; ...]. Ranks, targets, alphas and
    rsLoRA may differ; nothing but rounding in float64 is lost, and no B A is formed.
    """

    def __init__(
        self, adapters: Sequence[Adapter], weights: Sequence[float] | None = None, threads: int = 1
    ) -> None:
        weights = [1.0] * len(adapters) if weights is None else list(weights)
        check_weights(adapters, weights)
        self.adapters, self.weights, self.threads = list(adapters), weights, threads
        self.like = common_modules(adapters)
        self.sources = describe(adapters, weights)

    def parts(self, name: str) -> list[tuple[float, Module]]:
        """Return the weighted modules of that name, in the orientation of the first."""
        found = [
            (weight, adapter.modules[name])
            for adapter, weight in zip(self.adapters, self.weights, strict=True)
            if name in adapter.modules and weight
        ]
        return [(weight, module.as_kind(self.like[name].kind)) for weight, module in found]

    def product(self, name: str) -> Product:
        """Return the factors side by side, B (m, sum of ranks) and A (sum of ranks, n), and their weights."""
        return side_by_side(self.parts(name) or [(0.0, self.like[name])])

    def core(self, name: str) -> ProductCore:
        return ProductCore.of(self.product(name), self.threads)

    def distance(self, name: str, module: Module) -> float:
        """Return ||D - scale B A||_F^2 between the sum and a module, from the factors of both."""
        both = side_by_side([*self.parts(name), (-1.0, module)])
        return ProductCore.of(both).spectrum.total

    def cut(self, name: str, core: ProductCore, rank: int) -> tuple[Floats, Floats]:
        return core.factors(self.product(name), rank, self.threads)

    def bias(self, name: str) -> Floats | None:
        return summed_bias(self.parts(name))

    def release(self) -> None:
        for adapter in self.adapters:
            adapter.release()


def side_by_side(parts: Sequence[tuple[float, Module]]) -> Product:
    """Return the weighted sum of modules of one shape as one product of their factors, as they are stored."""
    return Product(
        Tall([m.left for _, m in parts]),
        Tall([m.right.T for _, m in parts]),
        np.concatenate([np.full(m.rank, weight * m.scale) for weight, m in parts]),
    )


def summed_bias(parts: Sequence[tuple[float, Module]]) -> Floats | None:
    """Return the weighted sum of the biases' updates; PEFT scales a bias as it scales B A."""
    biases = [weight * m.scale * m.bias.astype(np.float64) for weight, m in parts if m.bias is not None]
    return np.sum(biases, axis=0) if biases else None


def common_modules(adapters: Sequence[Adapter]) -> dict[str, Module]:
    """Return every module of some adapter by name, as the first that has it gives it."""
    modules: dict[str, Module] = {}
    for adapter in adapters:
        for name, module in adapter.modules.items():
            seen = modules.setdefault(name, module)
            if (seen.shape, seen.window) != (module.as_kind(seen.kind).shape, module.window):
                raise AdapterError(
                    f"{adapter.path}: {name}",
                    f"updates a weight of shape {module.shape}, and an adapter before it {seen.shape}",
                    "Combine adapters that were made for one base",
                )
    return modules


def check_weights(adapters: Sequence[Adapter], weights: Sequence[float]) -> None:
    """Raise if weights are not one finite number for each adapter."""
    for weight in weights:
        if not is_number(weight):
            raise UsageError(f"--weights {list(weights)}", f"expected finite numbers, found {weight!r}")
    if len(weights) != len(adapters):
        raise UsageError(
            "--weights", f"expected one for each of {len(adapters)} adapters, got {len(weights)}"
        )
    if not any(weights):
        raise UsageError("--weights", "are all 0, so that nothing is left")


def describe(adapters: Sequence[Adapter], weights: Sequence[float]) -> tuple[SourceStatement, ...]:
    """Return what a new adapter is made of, for its statement."""
    return tuple(
        SourceStatement(str(a.path or "in memory"), float(w), a.parameters)
        for a, w in zip(adapters, weights, strict=True)
    )


def common_dense(adapters: Sequence[Adapter]) -> dict[str, Any]:
    """Return the whole tensors of several adapters; refuse two that differ."""
    dense: dict[str, Any] = {}
    for adapter in adapters:
        for name, array in adapter.dense.items():
            if name in dense and not np.array_equal(dense[name], array):
                raise AdapterError(
                    f"{adapter.path}: {name}",
                    "is saved whole in two adapters, and differs; whole tensors cannot be added",
                    "Merge one of them into the base first, or leave out its modules_to_save",
                )
            dense[name] = array
    return dense


def common_rows(adapters: Sequence[Adapter]) -> dict[str, Rows]:
    """Return the new rows of tables of several adapters; refuse two adapters that give one table others."""
    found: dict[str, Rows] = {}
    for adapter in adapters:
        for name, rows in adapter.rows.items():
            seen = found.setdefault(name, rows)
            if seen.indices != rows.indices or not np.array_equal(seen.values, rows.values):
                raise AdapterError(
                    f"{adapter.path}: {name}",
                    "has new rows in two adapters, and they differ; they cannot be added",
                    "Merge one of them into the base first",
                )
    return found
