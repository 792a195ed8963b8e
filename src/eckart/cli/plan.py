"""`eckart plan`: ranks chosen from a store by a rule."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from eckart.checkpoint.output import OutputFile
from eckart.checkpoint.target import FileKind, is_stdout
from eckart.checkpoint.write import json_text, write_json
from eckart.cli import console
from eckart.cli import options as opt
from eckart.cli.tables import Cells, Column, print_table
from eckart.rank import RankPlan, RankRule
from eckart.rank.dense import Factored, notes_on_dense
from eckart.store import FactorStore, decide
from eckart.store.decide import adapter_dtype
from eckart.store.options import PassOptions
from eckart.strictjson import parse_object, read_bytes

COLUMNS = (
    Column("tensor", Cells.NAME),
    Column("shape"),
    Column("rank"),
    Column("energy"),
    Column("parameters"),
    Column("why", Cells.PHRASE),
)


@opt.rank_options
def plan(
    store: Annotated[Path, typer.Argument(help="A store made by eckart factor.", show_default=False)],
    rule: RankRule,
    embeddings: Annotated[bool, typer.Option("--embeddings", help="Also plan embedding tables.")] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Write the plan to this JSON file; - prints it.", show_default=False
        ),
    ] = None,
    workers: opt.Workers = None,
    device: opt.Device = "cpu",
    overwrite: opt.Overwrite = False,
    quiet: opt.Quiet = False,
    json: opt.Json = False,
) -> None:
    """Choose the rank of every tensor in a store, by one rule.

    Examples: **eckart plan store/ --energy 0.9 --max-rank 64** · **eckart plan store/ --budget 1%**
    """
    opened = FactorStore.open(store)
    output = None if out is None or is_stdout(out) else OutputFile(out, PLAN, overwrite)
    if output is not None:
        output.check()

    def say(text: str) -> None:
        console.say(text, quiet)

    with console.progress_bar(quiet, "factoring", resumes=True) as bar:
        opened, chosen = decide(
            opened,
            rule,
            embeddings=embeddings,
            notify=say,
            options=PassOptions(workers, device=device, progress=bar, notify=say),
        )
    if output is not None:
        with output as staged:
            write_json(staged, chosen.to_json())
    if out is not None and output is None:
        console.print_text(json_text(chosen.to_json(), str(out)))
    elif json:
        console.print_json(chosen.to_json())
    else:
        print_plan(opened, chosen)
    matrices = []
    for name, rank in chosen.ranks.items():
        m, n = opened.record(name).shape
        matrices.append(Factored(name, rank, (m, n)))
    for note in notes_on_dense(matrices, adapter_dtype(opened).itemsize, "tensor"):
        console.say(f"note: {note}", quiet)


def is_plan(path: Path) -> bool:
    """Whether a file is a plan that this command wrote, of any format."""
    document = parse_object(read_bytes(path), path, "the plan")
    return {"ranks", "reasons"} <= document.keys()


PLAN = FileKind("a plan", is_plan)


def print_plan(store: FactorStore, chosen: RankPlan) -> None:
    """Print a plan: one row per tensor, and the totals."""
    rows: list[list[Any]] = []
    for name, rank in chosen.ranks.items():
        record, spectrum = store.record(name), store.spectrum(name)
        kept = spectrum.energy(min(rank, len(spectrum)))
        rows.append(
            [
                name,
                console.shape(record.shape),
                rank,
                console.percent(kept),
                f"{rank * sum(record.shape):,}",
                chosen.reasons[name],
            ]
        )
    print_table(COLUMNS, rows, drop=["shape", "why", "energy", "parameters"])
    share = chosen.parameters / max(store.base_parameters, 1)
    bytes_each = adapter_dtype(store).itemsize
    console.out().print(
        f"\n{chosen.rule}: {chosen.parameters:,} parameters ({console.percent(share, 2)} of the base, "
        f"{console.size(chosen.parameters * bytes_each)}), energy {console.percent(chosen.energy)}, "
        f"error {chosen.error:.4f}",
        markup=False,
    )
