"""`eckart combine`: the weighted sum of adapters."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from eckart.adapter import load_adapter
from eckart.cli import console
from eckart.cli import options as opt
from eckart.cli.resize import print_new_adapter
from eckart.cli.tables import Cell, Cells, Column, print_table
from eckart.operations.combine import DENSITY
from eckart.operations.combine import combine as combine_adapters
from eckart.operations.overlap import Overlap, overlaps
from eckart.rank import RankRule

OVERLAPS = (
    Column("overlap (1 same space, 0 orthogonal)", Cells.WORDS),
    Column("modules"),
    Column("writes to"),
    Column("reads from"),
    Column("largest cosine"),
    Column("in", Cells.NAME),
)


@opt.rank_options
def combine(
    adapters: Annotated[
        list[Path], typer.Argument(help="One or more adapters of one base.", show_default=False)
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help=f"{opt.NEW_ADAPTER_HELP}.",
            show_default=False,
        ),
    ],
    rule: RankRule | None,
    weights: opt.Weights = None,
    method: Annotated[
        str,
        typer.Option(
            "--method", help="sum (exact), or ties or dare, which drop entries of the updates before adding."
        ),
    ] = "sum",
    density: Annotated[
        float,
        typer.Option(
            "--density",
            help="Share of the entries that TIES and DARE keep.",
            metavar="SHARE",
            parser=opt.share("density"),
        ),
    ] = DENSITY,
    seed: Annotated[int, typer.Option("--seed", help="Random seed for DARE.")] = 0,
    consumers: opt.For = None,
    base: opt.BaseOf = None,
    dtype: opt.Dtype = None,
    format: opt.Format = None,
    workers: opt.Workers = None,
    overwrite: opt.Overwrite = False,
    quiet: opt.Quiet = False,
    json: opt.Json = False,
) -> None:
    """Add adapters with weights, and cut the sum to the ranks of a rule.

    Without a rule the sum is exact and keeps every component. The adapters may differ in format, ranks,
    targets, alphas and rsLoRA. Weights may be negative.

    Examples: **eckart combine a/ b/ --weights 0.7,0.3 -o both/** ·
    **eckart combine a/ b/ c/ -o one/ --rank 16 --for vllm**
    """
    with console.progress_bar(quiet, "combining") as bar:
        numbers = opt.weights_of(weights, adapters)
        loaded = [load_adapter(path) for path in adapters]
        result = combine_adapters(
            loaded,
            out,
            numbers,
            method=method,
            density=density,
            seed=seed,
            rule=rule,
            dtype=dtype,
            format=format,
            consumers=consumers or "",
            base=base,
            overwrite=overwrite,
            workers=workers,
            progress=bar,
        )
        shared = overlaps(loaded, workers)
    for note in result.notes:
        console.say(f"note: {note}", quiet)
    if json:
        rows = [asdict(overlap) for overlap in shared]
        console.print_json(
            {"adapter": str(out), "notes": list(result.notes), **result.statement.to_json(), "overlaps": rows}
        )
        return
    print_new_adapter(result)
    print_overlaps(shared, [str(adapter) for adapter in adapters])


def print_overlaps(overlaps: list[Overlap], names: list[str]) -> None:
    """Print how far every pair of adapters overlaps."""
    pairs: dict[tuple[int, int], list[Overlap]] = {}
    for overlap in overlaps:
        pairs.setdefault((overlap.first, overlap.second), []).append(overlap)
    rows: list[list[Cell]] = []
    for (first, second), of_pair in pairs.items():
        most = max(of_pair, key=lambda overlap: abs(overlap.cosine))
        rows.append(
            [
                f"{names[first]} and {names[second]}",
                len(of_pair),
                f"{np.mean([overlap.left for overlap in of_pair]):.3f}",
                f"{np.mean([overlap.right for overlap in of_pair]):.3f}",
                f"{most.cosine:+.3f}",
                most.name,
            ]
        )
    if rows:
        print_table(OVERLAPS, rows, drop=["modules", "in"])
