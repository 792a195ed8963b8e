"""Weight updates that a new adapter is made from: the interface, and the weighted sum of adapters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np

from eckart.adapter.adapter import Adapter, Module, Rows
from eckart.adapter.statement import SourceStatement
from eckart.arguments import argument
from eckart.arrays import Array, Floats
from eckart.checks import is_number
from eckart.errors import AdapterError, UsageError
from eckart.linalg import Spectrum
from eckart.linalg.routes.product import Product, ProductCore
from eckart.linalg.routes.tall import Tall
from eckart.text import count


class Core(Protocol):
    """The part of a factored update that is kept until its rank is chosen."""

    @property
    def spectrum(self) -> Spectrum:
        """The nonzero singular values of the update."""


CoreT = TypeVar("CoreT", bound=Core)


class Updates(Protocol[CoreT]):
    """Updates by module name, factored first and cut once all ranks are chosen."""

    @property
    def modules(self) -> Mapping[str, Module]:
        """A module for every update, with the update's shape, kind and window; its rank may differ."""

    @property
    def sources(self) -> tuple[SourceStatement, ...]:
        """The adapters that the updates come from, for the statement."""

    def core(self, name: str) -> CoreT:
        """Factor one update."""

    def cut(self, name: str, core: CoreT, rank: int) -> tuple[Floats, Floats]:
        """Return U sqrt(S) (m, rank) and sqrt(S) V^T (rank, n) of the leading components of an update."""

    def bias(self, name: str) -> Floats | None:
        """Return the update of the module's bias, or None if it has none."""

    def release(self) -> None:
        """Free the memory of mapped files that were read."""


class WeightedSum:
    """The exact weighted sum of adapters: their factors side by side.

    Parameters
    ----------
    adapters : sequence of Adapter
    weights : sequence of float, optional
        One for each adapter, 1 by default. Negative weights subtract.
    threads : int
        Threads that work on one module. The result does not depend on them.

    Raises
    ------
    AdapterError
        If two adapters update a module with different shapes.
    UsageError
        If the weights are not one finite number for each adapter, or are all 0.

    Notes
    -----
    sum_i w_i s_i B_i A_i = [w_1 s_1 B_1, w_2 s_2 B_2, ...] [A_1; A_2; ...]. The adapters may differ in ranks,
    targets, alphas and rsLoRA. The only error is float64 rounding, and B A is never formed.
    """

    def __init__(
        self, adapters: Sequence[Adapter], weights: Sequence[float] | None = None, threads: int = 1
    ) -> None:
        weights = [1.0] * len(adapters) if weights is None else list(weights)
        check_weights(adapters, weights)
        self.adapters, self.weights, self.threads = list(adapters), weights, threads
        self.modules = common_modules(adapters)
        self.sources = describe(adapters, weights)

    def parts(self, name: str) -> list[tuple[float, Module]]:
        """Return each adapter's module of this name with its weight, oriented as in the first adapter."""
        kind = self.modules[name].kind
        return [
            (weight, adapter.modules[name].as_kind(kind))
            for adapter, weight in zip(self.adapters, self.weights, strict=True)
            if name in adapter.modules and weight
        ]

    def product(self, name: str) -> Product:
        """Return one update as a product: B (m, sum of ranks), A (sum of ranks, n), and weights between."""
        return side_by_side(self.parts(name) or [(0.0, self.modules[name])])

    def core(self, name: str) -> ProductCore:
        return ProductCore.of(self.product(name), self.threads)

    def distance(self, name: str, module: Module) -> float:
        """Return ||D - scale B A||_F^2 between the sum D and a module, from the factors of both."""
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
    """Return the weighted sum of modules of one shape as one product of their factors, without a copy."""
    return Product(
        Tall([m.left for _, m in parts]),
        Tall([m.right.T for _, m in parts]),
        np.concatenate([np.full(m.rank, weight * m.scale) for weight, m in parts]),
    )


def summed_bias(parts: Sequence[tuple[float, Module]]) -> Floats | None:
    """Return the weighted sum of the biases' updates. PEFT scales a bias as it scales B A."""
    biases = [weight * m.scale * m.bias.astype(np.float64) for weight, m in parts if m.bias is not None]
    return np.sum(biases, axis=0) if biases else None


def common_modules(adapters: Sequence[Adapter]) -> dict[str, Module]:
    """Return every module of any adapter by name, taken from the first adapter that has it."""
    modules: dict[str, Module] = {}
    for adapter in adapters:
        for name, module in adapter.modules.items():
            first = modules.setdefault(name, module)
            if (first.shape, first.window) != (module.as_kind(first.kind).shape, module.window):
                raise AdapterError(
                    f"{adapter.path}: {name}",
                    f"the update has shape {module.shape} here, but {first.shape} in an earlier adapter",
                    "Combine adapters of one base",
                )
    return modules


def refuse_single(adapters: object) -> None:
    """Raise if one adapter was passed where a list of them is expected; a path would be read by letters."""
    if isinstance(adapters, (str, Path, Adapter)):
        raise UsageError("adapters", "expected a list of adapters, got one", "Pass a list: [adapter]")


def check_weights(adapters: Sequence[object], weights: Sequence[float]) -> None:
    """Raise `UsageError` unless the weights are one finite number for each adapter, and not all 0."""
    for weight in weights:
        if not is_number(weight):
            raise UsageError(argument("weights", list(weights)), f"expected finite numbers, found {weight!r}")
    if len(weights) != len(adapters):
        raise UsageError(
            argument("weights"), f"expected one for each of {count(adapters, 'adapter')}, got {len(weights)}"
        )
    if not any(weights):
        raise UsageError(argument("weights"), "all weights are 0; the result would be empty")


def describe(adapters: Sequence[Adapter], weights: Sequence[float]) -> tuple[SourceStatement, ...]:
    """Return the adapters that a new one is made from, for its statement."""
    return tuple(
        SourceStatement(str(adapter.path or "in memory"), float(weight), adapter.parameters)
        for adapter, weight in zip(adapters, weights, strict=True)
    )


def common_dense(adapters: Sequence[Adapter]) -> dict[str, Array]:
    """Return the whole tensors of several adapters; raise if two adapters hold different ones of a name."""
    dense: dict[str, Array] = {}
    for adapter in adapters:
        for name, array in adapter.dense.items():
            if name in dense and not np.array_equal(dense[name], array):
                raise AdapterError(
                    f"{adapter.path}: {name}",
                    "two adapters save this tensor whole with different values, which cannot be added",
                    "Merge one adapter into the base first, or remove its modules_to_save",
                )
            dense[name] = array
    return dense


def common_rows(adapters: Sequence[Adapter]) -> dict[str, Rows]:
    """Return the new table rows of several adapters; raise if two adapters hold different ones of a table."""
    tables: dict[str, Rows] = {}
    for adapter in adapters:
        for name, rows in adapter.rows.items():
            first = tables.setdefault(name, rows)
            if first.indices != rows.indices or not np.array_equal(first.values, rows.values):
                raise AdapterError(
                    f"{adapter.path}: {name}",
                    "two adapters hold different new rows of this table, which cannot be added",
                    "Merge one adapter into the base first",
                )
    return tables
