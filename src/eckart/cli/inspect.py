"""`eckart inspect`: the spectra of a fine-tune, of one checkpoint, or of an adapter."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from eckart.adapter.formats import is_adapter
from eckart.cli import console
from eckart.cli import options as opt
from eckart.errors import UsageError
from eckart.operations.inspect import AdapterSummary, inspect_adapter
from eckart.store import FactorStore
from eckart.store.demands import whole_demands
from eckart.store.estimate import Estimate, estimate
from eckart.store.fill import fill
from eckart.store.options import PassOptions
from eckart.store.sources import PairSources, SingleSources
from eckart.store.summary import ENERGIES, LayerSummary, diagnose, summarise
from eckart.text import count

# The columns that give the rank of a share of the energy, of layers and of modules alike.
RANKS = [f"r{e:.0%}".rstrip("%") for e in ENERGIES]


def inspect(
    base: Annotated[
        Path,
        typer.Argument(help="The base checkpoint, a single checkpoint, or an adapter.", show_default=False),
    ],
    tuned: Annotated[
        Path | None, typer.Argument(help="The fine-tuned checkpoint, or an adapter.", show_default=False)
    ] = None,
    store: Annotated[
        Path | None,
        typer.Option("--store", help="Use this factor store, or create and keep it.", show_default=False),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Read headers only, and estimate the cost of a pass.")
    ] = False,
    workers: opt.Workers = None,
    device: opt.Device = "cpu",
    quiet: opt.Quiet = False,
    json: opt.Json = False,
) -> None:
    """Show the size and the spectrum of every layer's update, and the rank that each share of energy needs.

    Examples: **eckart inspect base/ tuned/** · **eckart inspect base/ tuned/ --dry-run** ·
    **eckart inspect model/** (one checkpoint: its weights' own spectra) · **eckart inspect adapter/** ·
    **eckart inspect base/ adapter/** (what an adapter learned: the spectrum of every B A)

    Columns: *stable* is |dW|^2 / sigma_1^2. *effective* is exp of the entropy of sigma / sum sigma. *r90* is
    the least rank with 90 % of the energy. *knee* is where the energy curve bends. *above noise* counts the
    singular values larger than rounding alone can cause. *decay* is fast if a tenth of the ranks hold 90 %.
    *unchanged* is the share of entries that are equal in both checkpoints. For an adapter, *rank* is the stored
    rank and *first* is the share of the energy in the first component.
    """
    adapter, model = (base, None) if tuned is None else (tuned, base)
    if is_adapter(adapter):
        if store is not None or dry_run:
            option = "--store" if store is not None else "--dry-run"
            raise UsageError(option, "this option applies to checkpoints, not to adapters", "Remove it")
        with console.progress_bar(quiet, "factoring") as bar:
            summary = inspect_adapter(adapter, model, workers=workers, progress=bar)
        for note in summary.notes:
            console.say(f"note: {note}", quiet)
        if json:
            console.print_json(summary.to_json())
        else:
            print_adapter(summary, with_base=model is not None)
        return
    sources = SingleSources.open(base) if tuned is None else PairSources.open(base, tuned)
    for note in sources.notes:
        console.say(f"note: {note}", quiet)
    if dry_run:
        print_estimate(estimate(sources), json)
        return
    with tempfile.TemporaryDirectory(prefix="eckart-") as scratch:
        with console.progress_bar(quiet, "factoring") as bar:
            options = PassOptions(workers, device=device, durable=store is not None, progress=bar)
            filled = fill(sources, store or Path(scratch) / "store", whole_demands(sources, 0), options)
        rows = summarise(filled)
        remarks = diagnose(filled, rows)
        if json:
            console.print_json(
                {"layers": [r.to_json() for r in rows], "diagnosis": remarks, "notes": list(sources.notes)}
            )
            return
        print_layers(filled, rows)
    for remark in remarks:
        console.out().print(remark, markup=False)


def print_adapter(summary: AdapterSummary, with_base: bool) -> None:
    """Print the spectrum of every update of an adapter, and what it shows."""
    sizes = ["|BA|", "|BA|/|W|"] if with_base else ["|BA|"]
    rows = []
    for module in summary.modules:
        relative = [console.figure(module.relative)] if with_base else []
        rows.append(
            [
                module.name,
                console.shape(module.shape),
                module.rank,
                console.figure(module.size),
                *relative,
                console.figure(module.sigma_1),
                console.percent(module.first, 0),
                console.figure(module.stable_rank),
                console.figure(module.effective_rank),
                *module.ranks.values(),
                module.knee,
            ]
        )
    console.print_table(
        ["module", "shape", "rank", *sizes, "sigma_1", "first", "stable", "effective", *RANKS, "knee"], rows
    )
    modules = count(summary.modules, "module")
    out = console.out()
    out.print(f"\n{modules}, {summary.parameters:,} parameters, {summary.dtype}", markup=False)
    for sentence in summary.diagnosis:
        out.print(sentence, markup=False)


def print_layers(store: FactorStore, rows: list[LayerSummary]) -> None:
    """Print the table of layers, and a line of totals."""
    cells: list[list[Any]] = [
        [
            r.name.removesuffix(".weight"),
            console.shape(r.shape),
            console.figure(r.relative),
            console.figure(r.sigma_1),
            console.figure(r.stable_rank),
            console.figure(r.effective_rank),
            *r.ranks.values(),
            r.knee,
            r.above_noise,
            r.decay,
            console.percent(r.unchanged, 0),
        ]
        for r in rows
    ]
    console.print_table(
        ["layer", "shape", "|dW|/|W|", "sigma_1", "stable", "effective",
         *RANKS, "knee", "above noise", "decay", "unchanged"],
        cells,
    )  # fmt: skip
    total = sum(r.energy for r in store)
    shown = sum(r.energy for r in rows)
    if not store.single and total:
        console.out().print(
            f"\n{count(rows, 'matrix', 'matrices')} with {console.percent(shown / total)} of the change's energy; "
            f"the rest is in {count(len(store) - len(rows), 'other tensor')}",
            markup=False,
        )


def print_estimate(cost: Estimate, json: bool) -> None:
    """Print the estimated cost of a pass."""
    if json:
        console.print_json(cost.to_json())
        return
    console.print_table(
        ["cost of a pass", ""],
        [
            ["tensors", f"{cost.tensors} ({count(cost.matrices, 'matrix', 'matrices')})"],
            ["parameters", f"{cost.parameters:,}"],
            ["to read", console.size(cost.bytes_read)],
            ["rank 32", f"{cost.flops_leading:.2g} flops, about {_minutes(cost.seconds_leading)} here"],
            ["all singular values", f"{cost.flops_whole:.2g} flops, about {_minutes(cost.seconds_whole)} here"],
            ["peak memory", console.size(cost.peak_bytes)],
            *[[f"adapter, rank {r}", console.size(b)] for r, b in cost.adapter_bytes.items()],
        ],
    )  # fmt: skip


def _minutes(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 90 else f"{seconds / 60:.1f} min"
