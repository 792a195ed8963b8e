"""`eckart inspect`: the spectra of a fine-tune, of one checkpoint, or of an adapter."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from eckart.adapter.formats import is_adapter
from eckart.cli import console
from eckart.cli import options as opt
from eckart.errors import UsageError
from eckart.extraction.inspect import LayersSummary
from eckart.extraction.inspect import inspect as inspect_updates
from eckart.operations.inspect import AdapterSummary
from eckart.store.estimate import Estimate, estimate
from eckart.store.sources import open_sources
from eckart.store.summary import ENERGIES
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
    *unchanged* is the share of entries that are equal in both checkpoints. For an adapter, *rank* is the
    stored rank and *first* is the share of the energy in the first component.
    """
    if dry_run:
        if is_adapter(tuned or base):
            raise UsageError(
                "--dry-run", "an adapter needs no pass, so there is no cost to estimate", "Remove --dry-run"
            )
        sources = open_sources(None, base) if tuned is None else open_sources(base, tuned)
        print_notes(sources.notes, quiet)
        print_estimate(estimate(sources), json)
        return
    with console.progress_bar(quiet, "factoring", resumes=store is not None) as bar:
        summary = inspect_updates(base, tuned, store=store, workers=workers, device=device, progress=bar)
    print_notes(summary.notes, quiet)
    if json:
        console.print_json(summary.to_json())
    elif isinstance(summary, AdapterSummary):
        print_adapter(summary, with_base=tuned is not None)
    else:
        print_layers(summary)


def print_notes(notes: Iterable[str], quiet: bool) -> None:
    """Print the remarks on the files as notes."""
    for note in notes:
        console.say(f"note: {note}", quiet)


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


def print_layers(summary: LayersSummary) -> None:
    """Print the table of layers, a line of totals, and the diagnosis."""
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
        for r in summary.layers
    ]
    sizes = ["shape", "|dW|/|W|", "sigma_1", "stable", "effective"]
    console.print_table(["layer", *sizes, *RANKS, "knee", "above noise", "decay", "unchanged"], cells)
    out = console.out()
    if summary.share is not None:
        matrices = count(summary.layers, "matrix", "matrices")
        rest = f", the rest in {count(summary.others, 'other tensor')}" if summary.others else ""
        share = console.percent(summary.share)
        out.print(f"\n{share} of the change's energy is in {matrices}{rest}", markup=False)
    for remark in summary.diagnosis:
        out.print(remark, markup=False)


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
            [
                "all singular values",
                f"{cost.flops_whole:.2g} flops, about {_minutes(cost.seconds_whole)} here",
            ],
            ["peak memory", console.size(cost.peak_bytes)],
            *[[f"adapter, rank {r}", console.size(b)] for r, b in cost.adapter_bytes.items()],
        ],
    )


def _minutes(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 90 else f"{seconds / 60:.1f} min"
