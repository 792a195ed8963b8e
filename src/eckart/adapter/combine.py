"""Combine: the weighted sum of adapters, exactly, then cut to the ranks of a rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from eckart.adapter.adapter import Adapter, Module
from eckart.adapter.formats import load_adapter
from eckart.adapter.formats.write import Tell
from eckart.adapter.interference import Interference
from eckart.adapter.layout import Layout, Wish
from eckart.adapter.resize import Recut, dtype_of, refuse_same_place, rule_of, second_half
from eckart.adapter.updates import Updates, WeightedSum, common_dense
from eckart.checkpoint import Checkpoint
from eckart.errors import AdapterError, UsageError
from eckart.rank import RankRule


@dataclass(frozen=True)
class Overlap:
    """How the updates that two adapters give one module lie to each other.

    Parameters
    ----------
    name : str
        Module.
    first, second : int
        The adapters' places.
    left, right : float
        Mean of cos^2 of the principal angles between their column spaces (what they write) and their
        row spaces (what they read): 1 if one space holds the other, 0 if they are orthogonal, and
        about r / d for two random spaces of r in d dimensions.
    cosine : float
        Of the two updates taken as vectors: <D_1, D_2> / (|D_1| |D_2|).
    """

    name: str
    first: int
    second: int
    left: float
    right: float
    cosine: float


def overlaps(adapters: Sequence[Adapter]) -> list[Overlap]:
    """Measure how far the subspaces of adapters overlap, module by module.

    Notes
    -----
    Principal angles by the SVD of Q_1^T Q_2 (Bjorck and Golub, 1973, equation 6) from bases of the
    factors, in float64. The mean is over as many angles as the smaller space has dimensions.
    """
    found = []
    for second, b in enumerate(adapters):
        for first, a in enumerate(adapters[:second]):
            for name, module in a.modules.items():
                if name in b.modules:
                    other = b.modules[name].as_kind(module.kind)
                    found.append(_overlap(name, first, second, module, other))
            a.release()
        b.release()
    return found


def _overlap(name: str, first: int, second: int, one: Module, two: Module) -> Overlap:
    (B1, A1), (B2, A2) = one.product(), two.product()
    inner = float(((B1.T @ B2) * (A1 @ A2.T)).sum())
    norms = [float(((B.T @ B) * (A @ A.T)).sum()) for B, A in ((B1, A1), (B2, A2))]
    cosine = inner / np.sqrt(norms[0] * norms[1]) if min(norms) > 0 else 0.0
    return Overlap(name, first, second, _shared(B1, B2), _shared(A1.T, A2.T), float(np.clip(cosine, -1, 1)))


def _shared(X: np.ndarray, Y: np.ndarray) -> float:
    """Return the mean cos^2 of the principal angles between two column spaces."""
    bases = []
    for M in (X, Y):
        U, s, _ = np.linalg.svd(M, full_matrices=False)
        bases.append(
            U[:, s > s[0] * np.finfo(np.float64).eps * max(M.shape)] if s.size and s[0] else U[:, :0]
        )
    dimensions = min(bases[0].shape[1], bases[1].shape[1])
    if not dimensions:
        return 0.0
    return float(min((bases[0].T @ bases[1]).__pow__(2).sum() / dimensions, 1.0))


@dataclass(frozen=True)
class Combined:
    """What `combine_to` did."""

    path: Path
    recut: Recut
    statement: dict[str, Any]
    overlaps: list[Overlap]
    notes: tuple[str, ...] = ()


def combine(
    adapters: Sequence[Adapter | str | Path],
    weights: Sequence[float] | None = None,
    *,
    method: str = "sum",
    density: float = 0.5,
    seed: int = 0,
    rule: RankRule | None = None,
    dtype: str | None = None,
    **wishes: Any,
) -> Adapter:
    """Combine adapters in memory; without a rule, the sum is exact.

    Parameters
    ----------
    adapters : sequence of Adapter or path
        Of any formats, ranks, targets and alphas, for one base.
    weights : sequence of float, optional
        1 for each by default; negative ones subtract.
    method : {"sum", "ties", "dare"}
        ``sum`` is exact in factor space; the others need each update formed, see `Interference`.
    density, seed
        Of ties and dare.
    rule : RankRule, optional
        Or its words: ``rank=16``. Every component by default.
    dtype : {"F32", "F16", "BF16", "F64"}, optional
        That of the first adapter by default.

    Examples
    --------
    ``eckart.combine([a, b], [0.5, 0.5], rank=16).save("both")``
    """
    loaded = [a if isinstance(a, Adapter) else load_adapter(a) for a in adapters]
    recut = _recut(loaded, weights, method, density, seed, rule, dtype, (), None, None, None, wishes)
    return recut.adapter()


def combine_to(
    adapters: Sequence[Adapter | str | Path],
    out: str | Path,
    weights: Sequence[float] | None = None,
    *,
    method: str = "sum",
    density: float = 0.5,
    seed: int = 0,
    rule: RankRule | None = None,
    dtype: str | None = None,
    format: str | None = None,
    consumers: Wish = (),
    base: str | Path | None = None,
    overwrite: bool = False,
    workers: int | None = None,
    progress: Tell | None = None,
    **wishes: Any,
) -> Combined:
    """Combine adapters on disk; as `combine`, with `resize`'s way of writing.

    Returns
    -------
    Combined
        With what the cut left out, and how the adapters overlap.
    """
    loaded = [a if isinstance(a, Adapter) else load_adapter(a) for a in adapters]
    refuse_same_place(out, loaded)
    recut = _recut(
        loaded, weights, method, density, seed, rule, dtype, consumers, base, workers, progress, wishes
    )
    recut.write(out, format, overwrite=overwrite, workers=workers, progress=second_half(progress))
    notes = [note for a in loaded for note in a.notes] + recut.layout.notes
    return Combined(Path(out), recut, recut.statement(), overlaps(loaded), tuple(notes))


def _recut(
    adapters: list[Adapter],
    weights: Sequence[float] | None,
    method: str,
    density: float,
    seed: int,
    rule: RankRule | None,
    dtype: str | None,
    consumers: Wish,
    base: str | Path | None,
    workers: int | None,
    progress: Tell | None,
    wishes: dict[str, Any],
) -> Recut:
    if not adapters:
        raise UsageError("combine", "expected at least one adapter, got none")
    first = adapters[0]
    for other in adapters[1:]:
        if other.components != first.components and set(other.components).isdisjoint(first.components):
            raise AdapterError(
                str(other.path), "belongs to another kind of model than the first adapter",
                "Combine adapters that were made for one base",
            )  # fmt: skip
    shares = [1.0] * len(adapters) if weights is None else list(weights)
    model = Checkpoint.open(base) if base is not None else None
    prepared = [Layout.prepare(a, consumers, model) for a in adapters]
    laid_out = [a for _, a in prepared]
    layout = _joined([layout for layout, _ in prepared])
    dropped = [replace(a, modules=each.dropped) for a, (each, _) in zip(adapters, prepared, strict=True)]
    sums = WeightedSum(dropped, shares)
    layout.lost = {name: sums.core(name).spectrum.total for name in sums.like}
    updates: Updates
    if method == "sum":
        updates = WeightedSum(laid_out, shares)
    else:
        updates = Interference(laid_out, shares, method, density, seed)
    if rule is None and not wishes and method != "sum":
        raise UsageError(f"--method {method}", "makes an update of full rank", "Give a rule, e.g. --rank 16")
    if rule is None and not wishes:
        rule = RankRule.of(rank=sum(max((m.rank for m in a), default=0) for a in laid_out))
    components = tuple(dict.fromkeys(c for a in adapters for c in a.components))
    like = replace(laid_out[0], dense=common_dense(laid_out), components=components, unknown={})
    return Recut(updates, rule_of(rule, wishes), dtype_of(dtype, first), like, layout, workers, progress)


def _joined(layouts: list[Layout]) -> Layout:
    """Return one layout for the sum of adapters, with all but the modules that was left out of any."""
    result = layouts[0]
    for other in layouts[1:]:
        result.whole = tuple(dict.fromkeys(result.whole + other.whole))
        result.biases += other.biases
        result.notes += [note for note in other.notes if note not in result.notes]
    return result
