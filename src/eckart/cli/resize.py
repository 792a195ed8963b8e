"""`eckart resize`: adapters cut to other ranks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from eckart.cli import console
from eckart.cli import options as opt
from eckart.operations.batch import resize_all
from eckart.operations.new_adapter import NewAdapter
from eckart.rank import RankRule
from eckart.text import count, listing


@opt.rank_options
def resize(
    adapter: Annotated[Path, typer.Argument(help="An adapter, or a folder of adapters.", show_default=False)],
    out: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help=f"{opt.NEW_ADAPTER_HELP}; a folder of adapters for a folder.",
            show_default=False,
        ),
    ],
    rule: RankRule,
    consumers: opt.For = None,
    base: opt.BaseOf = None,
    dtype: opt.Dtype = None,
    format: opt.Format = None,
    workers: opt.Workers = None,
    overwrite: opt.Overwrite = False,
    quiet: opt.Quiet = False,
    json: opt.Json = False,
) -> None:
    """Cut an adapter to other ranks, and state the error.

    The command works on the factors and never forms B A. A rank above the adapter's own keeps every
    component, so **--rank 999 --for vllm** only rearranges the adapter; the new factors are rounded to their
    dtype.

    Examples: **eckart resize adapter/ -o small/ --energy 0.99** ·
    **eckart resize adapter/ -o served/ --rank 16 --for vllm,llama.cpp**
    """
    with console.progress_bar(quiet, "resizing") as bar:
        batch = resize_all(
            adapter,
            out,
            rule=rule,
            dtype=dtype,
            format=format,
            consumers=consumers or "",
            base=base,
            overwrite=overwrite,
            workers=workers,
            progress_for=lambda name: bar,
        )
    for result in batch.results:
        for note in result.notes:
            console.say(f"note: {note}", quiet)
    if json:
        rows = [
            {"adapter": str(r.path), "notes": list(r.notes), **r.statement.to_json()} for r in batch.results
        ]
        console.print_json(rows[0] if batch.is_single else rows)
        return
    for result in batch.results:
        print_new_adapter(result)


def print_new_adapter(result: NewAdapter) -> None:
    """Print an adapter that was written: its size, its error, and what consumers need."""
    statement, out = result.statement, console.out()
    before = sum(source.parameters for source in statement.sources)
    layout = statement.layout
    modules = len(statement.modules) + (layout.modules_added if layout else 0)
    out.print(
        f"{result.path}: {count(modules, 'module')}, {result.ranks}, "
        f"{statement.parameters:,} parameters (of {before:,}), {statement.dtype}\n"
        f"error {statement.error:.3g} of the update",
        markup=False,
    )
    if statement.left_out:
        out.print(f"left out: {listing(statement.left_out, 'module')}", markup=False)
    if layout:
        padding = layout.bytes_of_zeros
        cost = f" ({console.size(padding)} of zero padding)" if padding else ""
        out.print(f"arranged for {', '.join(layout.consumers)}{cost}", markup=False)
        for program, option in layout.options.items():
            out.print(f"start {program} with {option}", markup=False)
