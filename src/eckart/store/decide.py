"""From a store to a final plan; only tensors of which the rule needs more are factored again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Unpack

from eckart.arrays import DType
from eckart.checkpoint.dtypes import ADAPTER_DTYPES, DTYPES
from eckart.linalg import Goal
from eckart.rank import Candidate, RankPlan, RankRule, RuleOptions, make_plan, rule_from
from eckart.store.demands import bounds_of
from eckart.store.fill import fill, reopen
from eckart.store.options import DEFAULT, PassOptions
from eckart.store.record import NOISE_FLOOR, Demand
from eckart.store.sources import ALL_KINDS, LORA_KINDS, Sources
from eckart.store.store import FactorStore
from eckart.text import count, preview


def candidates(store: FactorStore, embeddings: bool = False) -> list[Candidate]:
    """Return the tensors of a store that an adapter can hold.

    Parameters
    ----------
    store : FactorStore
        The store.
    embeddings : bool
        Whether to include embedding tables.

    Returns
    -------
    list of Candidate
        In the order of the store.
    """
    kinds = ALL_KINDS if embeddings else LORA_KINDS
    return [
        Candidate(
            record.name, (record.shape[0], record.shape[1]), store.spectrum(record.name), record.noise_floor
        )
        for record in store
        if record.kind in kinds and record.is_matrix
    ]


def decide(
    store: FactorStore,
    rule: RankRule,
    *,
    embeddings: bool = False,
    bytes_each: int | None = None,
    sources: Sources | None = None,
    notify: Callable[[str], None] | None = None,
    options: PassOptions = DEFAULT,
) -> tuple[FactorStore, RankPlan]:
    """Apply a rule to a store, and read the checkpoints again for what the store does not hold.

    Parameters
    ----------
    store : FactorStore
        The store to plan from, and to fill further if necessary.
    rule : RankRule
        The rule, with its bounds.
    embeddings : bool
        Whether to plan embedding tables too.
    bytes_each : int, optional
        Bytes per number in the adapter, for a budget in bytes. By default, the size of `adapter_dtype`.
    sources : PairSources or SingleSources, optional
        The checkpoints, if they are already open.
    notify : callable, optional
        Called with a one-line message when tensors must be factored again.
    options : PassOptions
        How the pass runs.

    Returns
    -------
    (FactorStore, RankPlan)
        The store, which may hold more than before, and the final plan.

    Raises
    ------
    UsageError
        If the rule selects no tensor or cannot be met.
    StoreError, CheckpointError
        If more of a tensor must be factored, but the checkpoints have changed or are missing.
    """
    size = bytes_each or adapter_dtype(store).itemsize
    asked: dict[str, Demand] = {}
    while True:
        plan = make_plan(candidates(store, embeddings), rule, store.base_parameters, size)
        goals = dict(plan.undecided)
        for name, rank in plan.ranks.items():
            if rank > store.record(name).rank and name not in goals:
                goals[name] = Goal("rank", rank)
        demands = {name: _demand(store, rule, name, goal) for name, goal in goals.items()}
        for name, demand in demands.items():
            if name in asked:
                demands[name] = _last_request(demand, asked[name])
        asked |= demands
        if not demands:
            return store, plan
        if notify is not None:
            notify(
                f"factoring {len(demands)} of {count(plan.ranks, 'tensor')} again, to a higher rank: "
                f"{preview(demands)}"
            )
        sources = sources or reopen(store)
        store = fill(sources, store.path, demands, options)


def _last_request(demand: Demand, before: Demand) -> Demand:
    """Widen a demand on a tensor that this command has factored again already, so that this time is the last.

    A rule for all tensors together, such as a budget, learns step by step how much of each it needs. From the
    second time on, every singular value is computed, which decides the rank, and twice as many components are
    kept as seem to be needed.
    """
    goal = demand.goal
    if goal == before.goal or goal is None:  # the same request was not enough before, so ask for everything
        goal = Goal("full")
    elif goal.kind == "rank" and not before.whole:
        goal = Goal("rank", 2 * goal.value)
    return replace(demand, goal=goal, whole=True)


def _demand(store: FactorStore, rule: RankRule, name: str, goal: Goal) -> Demand:
    """Return what a pass must learn about a tensor, so that it reaches a goal."""
    if rule.needs_noise_floor and store.record(name).noise_floor is None:
        return Demand(NOISE_FLOOR, noise=True, bounds=bounds_of(rule))
    return Demand(goal, noise=rule.needs_noise_floor, bounds=bounds_of(rule))


def plan(
    store: FactorStore | str | Path, rule: RankRule | None = None, **options: Unpack[RuleOptions]
) -> RankPlan:
    """Choose a rank for every tensor of a store.

    Parameters
    ----------
    store : FactorStore or path
        A store that `factor` filled.
    rule : RankRule, optional
        For example ``eckart.Energy(0.9)``.
    **options
        The rule and its bounds as keyword arguments instead, for example ``energy=0.9, max_rank=64``.

    Returns
    -------
    RankPlan

    Raises
    ------
    UsageError
        If there is not exactly one rule, or it selects no tensor.
    StoreError, CheckpointError
        If more of a tensor must be factored, but the checkpoints have changed or are missing.

    Notes
    -----
    This takes milliseconds if the store holds what the rule needs. Otherwise, the tensors concerned are
    factored again from the checkpoints.

    Examples
    --------
    ``eckart.plan(store, energy=0.9)``, ``eckart.plan("store", eckart.Budget("1%", multiple_of=8))``.
    """
    chosen = rule_from(rule, options)
    opened = store if isinstance(store, FactorStore) else FactorStore.open(store)
    return decide(opened, chosen)[1]


def adapter_dtype(tensors: FactorStore | Sources) -> DType:
    """Return the default dtype of an adapter: the dtype of most matrix entries of the tuned checkpoint.

    Where that is not a dtype for adapters, the default is bfloat16. For example, float8 is too coarse.

    Parameters
    ----------
    tensors : FactorStore, PairSources or SingleSources
        A store, or the checkpoints themselves; both give the same answer.
    """
    if isinstance(tensors, FactorStore):
        entries = [(record.tuned_dtype, record.shape) for record in tensors]
    else:
        entries = [(source.tuned.dtype, source.shape) for source in tensors.tensors]
    sizes: dict[str, int] = {}
    for dtype, shape in entries:
        if len(shape) == 2:
            sizes[dtype] = sizes.get(dtype, 0) + shape[0] * shape[1]
    usual = max(sizes, key=lambda dtype: sizes[dtype], default="F32")
    return DTYPES[usual if usual in ADAPTER_DTYPES else "BF16"]
