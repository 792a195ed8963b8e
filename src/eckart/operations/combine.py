"""Combine: the exact weighted sum of adapters (or TIES or DARE), cut to the ranks of a rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

from eckart.adapter.adapter import Adapter
from eckart.adapter.formats import load_adapter
from eckart.adapter.formats.peft.origin import joined_origin
from eckart.adapter.formats.peft.whole import joined_config
from eckart.adapter.updates import (
    Updates,
    WeightedSum,
    check_weights,
    common_dense,
    common_rows,
    refuse_single,
)
from eckart.arguments import argument
from eckart.checkpoint.model import open_model
from eckart.checks import check_choice
from eckart.errors import AdapterError, UsageError
from eckart.operations.cut import CutJob, check_rule, factor_dtype, run_cut
from eckart.operations.destination import Destination
from eckart.operations.interference import Interference, check_method
from eckart.operations.new_adapter import NewAdapter
from eckart.parallel import OnProgress, threads_each
from eckart.rank import Rank, RankRule, RuleOptions, rule_from
from eckart.serving.consumers import ConsumerNames
from eckart.serving.layout import Layout
from eckart.text import listing

METHODS = ("sum", "ties", "dare")
DENSITY = 0.5  # share of the entries that TIES and DARE keep by default


class Combined(NewAdapter):
    """The result of `combine`; see `NewAdapter` for its fields."""


def combine(
    adapters: Sequence[Adapter | str | Path],
    out: str | Path | None = None,
    weights: Sequence[float] | None = None,
    *,
    method: str = "sum",
    density: float = DENSITY,
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
    """Add adapters with weights, and cut the sum to the ranks of a rule.

    Parameters
    ----------
    adapters : sequence of Adapter, str or Path
        Adapters of one base, or their paths. Formats, ranks, targets and alphas may differ.
    out : str or Path, optional
        Where to write: a folder for PEFT's format, a ``.safetensors`` file for the others. Nothing is written
        if anything fails. Without `out` the result stays in memory.
    weights : sequence of float, optional
        One for each adapter, 1 by default. Negative weights subtract.
    method : {"sum", "ties", "dare"}
        ``sum`` is exact and works on the factors. The others form each update, see `Interference`.
    density : float
        Share of the entries that TIES and DARE keep.
    seed : int
        Random seed for DARE.
    rule : RankRule, optional
        How ranks are chosen. By default a sum keeps every component. TIES and DARE need a rule.
    dtype : str, optional
        Dtype of the new factors in any common spelling, e.g. ``"bf16"``; that of the first adapter by
        default.
    format : {"peft", "kohya", "diffusers"}, optional
        Format to write. That of the first adapter by default, or one that all consumers read.
    consumers : str or sequence of str
        Programs that must load the result correctly, e.g. ``"vllm,llama.cpp"``.
    base : str or Path, optional
        The base model. Consumers may need it to know which layers exist.
    overwrite : bool
        Whether to replace an existing adapter.
    workers : int, optional
        Modules in work at once; one per core by default. The result does not depend on it.
    progress : callable, optional
        Called with a `Progress` after each module.
    **options
        The rule as keyword arguments instead of `rule`: ``rank=16``, ``energy=0.99``, ``budget="2M"``, and
        bounds such as ``max_rank=64``.

    Returns
    -------
    Combined

    Raises
    ------
    InputError
        If an argument is wrong, the adapters do not fit together, their sum is zero, or the result cannot be
        written.

    Notes
    -----
    The cost per module is (m + n) r^2 flops, where r is the sum of the ranks, in float64. B A is never formed
    for a sum. The stated error is relative to the sum before the cut, and is measured on the rounded factors.

    Examples
    --------
    ``eckart.combine(["a", "b"], "both", [0.7, 0.3], rank=16)`` writes an adapter, and
    ``eckart.combine(["a", "b"]).adapter`` is the exact sum in memory.
    """
    refuse_single(adapters)
    if not adapters:
        raise UsageError("combine", "expected at least one adapter, got none")
    shares = [1.0] * len(adapters) if weights is None else list(weights)
    check_weights(adapters, shares)
    method = check_choice(method, "method", METHODS)
    if method != "sum":
        check_method(method, density, shares)
    elif density != DENSITY or seed:
        raise UsageError(
            "combine",
            "density and seed apply to TIES and DARE only, and the method is sum",
            f"Use {argument('method', 'ties')} or {argument('method', 'dare')}, or remove them",
        )
    has_rule = rule is not None or bool(options)
    if not has_rule and method != "sum":
        raise UsageError(
            argument("method", method),
            "the result has full rank, so a rule is needed",
            f"Use for example {argument('rank', 16)}",
        )
    if has_rule:
        rule = rule_from(rule, options)
        check_rule(rule)
    sources = [a if isinstance(a, Adapter) else load_adapter(a) for a in adapters]
    _refuse_different_models(sources)
    new_dtype = factor_dtype(dtype, sources[0])
    model = open_model(base) if base is not None else None
    prepared = [Layout.prepare(source, consumers, model) for source in sources]
    arranged = [adapter for _, adapter in prepared]
    layout = _joined_layout([layout for layout, _ in prepared], sources, shares)
    updates: Updates[Any]  # the two classes keep different data between the passes
    if method == "sum":
        updates = WeightedSum(arranged, shares, threads_each(max(map(len, arranged)), workers))
    else:
        updates = Interference(arranged, shares, method, density=density, seed=seed)
    job: CutJob[Any] = CutJob(
        updates=updates,
        rule=rule or Rank(sum(max((m.rank for m in a), default=0) for a in arranged)),
        dtype=new_dtype,
        # Again, for the joined layout: a copy of the base in one adapter may be a new tensor in another.
        template=layout.stripped(_template(sources, arranged, shares)),
        layout=layout,
    )
    destination = Destination(out, format, overwrite)
    destination.check(job.template, layout, [source.path for source in sources])
    return run_cut(job, destination, Combined, workers, progress)


def _refuse_different_models(adapters: list[Adapter]) -> None:
    """Raise if an adapter belongs to another kind of model than the first."""
    first = adapters[0].components
    for other in adapters[1:]:
        if other.components != first and set(other.components).isdisjoint(first):
            raise AdapterError(
                str(other.path),
                "this adapter belongs to another kind of model than the first one",
                "Combine adapters of one base",
            )


def _joined_layout(layouts: list[Layout], adapters: list[Adapter], weights: list[float]) -> Layout:
    """Return the layout of the sum, which leaves out what the layout of any adapter leaves out."""
    left_out = [
        replace(adapter, modules=dict(layout.modules_left_out))
        for adapter, layout in zip(adapters, layouts, strict=True)
    ]
    sums = WeightedSum(left_out, weights)
    return Layout.joined(layouts, {name: sums.core(name).spectrum.total for name in sums.modules})


def _template(adapters: list[Adapter], arranged: list[Adapter], weights: list[float]) -> Adapter:
    """Return everything but the modules of the new adapter."""
    notes = [note for adapter in adapters for note in adapter.notes]
    notes += [f"{listing(a.unknown, 'tensor')} left out of the sum" for a in adapters if a.unknown]
    added = [adapter for adapter, weight in zip(arranged, weights, strict=True) if weight]
    return replace(
        arranged[0],
        dense=common_dense(added),
        rows=common_rows(added),
        components=tuple(dict.fromkeys(part for adapter in adapters for part in adapter.components)),
        unknown={},
        config=joined_config([adapter.config for adapter in arranged]),
        origin=joined_origin(adapter.origin for adapter in arranged),
        notes=tuple(notes),
    )
