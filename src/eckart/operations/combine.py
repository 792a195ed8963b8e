"""Combine: the weighted sum of adapters, exactly, then cut to the ranks of a rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Unpack

from eckart.adapter.adapter import Adapter
from eckart.adapter.formats import load_adapter
from eckart.adapter.formats.peft.whole import joined_config
from eckart.adapter.statement import Statement
from eckart.adapter.updates import Updates, WeightedSum, common_dense, common_rows
from eckart.checkpoint import Checkpoint, refuse_overlap
from eckart.errors import AdapterError, UsageError
from eckart.operations.interference import Interference
from eckart.operations.overlap import Overlap, overlaps
from eckart.operations.resize import Recut, dtype_of
from eckart.parallel import OnProgress, half_of, threads_each
from eckart.rank import Rank, RankRule, RuleOptions, rule_from
from eckart.serving.consumers import ConsumerNames
from eckart.serving.layout import Layout
from eckart.text import listing


@dataclass(frozen=True)
class Combined:
    """What `combine_to` did."""

    path: Path
    recut: Recut
    statement: Statement
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
    **options: Unpack[RuleOptions],
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
        Or as keyword arguments: ``rank=16``. Every component by default.
    dtype : {"F32", "F16", "BF16", "F64"}, optional
        That of the first adapter by default.

    Examples
    --------
    ``eckart.combine([a, b], [0.5, 0.5], rank=16).save("both")``
    """
    loaded = [a if isinstance(a, Adapter) else load_adapter(a) for a in adapters]
    recut = _recut(loaded, weights, method, density, seed, rule, dtype, (), None, None, None, options)
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
    consumers: ConsumerNames = (),
    base: str | Path | None = None,
    overwrite: bool = False,
    workers: int | None = None,
    progress: OnProgress | None = None,
    **options: Unpack[RuleOptions],
) -> Combined:
    """Combine adapters on disk; as `combine`, with `resize`'s way of writing.

    Returns
    -------
    Combined
        With what the cut left out, and how the adapters overlap.
    """
    loaded = [a if isinstance(a, Adapter) else load_adapter(a) for a in adapters]
    refuse_overlap(out, [a.path for a in loaded])
    recut = _recut(
        loaded, weights, method, density, seed, rule, dtype, consumers, base, workers, progress, options
    )
    recut.write(out, format, overwrite=overwrite, workers=workers, progress=half_of(progress, second=True))
    notes = [note for a in loaded for note in a.notes] + list(recut.applied.notes)
    notes += [f"{listing(a.unknown, 'tensor')} left out of the sum" for a in loaded if a.unknown]
    return Combined(Path(out), recut, recut.statement(), overlaps(loaded, workers), tuple(notes))


def _recut(
    adapters: list[Adapter],
    weights: Sequence[float] | None,
    method: str,
    density: float,
    seed: int,
    rule: RankRule | None,
    dtype: str | None,
    consumers: ConsumerNames,
    base: str | Path | None,
    workers: int | None,
    progress: OnProgress | None,
    options: RuleOptions,
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
    left_out = [
        replace(a, modules=dict(each.modules_left_out))
        for a, (each, _) in zip(adapters, prepared, strict=True)
    ]
    sums = WeightedSum(left_out, shares)
    energies = {name: sums.core(name).spectrum.total for name in sums.like}
    layout = Layout.joined([each for each, _ in prepared], energies)
    updates: Updates
    if method == "sum":
        updates = WeightedSum(laid_out, shares, threads_each(max(map(len, laid_out)), workers))
    else:
        updates = Interference(laid_out, shares, method, density, seed)
    if rule is None and not options and method != "sum":
        raise UsageError(f"--method {method}", "makes an update of full rank", "Give a rule, e.g. --rank 16")
    if rule is None and not options:
        rule = Rank(sum(max((m.rank for m in a), default=0) for a in laid_out))
    components = tuple(dict.fromkeys(c for a in adapters for c in a.components))
    whole = [a for a, share in zip(laid_out, shares, strict=True) if share]
    like = replace(
        laid_out[0], dense=common_dense(whole), rows=common_rows(whole), components=components, unknown={},
        config=joined_config([a.config for a in laid_out]),
    )  # fmt: skip
    return Recut(updates, rule_from(rule, options), dtype_of(dtype, first), like, layout, workers, progress)
