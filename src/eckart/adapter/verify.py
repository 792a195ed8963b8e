"""Recompute an adapter's error from three sets of files alone, and compare it with what is stated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from eckart.adapter.adapter import Module
from eckart.adapter.peft import read_peft
from eckart.adapter.statement import relative
from eckart.checkpoint import to_float
from eckart.checkpoint.mapping import map_tensor
from eckart.errors import AdapterError
from eckart.store.delta import name_non_finite
from eckart.store.fill import Source, Sources

# A stated error is a float64 sum over factors of float32 matrices; a measured one subtracts the
# product itself. They agree to about 1e-5 of the error; 1e-6 is what float32 leaves of an exact fit.
TOLERANCE = 2e-4
FLOOR = 2e-6

BLOCK = 1 << 21  # numbers of an update held at a time


@dataclass(frozen=True)
class Verified:
    """One module: the error measured from the files, and the one that was stated."""

    name: str
    rank: int
    error: float
    stated: float | None
    update: float

    @property
    def holds(self) -> bool:
        """Whether the stated error is the measured one, to rounding."""
        if self.stated is None:
            return True
        return abs(self.error - self.stated) <= TOLERANCE * self.error + FLOOR


@dataclass(frozen=True)
class Verification:
    """Every module's error, the error of all together, and statements without a module."""

    modules: tuple[Verified, ...]
    error: float
    stated: float | None
    problems: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """Whether every statement holds."""
        whole = Verified("", 0, self.error, self.stated, 0.0)
        return not self.problems and whole.holds and all(m.holds for m in self.modules)


def verify(
    base: str | Path,
    tuned: str | Path,
    adapter: str | Path,
    progress: Callable[[int, int, str], None] | None = None,
) -> Verification:
    """Measure ||(tuned - base) - B A||_F / ||tuned - base||_F for every module of an adapter.

    Parameters
    ----------
    base, tuned : path
        Checkpoints.
    adapter : path
        A PEFT adapter, of Eckart or of anyone.
    progress : callable, optional
        Called with (done, total, name).

    Raises
    ------
    AdapterError
        If a module of the adapter is not in the checkpoints, or has another shape.

    Notes
    -----
    Reads the files block by block and uses nothing that extraction left behind. The product is
    formed in float32 and the squares are summed in float64: 2mnr flops a module.
    """
    sources = Sources.open(base, tuned)
    loaded = read_peft(adapter)
    stated = loaded.statement.get("modules", {})
    by_module = {s.name.removesuffix(".weight"): s for s in sources.tensors}
    results = []
    left_out = whole = 0.0
    for done, module in enumerate(loaded, 1):
        source = _source(module, by_module, stated, str(adapter))
        if source.kind == "conv1d":
            module = module.transposed("conv1d")
        if module.shape != source.shape:
            raise AdapterError(
                f"{adapter}: {module.name}",
                f"factors make {module.shape[0]} x {module.shape[1]}, the checkpoints hold "
                f"{' x '.join(map(str, source.shape))}",
                "Name the base that the adapter was made for",
            )
        missed, energy = _measure(source, module)
        says = stated.get(module.name, {})
        if "tied" not in says:
            left_out += missed
            whole += energy
        results.append(
            Verified(
                module.name, module.rank, relative(missed, energy), says.get("error"), float(np.sqrt(energy))
            )
        )
        if progress is not None:
            progress(done, len(loaded), module.name)
    problems = [f"{name} is stated and not in the file" for name in stated if name not in loaded.modules]
    problems += _dense_problems(loaded.dense, sources)
    return Verification(
        tuple(results), relative(left_out, whole), loaded.statement.get("error"), tuple(problems)
    )


def _source(module: Module, by_module: dict[str, Source], stated: dict[str, Any], where: str) -> Source:
    name = stated.get(module.name, {}).get("tied", module.name)
    if name not in by_module:
        raise AdapterError(
            f"{where}: {module.name}",
            "is not a tensor of both checkpoints",
            "Name the base that the adapter was made for",
        )
    return by_module[name]


def _measure(source: Source, module: Module) -> tuple[float, float]:
    """Return ||dW - left right||_F^2 and ||dW||_F^2, a block of rows at a time."""
    assert source.base is not None
    ours, theirs = map_tensor(source.tuned), map_tensor(source.base)
    left, right = module.float_factors()
    rows, columns = source.shape
    step = max(1, BLOCK // columns)
    missed = energy = 0.0
    for start in range(0, rows, step):
        stop = min(start + step, rows)
        update = _float(ours[start:stop]) - _float(theirs[start:stop])
        energy += float((update.astype(np.float64) ** 2).sum())
        update -= left[start:stop] @ right
        missed += float((update.astype(np.float64) ** 2).sum())
    if not np.isfinite(missed):
        name_non_finite(source.tuned, source.rows)
        name_non_finite(source.base, source.rows)
        raise AdapterError(module.name, "the update or its factors overflow float32")
    return missed, energy


def _float(block: Any) -> Any:
    return np.array(to_float(block))


def _dense_problems(dense: dict[str, Any], sources: Sources) -> list[str]:
    """Say which whole tensors are not those of the tuned checkpoint."""
    tuned = {s.name: s.tuned.name for s in sources.tensors}
    problems = []
    for name, array in dense.items():
        if name not in tuned:
            problems.append(f"{name} is not a tensor of the tuned checkpoint")
        elif not np.array_equal(to_float(array), to_float(sources.tuned.map(tuned[name]))):
            problems.append(f"{name} is not what the tuned checkpoint holds")
    return problems
