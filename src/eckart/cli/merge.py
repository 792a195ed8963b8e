"""`eckart merge`: adapters added into a base model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from eckart.cli import console
from eckart.cli import options as opt
from eckart.errors import UsageError
from eckart.operations.merge import merge as merge_into
from eckart.text import count


def merge(
    base: opt.Base,
    adapters: Annotated[list[Path], typer.Argument(help="One adapter or more.", show_default=False)],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder of the model to make.", show_default=False)
    ] = None,
    weights: opt.Weights = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Match and count; write nothing.")] = False,
    workers: opt.Workers = None,
    overwrite: opt.Overwrite = False,
    quiet: opt.Quiet = False,
    json: opt.Json = False,
) -> None:
    """Add adapters into a base model, tensor by tensor, and state what rounding takes.

    Shards, names and dtypes stay as in the base; its other files are copied.

    Example: **eckart merge base/ adapter/ -o model/**
    """
    if out is None and not dry_run:
        raise UsageError("eckart merge", "expected --out with the folder to make", "Or look first: --dry-run")
    out = out or Path("model")
    with console.progress_bar(quiet, "merging") as bar:
        done = merge_into(
            base, adapters, out, opt.weights_of(weights), dry_run=dry_run, overwrite=overwrite,
            workers=workers, progress=bar,
        )  # fmt: skip
    for note in done.notes:
        console.say(f"note: {note}", quiet)
    if json:
        said = {
            "model": str(out),
            "changed": list(done.changed),
            "added": list(done.added),
            "bytes": done.size,
        }
        console.print_json({**said, "written": not dry_run, "notes": list(done.notes), **done.statement})
        return
    verb = "would change" if dry_run else "changed"
    words = f"{base if dry_run else out}: {verb} {count(done.changed, 'tensor')}, {console.size(done.size)}"
    if done.added:
        words += f", {len(done.added)} new ({', '.join(done.added[:3])})"
    console.out().print(words, markup=False)
    if not dry_run:
        lost = done.statement["rounding"]
        console.out().print(f"rounding took {lost:.3g} of the update", markup=False)
