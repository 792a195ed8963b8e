"""`eckart factor`: one pass over two checkpoints, into a store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from eckart.cli import console
from eckart.cli import options as opt
from eckart.store import factor as fill_store
from eckart.store.fill import MAX_RANK
from eckart.text import count


def factor(
    base: opt.Base,
    tuned: opt.Tuned,
    store: Annotated[
        Path, typer.Option("--output", "-o", help="Store folder to create or resume.", show_default=False)
    ],
    max_rank: Annotated[
        int, typer.Option("--max-rank", min=1, help="Components to keep per tensor.")
    ] = MAX_RANK,
    workers: opt.Workers = None,
    device: opt.Device = "cpu",
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite", help="Start over. The old store stays valid until the new one is complete."
        ),
    ] = False,
    quiet: opt.Quiet = False,
    json: opt.Json = False,
) -> None:
    """Factor every update once: all singular values, and factors up to --max-rank.

    Every later rank, rule and budget is then read from the store in milliseconds. You can interrupt the
    pass at any time; rerunning the command resumes it. It also factors again what is damaged on the disk. A
    second pass on the same store waits for the first one.

    Example: **eckart factor base/ tuned/ -o store/**
    """
    with console.progress_bar(quiet, "factoring", resumes=True) as bar:
        done = fill_store(
            base,
            tuned,
            store,
            max_rank=max_rank,
            overwrite=overwrite,
            workers=workers,
            device=device,
            progress=bar,
            notify=lambda text: console.say(text, quiet),
        )
    held = [r for r in done if r.rank]
    if json:
        console.print_json({"store": str(store), "tensors": [r.to_json() for r in done]})
        return
    console.out().print(
        f"{store}: {count(len(done), 'tensor')}, {len(held)} with factors up to rank "
        f"{max((r.rank for r in held), default=0)}",
        markup=False,
    )
    console.say_next("plan", store, "--energy", 0.9, quiet=quiet)
