"""`eckart inspect`: the spectra of a fine-tune, of one checkpoint, or of an adapter."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from eckart.adapter.formats import is_adapter
from eckart.cli import console
from eckart.cli import options as opt
from eckart.cli.spectra import EnergyCost, print_adapter, print_layers
from eckart.cli.tables import Cells, Column, print_table
from eckart.errors import UsageError
from eckart.extraction.inspect import LayersSummary
from eckart.extraction.inspect import inspect as inspect_updates
from eckart.operations.inspect import AdapterSummary
from eckart.store.estimate import Estimate, estimate
from eckart.store.kept import KeptFactors
from eckart.store.sources import open_sources
from eckart.store.summary import changed_layers, has_plausible_base, merged_rank
from eckart.text import count


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
    max_rank: Annotated[
        int | None,
        typer.Option(
            "--max-rank",
            min=1,
            help="Components of each tensor to keep in the store; 256 by default, if the store is new.",
            show_default=False,
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Read headers only, and estimate the cost of a pass.")
    ] = False,
    workers: opt.Workers = None,
    device: opt.Device = "cpu",
    explain: Annotated[bool, typer.Option("--explain", help="Explain every column below the table.")] = False,
    quiet: opt.Quiet = False,
    json: opt.Json = False,
) -> None:
    """Show the size and the spectrum of every layer's update, and the rank that each share of energy needs.

    Examples: **eckart inspect base/ tuned/** · **eckart inspect base/ tuned/ --dry-run** ·
    **eckart inspect model/** (one checkpoint: its weights' own spectra) · **eckart inspect adapter/** ·
    **eckart inspect base/ adapter/** (what an adapter learned: the spectrum of every B A)

    **--explain** says what every column means.
    """
    if explain and (json or dry_run):
        other = "--json" if json else "--dry-run"
        raise UsageError("--explain", f"{other} prints no table of columns", f"Remove --explain or {other}")
    if dry_run:
        if is_adapter(tuned or base):
            raise UsageError(
                "--dry-run", "an adapter needs no pass, so there is no cost to estimate", "Remove --dry-run"
            )
        sources = open_sources(None, base) if tuned is None else open_sources(base, tuned)
        print_notes(sources.notes, quiet)
        print_estimate(estimate(sources), json)
        if not json:
            console.say_next("inspect", base, *([] if tuned is None else [tuned]), quiet=quiet)
        return
    with console.progress_bar(quiet, "factoring", resumes=store is not None) as bar:
        summary = inspect_updates(
            base,
            tuned,
            store=store,
            max_rank=max_rank,
            workers=workers,
            device=device,
            progress=bar,
            notify=lambda text: console.say(text, quiet),
        )
    print_notes(summary.notes, quiet)
    if json:
        console.print_json(summary.to_json())
    elif isinstance(summary, AdapterSummary):
        print_adapter(summary, with_base=tuned is not None, explain=explain)
    else:
        print_layers(summary, explain)
    if isinstance(summary, LayersSummary) and summary.kept is not None:
        say_kept(summary.kept, quiet)
    if not json:
        say_next_step(summary, base, tuned, store, quiet)


def say_kept(kept: KeptFactors, quiet: bool) -> None:
    """Print how far the factors in the store reach."""
    if kept.rank is None:
        console.say(f"{kept.path} keeps all components ({console.size(kept.nbytes)}).", quiet)
        return
    if kept.rank == 0:
        reach = f"{kept.path} keeps no factors of some tensors"
    else:
        reach = f"{kept.path} keeps factors up to rank {kept.rank}"
    console.say(
        f"{reach} ({console.size(kept.nbytes)}), enough for 90 % of the energy in {kept.enough} of "
        f"{count(kept.matrices, 'matrix', 'matrices')}. A rule that needs a higher rank factors those "
        "tensors again; --max-rank keeps more.",
        quiet,
    )


def print_notes(notes: Iterable[str], quiet: bool) -> None:
    """Print the remarks on the files as notes."""
    for note in notes:
        console.say(f"note: {note}", quiet)


def say_next_step(
    summary: LayersSummary | AdapterSummary, base: Path, tuned: Path | None, store: Path | None, quiet: bool
) -> None:
    """Print the command that follows from what was shown, and what it costs."""
    if isinstance(summary, AdapterSummary):
        if any(module.size for module in summary.modules):
            console.say_next("resize", tuned or base, "-o", "SMALLER", "--energy", 0.9, quiet=quiet)
        return
    if tuned is None:
        console.say_next("inspect", base, "TUNED", quiet=quiet)
        return
    changed = changed_layers(summary.layers)
    if not changed:
        return
    if not has_plausible_base(changed):
        console.say_next("inspect", "OTHER_BASE", tuned, quiet=quiet)
        return
    cost = EnergyCost.of(summary.layers)
    rule: list[object] = ["--energy", 0.9]
    if merged_rank(changed):
        rule = ["--noise-floor"]
    elif cost is not None and not cost.is_saving:
        rule = ["--budget", "5%"]
    kept: list[object] = [] if store is None else ["--store", store]
    console.say_next("extract", base, tuned, "-o", "ADAPTER", *rule, *kept, quiet=quiet)


def print_estimate(cost: Estimate, json: bool) -> None:
    """Print the estimated cost of a pass."""
    if json:
        console.print_json(cost.to_json())
        return
    print_table(
        (Column("cost of a pass", Cells.PHRASE), Column("", Cells.WORDS)),
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
