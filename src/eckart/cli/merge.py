"""`eckart merge`: adapters added into a base model."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from eckart.cli import console
from eckart.cli import options as opt
from eckart.errors import UsageError
from eckart.operations.merge import merge as merge_into
from eckart.text import count, preview


def merge(
    base: opt.Base,
    adapters: Annotated[
        list[Path], typer.Argument(help="One or more adapters of that base.", show_default=False)
    ],
    out: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder of the new model.", show_default=False),
    ] = None,
    weights: opt.Weights = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Match names and shapes, but write nothing.")
    ] = False,
    workers: opt.Workers = None,
    overwrite: opt.Overwrite = False,
    quiet: opt.Quiet = False,
    json: opt.Json = False,
) -> None:
    """Add adapters into a base model, and state the rounding error.

    The new model has the shards, names and dtypes of the base, and copies of its other files.

    Example: **eckart merge base/ adapter/ -o model/**
    """
    if out is None and not dry_run:
        typed = shlex.join(["eckart", "merge", *sys.argv[2:]])
        raise UsageError(
            "eckart merge", "expected the folder of the new model", f"Use {typed} -o OUT, or --dry-run"
        )
    with console.progress_bar(quiet, "merging") as bar:
        result = merge_into(
            base,
            adapters,
            out,
            opt.weights_of(weights, adapters),
            dry_run=dry_run,
            overwrite=overwrite,
            workers=workers,
            progress=bar,
        )
    for note in result.notes:
        console.say(f"note: {note}", quiet)
    if json:
        console.print_json(
            {
                "model": None if out is None else str(out),
                "changed": list(result.changed),
                "added": list(result.added),
                "bytes": result.size,
                "written": result.path is not None,
                "notes": list(result.notes),
                **({} if result.statement is None else result.statement.to_json()),
            }
        )
        return
    verb = "would change" if dry_run else "changed"
    text = f"{result.path or base}: {verb} {count(result.changed, 'tensor')}, {console.size(result.size)}"
    if result.added:
        text += f", {len(result.added)} new ({preview(result.added)})"
    console.out().print(text, markup=False)
    if result.statement is not None:
        rounding = console.share(result.statement.rounding)
        console.out().print(f"rounding error: {rounding} of the update", markup=False)
