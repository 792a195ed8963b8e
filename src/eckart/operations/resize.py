"""Resize: adapters cut to other ranks by a rule, exactly, without ever forming B A."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import Any, Unpack

import numpy as np

from eckart.adapter.adapter import Adapter, Module, set_resize
from eckart.adapter.formats import load_adapter, make_writer, write_adapter, written_format
from eckart.adapter.rounding import relative, rounded, rounded_factors, stored_error
from eckart.adapter.statement import ModuleStatement, Statement, versions
from eckart.adapter.updates import Core, Floats, Updates, WeightedSum
from eckart.checkpoint import DTYPES, Checkpoint, refuse_overlap
from eckart.checkpoint.dtypes import ADAPTER_DTYPES
from eckart.errors import AdapterError, UsageError
from eckart.parallel import OnProgress, Progress, half_of, map_unordered, threads_each
from eckart.rank import Candidate, RankPlan, RankRule, RuleOptions, make_plan, rule_from
from eckart.serving.consumers import ConsumerNames
from eckart.serving.layout import Applied, Layout


class Recut:
    """Updates cut to the ranks of a rule and rounded to a dtype, one module at a time.

    Parameters
    ----------
    updates : Updates
    rule : RankRule
    dtype : dtype
        Of the new factors.
    like : Adapter
        Gives everything but the modules.
    layout : Layout, optional
        What consumers need; see `eckart.serving.layout`.
    workers, progress
        As for `write_adapter`.

    Notes
    -----
    The first pass factors every update and keeps its singular values and two small matrices
    (`ProductCore`); ranks are chosen from all of them together; the second pass, driven by whoever
    asks for `module`, cuts, rounds and measures.
    """

    def __init__(
        self,
        updates: Updates,
        rule: RankRule,
        dtype: np.dtype[Any],
        like: Adapter,
        layout: Layout | None = None,
        workers: int | None = None,
        progress: OnProgress | None = None,
    ) -> None:
        if rule.needs_noise_floor:
            raise UsageError(
                "--noise-floor",
                "needs the two checkpoints that an adapter was made from",
                "Use eckart extract",
            )
        if rule.needs_base_size:
            raise UsageError(
                rule.describe(),
                "is a share of the base, which an adapter does not hold",
                "Use parameters (2M) or bytes (8MB)",
            )
        self.updates, self.dtype, self.like = updates, dtype, like
        self.layout = layout or Layout()
        names = list(updates.like)
        found: dict[str, Core] = {}
        for name, core in map_unordered(lambda n: (n, updates.core(n)), names, workers):
            found[name] = core
            updates.release()
            if progress is not None:
                progress(Progress(len(found), 2 * len(names), name))
        self.cores = {name: found[name] for name in names}
        candidates = [self._candidate(name) for name in names]
        if not any(c.spectrum.total for c in candidates):
            raise AdapterError(str(like.path or "adapter"), "holds no update: every B A is zero")
        self.plan: RankPlan = make_plan(candidates, self.layout.bounded(rule), 0, dtype.itemsize)
        self.rule = rule
        self.applied = self._applied(rule)
        self.outlines = self.applied.modules
        self.stated: dict[str, ModuleStatement] = {}
        self._lost: dict[str, float] = {}
        self._lock = Lock()

    def _candidate(self, name: str) -> Candidate:
        spectrum = self.cores[name].spectrum
        # A rank beyond the update's own adds nothing but zeros, so that is where its spectrum ends.
        known = type(spectrum)(spectrum.values) if len(spectrum) else spectrum
        return Candidate(name, self.updates.like[name].shape, known)

    def _applied(self, rule: RankRule) -> Applied:
        ranks = {name: rank for name, rank in self.plan.ranks.items() if rank}
        if not ranks:
            raise AdapterError("plan", "gives every module rank 0, so that nothing is left", "Ask for more")
        if rule.uniform:
            ranks = dict.fromkeys(ranks, max(ranks.values()))
        outlines = {}
        for name, rank in ranks.items():
            like = self.updates.like[name]
            bias = self.updates.bias(name)
            module = like.of_rank(rank, self.dtype)
            outlines[name] = replace(module, bias=None if bias is None else rounded(bias, self.dtype))
        return self.layout.applied(outlines, self.updates.like)

    def module(self, name: str) -> Module:
        """Cut, round and measure one module; may be called from several threads."""
        outline = self.outlines[name]
        if name not in self.plan.ranks or not self.plan.ranks[name]:  # one that the layout added
            return replace(outline, left=np.array(outline.left), right=np.array(outline.right))
        exact = self.updates.cut(name, self.cores[name], self.plan.ranks[name])
        left, right = rounded_factors(exact, self.dtype, name)
        module = replace(outline, left=left, right=right)
        self._measure(name, exact, module)
        self.updates.release()
        return module.padded(outline.rank)

    def _measure(self, name: str, exact: tuple[Floats, Floats], module: Module) -> None:
        spectrum = self.cores[name].spectrum
        whole = spectrum.total
        lost = stored_error(exact, float(spectrum.left[module.rank]), module)
        # Numbers so small that float16 holds them with few digits break the estimate's assumption.
        coarse = (
            module.dtype == np.float16 and min(np.abs(f).max() for f in (module.left, module.right)) < 2**-8
        )
        if coarse and isinstance(self.updates, WeightedSum):
            lost = self.updates.distance(name, module)
        with self._lock:
            self._lost[name] = lost
            self.stated[name] = ModuleStatement(module.rank, relative(lost, whole), float(np.sqrt(whole)))

    def statement(self) -> Statement:
        """Say what was made and how far it is from what it was made of, once all modules were asked for."""
        lost = sum(self._lost[name] for name in self.cores if name in self._lost)  # in one order always
        whole = sum(core.spectrum.total for core in self.cores.values())
        dropped = {n: self.cores[n].spectrum.total for n in self.cores if n not in self._lost}
        of_layout = sum(energy for energy in self.layout.energy_left_out.values())
        return Statement(
            error=relative(lost + sum(dropped.values()) + of_layout, whole + of_layout),
            parameters=sum(m.parameters for m in self.outlines.values()),
            modules={name: self.stated[name] for name in self.updates.like if name in self.stated},
            dtype=self.dtype.name,
            rule=self.plan.rule,
            plan=self.plan.to_json(),
            sources=self.updates.sources,
            left_out=tuple(sorted(n for n, energy in dropped.items() if energy)),
            layout=self.layout.statement(self.applied, self.dtype, self.plan.parameters),
            versions=versions(),
        )

    def target(self) -> Adapter:
        """Return the adapter to be, its modules as outlines."""
        kept = replace(self.like, modules=self.outlines, statement=None)
        return self.layout.stripped(kept)

    def adapter(self) -> Adapter:
        """Return the adapter in memory."""
        made = {m.name: m for m in map_unordered(self.module, self.outlines)}
        modules = {name: made[name] for name in self.outlines}
        return replace(self.target(), modules=modules, statement=self.statement(), files=[], path=None)

    def write(self, out: str | Path, format: str | None = None, **how: Any) -> None:
        """Write the adapter, holding a few modules at a time."""
        target = self.target()
        chosen = format or self.layout.format or written_format(target)
        if self.layout.consumers and chosen not in self.layout.formats:
            raise UsageError(
                f"--format {chosen}",
                f"is not read by all of them; {' and '.join(self.layout.formats)} would be",
            )
        for consumer in self.layout.consumers:
            varied = len({m.rank for m in target}) > 1  # alpha = r, so that alphas vary as ranks do
            if chosen in consumer.one_alpha_in and varied:
                best = consumer.formats[0]
                raise UsageError(
                    f"--format {chosen}", f"with ranks that vary is read wrong by {consumer.title}",
                    f"Write --format {best}, or --uniform",
                )  # fmt: skip
        writer = make_writer(target, chosen)
        write_adapter(out, writer, self.module, statement=self.statement, **how)


@dataclass(frozen=True)
class Resized:
    """What `resize` or `combine` did."""

    path: Path
    recut: Recut
    statement: Statement
    notes: tuple[str, ...] = ()


def resize_to(
    adapter: str | Path | Adapter,
    out: str | Path,
    *,
    rule: RankRule | None = None,
    dtype: str | None = None,
    format: str | None = None,
    consumers: ConsumerNames = (),
    base: str | Path | None = None,
    overwrite: bool = False,
    workers: int | None = None,
    progress: OnProgress | None = None,
    **options: Unpack[RuleOptions],
) -> Resized:
    """Cut an adapter to other ranks, and state the error.

    Parameters
    ----------
    adapter : path or Adapter
    out : path
        A folder for PEFT's format, a ``.safetensors`` file for others; made whole or not at all.
    rule : RankRule, optional
        Or as keyword arguments: ``rank=8``, ``energy=0.99``, ``budget="2M"`` (see `RuleOptions`).
    dtype : {"F32", "F16", "BF16", "F64"}, optional
        The adapter's own by default.
    format : {"peft", "kohya", "diffusers"}, optional
        The adapter's own by default.
    consumers : sequence of str
        Programs that must compute the update right, e.g. ``["vllm", "llama.cpp"]``.
    base : path, optional
        The base model, which tells what layers there are; only consulted for consumers.

    Returns
    -------
    Resized

    Notes
    -----
    QR of B, QR of A^T and the SVD of an r x r core, in float64: B A is never formed. An update of
    rank 1 stays of rank 1, and a rank beyond its own adds nothing. The error is that of the rounded
    factors, relative to the update that was there.
    """
    loaded = adapter if isinstance(adapter, Adapter) else load_adapter(adapter)
    refuse_overlap(out, [loaded.path])
    recut = recut_one(loaded, rule, dtype, consumers, base, workers, progress, **options)
    recut.write(out, format, overwrite=overwrite, workers=workers, progress=half_of(progress, second=True))
    return Resized(Path(out), recut, recut.statement(), (*loaded.notes, *recut.applied.notes))


def recut_one(
    adapter: Adapter,
    rule: RankRule | None = None,
    dtype: str | None = None,
    consumers: ConsumerNames = (),
    base: str | Path | None = None,
    workers: int | None = None,
    progress: OnProgress | None = None,
    **options: Unpack[RuleOptions],
) -> Recut:
    """Prepare the resizing of one adapter; its modules are cut as they are asked for."""
    model = Checkpoint.open(base) if base is not None else None
    layout, laid_out = Layout.prepare(adapter, consumers, model)
    updates = WeightedSum([laid_out], threads=threads_each(len(laid_out), workers))
    return Recut(
        updates, rule_from(rule, options), dtype_of(dtype, adapter), laid_out,
        layout, workers, progress,
    )  # fmt: skip


def _resized(adapter: Adapter, **options: Any) -> Adapter:
    return recut_one(adapter, **options).adapter()


set_resize(_resized)


def dtype_of(name: str | None, adapter: Adapter) -> np.dtype[Any]:
    """Return the dtype asked for, or that of the adapter; factors in float8 become bfloat16."""
    if name is None:
        return adapter.dtype if adapter.dtype.itemsize > 1 else DTYPES["BF16"]
    if name not in ADAPTER_DTYPES:
        raise UsageError(f"dtype={name!r}", f"expected one of {', '.join(ADAPTER_DTYPES)}")
    return DTYPES[name]


__all__ = ["Recut", "Resized", "recut_one", "resize_to"]
