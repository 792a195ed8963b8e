"""Cut weight updates to the ranks of a rule, in two passes, without ever forming B A.

The first pass (`factor_updates`) factors every update, keeps its singular values and two small matrices,
and chooses all ranks together. The second pass (`CutPass`) cuts, rounds and measures one module at a time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import Generic, TypeVar

import numpy as np

from eckart.adapter.adapter import Adapter, Module
from eckart.adapter.formats import make_writer, write_adapter
from eckart.adapter.rounding import relative, rounded, rounded_factors, stored_error
from eckart.adapter.statement import ModuleStatement, Statement, versions
from eckart.adapter.updates import CoreT, Updates, WeightedSum
from eckart.arguments import argument
from eckart.arrays import DType, Floats
from eckart.checkpoint import DTYPES, parse_dtype
from eckart.checkpoint.dtypes import ADAPTER_DTYPES
from eckart.errors import AdapterError, UsageError
from eckart.linalg import Spectrum
from eckart.operations.destination import Destination
from eckart.operations.new_adapter import NewAdapter, RankRange
from eckart.parallel import OnProgress, Progress, half_of, map_unordered
from eckart.rank import Candidate, RankPlan, RankRule, make_plan
from eckart.rank.dense import notes_on_dense
from eckart.serving.layout import Applied, Layout

ResultT = TypeVar("ResultT", bound=NewAdapter)

# The estimate of a rounding error assumes that float16 factors have all their digits. Below this magnitude
# some are subnormal, and the error is measured from the factors instead.
SUBNORMAL_RISK = 2.0**-8


@dataclass(frozen=True)
class CutJob(Generic[CoreT]):
    """Everything that a cut depends on.

    Parameters
    ----------
    updates : Updates
        The updates to cut.
    rule : RankRule
        How ranks are chosen.
    dtype : dtype
        Dtype of the new factors.
    template : Adapter
        Gives the new adapter everything but its modules and its statement. It holds only what the consumers
        load, see `Layout.stripped`.
    layout : Layout
        The requirements of the consumers.
    """

    updates: Updates[CoreT]
    rule: RankRule
    dtype: DType
    template: Adapter
    layout: Layout


@dataclass(frozen=True)
class FactoredUpdates(Generic[CoreT]):
    """The result of the first pass: factored updates, and a rank for each.

    Parameters
    ----------
    job : CutJob
    cores : mapping of str to Core
        The factored updates, by module name.
    plan : RankPlan
        Every rank, with the reason for it.
    applied : Applied
        The modules to write, in the form that the consumers need. They have their final shapes and dtypes,
        but hold no numbers except biases.
    """

    job: CutJob[CoreT]
    cores: Mapping[str, CoreT]
    plan: RankPlan
    applied: Applied

    @property
    def outlines(self) -> Mapping[str, Module]:
        """The modules to write, without their numbers."""
        return self.applied.modules


@dataclass(frozen=True)
class Measured:
    """One module as it is stored, compared with the update that it was cut from.

    Parameters
    ----------
    rank : int
        Before padding.
    lost_energy : float
        ||D - scale B A||_F^2, rounding included.
    energy : float
        ||D||_F^2.
    """

    rank: int
    lost_energy: float
    energy: float


def check_rule(rule: RankRule) -> None:
    """Raise `UsageError` if a rule needs the checkpoints, which an adapter does not hold."""
    if rule.needs_noise_floor:
        raise UsageError(
            argument("noise_floor", True),
            "the noise floor is computed from the two checkpoints that an adapter was extracted from",
            "Use eckart extract, or another rule",
        )
    if rule.needs_base_size:
        raise UsageError(
            rule.describe(),
            "a share of the base needs the base, which an adapter does not hold",
            "Use a number of parameters (2M) or bytes (8MB)",
        )


def factor_dtype(name: str | None, adapter: Adapter) -> DType:
    """Return the dtype of the new factors.

    Parameters
    ----------
    name : str, optional
        A dtype in any common spelling.
    adapter : Adapter
        Gives the dtype if there is no name; float8 factors become bfloat16.

    Raises
    ------
    UsageError
        If `name` is not a dtype that adapters are written in.
    """
    if name is None:
        return adapter.dtype if adapter.dtype.itemsize > 1 else DTYPES["BF16"]
    return DTYPES[parse_dtype(name, ADAPTER_DTYPES)]


def factor_updates(
    job: CutJob[CoreT], workers: int | None = None, progress: OnProgress | None = None
) -> FactoredUpdates[CoreT]:
    """Factor every update and choose all ranks: the first pass.

    Parameters
    ----------
    job : CutJob
    workers : int, optional
        Modules to factor at once; one per core by default.
    progress : callable, optional
        Called with a `Progress` after each module.

    Raises
    ------
    AdapterError
        If every update is zero, or every module would get rank 0.
    UsageError
        If the rule selects no module, or its budget is too small.
    """
    updates = job.updates
    names = list(updates.modules)
    finished: dict[str, CoreT] = {}
    for name, core in map_unordered(lambda name: (name, updates.core(name)), names, workers):
        finished[name] = core
        updates.release()
        if progress is not None:
            progress(Progress(len(finished), len(names), name, noun="module"))
    cores = {name: finished[name] for name in names}
    # The spectrum ends at the update's own rank: components beyond it are zeros.
    candidates = [
        Candidate(name, updates.modules[name].shape, Spectrum(core.spectrum.values))
        for name, core in cores.items()
    ]
    if not any(candidate.spectrum.total for candidate in candidates):
        where = str(job.template.path or "adapter")
        raise AdapterError(where, "the adapter holds no update: every B A is zero")
    plan = make_plan(candidates, job.layout.bounded(job.rule), 0, job.dtype.itemsize)
    applied = job.layout.applied(_outlines(job, plan), updates.modules)
    return FactoredUpdates(job, cores, plan, applied)


def _outlines(job: CutJob[CoreT], plan: RankPlan) -> dict[str, Module]:
    """Return the outlines of the modules that get a rank."""
    ranks = {name: rank for name, rank in plan.ranks.items() if rank}
    if not ranks:
        raise AdapterError(
            "rank rule", "this rule gives every module rank 0", "Choose a rule that keeps more"
        )
    if job.rule.uniform:
        # The plan gives an update of a smaller rank only that rank; zeros fill it up to the shared one.
        ranks = dict.fromkeys(ranks, max(ranks.values()))
    outlines = {}
    for name, rank in ranks.items():
        bias = job.updates.bias(name)
        outline = job.updates.modules[name].of_rank(rank, job.dtype)
        outlines[name] = replace(outline, bias=None if bias is None else rounded(bias, job.dtype))
    return outlines


class CutPass(Generic[CoreT]):
    """The second pass: cuts, rounds and measures modules, from any number of threads.

    Parameters
    ----------
    factored : FactoredUpdates
        The result of the first pass.
    """

    def __init__(self, factored: FactoredUpdates[CoreT]) -> None:
        self.factored = factored
        self._measured: dict[str, Measured] = {}
        self._lock = Lock()

    def module(self, name: str) -> Module:
        """Return one module of the new adapter."""
        job, outline = self.factored.job, self.factored.outlines[name]
        rank = self.factored.plan.ranks.get(name, 0)
        if not rank:  # zeros that the layout added
            return replace(outline, left=np.array(outline.left), right=np.array(outline.right))
        exact = job.updates.cut(name, self.factored.cores[name], rank)
        left, right = rounded_factors(exact, job.dtype, name)
        module = replace(outline, left=left, right=right)
        measured = self._measure(name, exact, module)
        with self._lock:
            self._measured[name] = measured
        job.updates.release()
        return module.padded(outline.rank)

    def _measure(self, name: str, exact: tuple[Floats, Floats], module: Module) -> Measured:
        updates, spectrum = self.factored.job.updates, self.factored.cores[name].spectrum
        if isinstance(updates, WeightedSum) and _may_be_subnormal(module):
            lost_energy = updates.distance(name, module)
        else:
            lost_energy = stored_error(exact, float(spectrum.tails[module.rank]), module)
        return Measured(module.rank, lost_energy, spectrum.total)

    def statement(self) -> Statement:
        """Return the statement of the new adapter. Call this after `module` was called for every module."""
        return self._statement(self._measured)

    def draft(self) -> Statement:
        """Return the statement with the right modules and ranks, and with numbers in place of the errors."""
        ranks = {name: outline.rank for name, outline in self.factored.outlines.items()}
        planned = self.factored.plan.ranks
        return self._statement({n: Measured(rank, 0.0, 1.0) for n, rank in ranks.items() if planned.get(n)})

    def _statement(self, of_modules: Mapping[str, Measured]) -> Statement:
        factored, job = self.factored, self.factored.job
        energies = {name: core.spectrum.total for name, core in factored.cores.items()}
        # In the order of the modules, so that sums do not depend on the order of the threads.
        measured = {name: of_modules[name] for name in energies if name in of_modules}
        dropped = {name: energy for name, energy in energies.items() if name not in measured}
        unread = sum(job.layout.energy_left_out.values())
        lost_energy = sum(each.lost_energy for each in measured.values()) + sum(dropped.values()) + unread
        modules = {
            name: ModuleStatement(
                each.rank, relative(each.lost_energy, each.energy), float(np.sqrt(each.energy))
            )
            for name, each in measured.items()
        }
        return Statement(
            error=relative(lost_energy, sum(energies.values()) + unread),
            parameters=sum(module.parameters for module in factored.outlines.values()),
            modules=modules,
            dtype=job.dtype.name,
            rule=factored.plan.rule,
            plan=factored.plan.to_json(),
            sources=job.updates.sources,
            left_out=tuple(sorted(name for name, energy in dropped.items() if energy)),
            layout=job.layout.statement(factored.applied, job.dtype, factored.plan.parameters),
            versions=versions(),
        )


def _may_be_subnormal(module: Module) -> bool:
    """Whether some float16 factors may have lost digits because they are subnormal."""
    if module.dtype != np.float16:
        return False
    return bool(min(np.abs(factor).max() for factor in (module.left, module.right)) < SUBNORMAL_RISK)


def run_cut(
    job: CutJob[CoreT],
    destination: Destination,
    result: type[ResultT],
    workers: int | None = None,
    progress: OnProgress | None = None,
) -> ResultT:
    """Run both passes, and write the new adapter or keep it in memory.

    Parameters
    ----------
    job : CutJob
    destination : Destination
        Already checked, see `Destination.check`.
    result : type
        `NewAdapter`, or a class derived from it.
    workers : int, optional
        Modules in work at once; one per core by default.
    progress : callable, optional
        Called with a `Progress` after each module; both passes together are one task.

    Returns
    -------
    NewAdapter
        An instance of `result`.

    Raises
    ------
    InputError
        See `factor_updates`. Also if a factor overflows the dtype, or the adapter cannot be written. Nothing
        is written then.
    """
    factored = factor_updates(job, workers, half_of(progress, second=False))
    second_pass, second_progress = CutPass(factored), half_of(progress, second=True)
    target = replace(job.template, modules=dict(factored.outlines), statement=None)
    path = adapter = None
    notes = target.notes
    if destination.path is None:
        adapter = _in_memory(second_pass, target, workers, second_progress)
    else:
        path = Path(destination.path)
        destination.refuse_misread_alphas(target, job.layout)
        writer = make_writer(target, destination.format_for(target, job.layout))
        notes += writer.notes
        write_adapter(
            path,
            writer,
            second_pass.module,
            statement=second_pass.statement,
            draft=second_pass.draft(),
            overwrite=destination.overwrite,
            workers=workers,
            progress=second_progress,
        )
    return result(
        path=path,
        statement=second_pass.statement(),
        notes=(
            *notes,
            *factored.applied.notes,
            *notes_on_dense(factored.outlines.values(), job.dtype.itemsize),
        ),
        ranks=RankRange.of(factored.outlines),
        in_memory=adapter,
    )


def _in_memory(
    second_pass: CutPass[CoreT], target: Adapter, workers: int | None, progress: OnProgress | None
) -> Adapter:
    """Run the second pass and return the adapter."""

    def work(name: str) -> tuple[str, Module]:
        return name, second_pass.module(name)

    modules: dict[str, Module] = {}
    for name, module in map_unordered(work, target.modules, workers):
        modules[name] = module
        if progress is not None:
            progress(Progress(len(modules), len(target), name, noun="module"))
    ordered = {name: modules[name] for name in target.modules}
    return replace(target, modules=ordered, statement=second_pass.statement(), files=(), path=None)
