"""`eckart extract`: two checkpoints in, an adapter out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from eckart.adapter.statement import STATEMENT
from eckart.checkpoint import refuse_overlap
from eckart.cli import console
from eckart.cli import options as opt
from eckart.cli.tables import Cells, Column, print_table
from eckart.extraction.extract import Extraction
from eckart.extraction.extract import extract as extract_adapter
from eckart.operations.new_adapter import RankRange
from eckart.rank import RankPlan, RankRule
from eckart.text import count, decimals


@opt.rank_options(alternative="plan")
def extract(
    base: opt.Base,
    tuned: opt.Tuned,
    out: Annotated[
        Path, typer.Option("--output", "-o", help="Folder of the new adapter.", show_default=False)
    ],
    rule: RankRule | None,
    plan: Annotated[
        Path | None,
        typer.Option("--plan", help="Take the ranks from a plan file (eckart plan -o).", show_default=False),
    ] = None,
    store: Annotated[
        Path | None,
        typer.Option("--store", help="Use this factor store, or create and keep it.", show_default=False),
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option("--dtype", help=opt.DTYPE_HELP, show_default="the tuned checkpoint's"),
    ] = None,
    embeddings: Annotated[bool, typer.Option("--embeddings", help="Also factor embedding tables.")] = False,
    modules_to_save: Annotated[
        bool,
        typer.Option(
            "--modules-to-save", help="Also save norms, biases and new embedding rows, as whole tensors."
        ),
    ] = False,
    consumers: opt.For = None,
    experts: Annotated[
        str | None,
        typer.Option(
            "--experts",
            help="Layout of a mixture of experts: fused or split.",
            show_default="what PEFT needs",
        ),
    ] = None,
    base_name: Annotated[
        str | None,
        typer.Option(
            "--base-name", help="Name of the base model in the adapter's configuration.", show_default="BASE"
        ),
    ] = None,
    workers: opt.Workers = None,
    device: opt.Device = "cpu",
    overwrite: opt.Overwrite = False,
    quiet: opt.Quiet = False,
    json: opt.Json = False,
) -> None:
    """Extract a LoRA adapter (PEFT format) from a fine-tune, and state its measured error.

    Examples: **eckart extract base/ tuned/ -o adapter/ --budget 1%** ·
    **eckart extract base/ tuned/ -o adapter/ --energy 0.9 --store store/**
    """
    refuse_overlap(out, [plan])
    with console.progress_bar(quiet, "factoring", resumes=store is not None) as bar:
        done = extract_adapter(
            base,
            tuned,
            out,
            rule=rule,
            plan=RankPlan.read(plan) if plan else None,
            store=store,
            dtype=dtype,
            embeddings=embeddings,
            modules_to_save=modules_to_save,
            consumers=consumers or "",
            experts=experts,
            base_name=base_name,
            overwrite=overwrite,
            workers=workers,
            device=device,
            progress=bar,
            notify=lambda text: console.say(text, quiet),
        )
    for note in done.notes:
        console.say(f"note: {note}", quiet)
    if json:
        console.print_json({"adapter": str(out), "notes": list(done.notes), **done.statement.to_json()})
        return
    print_extraction(done)
    console.say(f"note: this is the update that turns {base} into {tuned}.", quiet)
    console.say_next("verify", base, tuned, out, quiet=quiet)


def print_extraction(done: Extraction) -> None:
    """Print what was written, its error, and the changed tensors that are left out."""
    stated, out = done.statement, console.out()
    assert stated.error is not None and stated.error_of_whole_change is not None  # extraction states both
    out.print(
        f"{done.path}: {count(done.adapter.modules, 'module')}, {RankRange.of(done.adapter.modules)}, "
        f"{count(done.adapter.parameters, 'parameter')}, {stated.dtype}\n"
        f"error {decimals(stated.error)} of the adapted layers' update, "
        f"{decimals(stated.error_of_whole_change)} of the whole change",
        markup=False,
    )
    missing = stated.not_carried
    if missing:
        share = console.percent(sum(tensor.share for tensor in missing), 2)
        out.print(
            f"not carried: {count(missing, 'tensor')}, {share} of the change's energy",
            markup=False,
        )
        rows = [[tensor.name, console.percent(tensor.share, 3), tensor.why] for tensor in missing[:5]]
        print_table(
            (Column("tensor", Cells.NAME), Column("share"), Column("why", Cells.WORDS)), rows, drop=["why"]
        )
        if len(missing) > 5:
            out.print(f"... and {len(missing) - 5} more, listed in {done.path / STATEMENT}", markup=False)
