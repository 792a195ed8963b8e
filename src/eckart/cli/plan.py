"""`eckart plan`: ranks chosen from a store by a rule."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from eckart.checkpoint import write_json
from eckart.checkpoint.write import check_output_file
from eckart.cli import console
from eckart.cli import options as opt
from eckart.rank import RankPlan, RankRule
from eckart.store import FactorStore, decide
from eckart.store.decide import adapter_dtype
from eckart.store.options import PassOptions
from eckart.text import listing


@opt.rank_options
def plan(
    store: Annotated[Path, typer.Argument(help="A store made by eckart factor.", show_default=False)],
    rule: RankRule,
    embeddings: Annotated[bool, typer.Option("--embeddings", help="Also plan embedding tables.")] = False,
    out: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write the plan to this JSON file.", show_default=False),
    ] = None,
    workers: opt.Workers = None,
    device: opt.Device = "cpu",
    quiet: opt.Quiet = False,
    json: opt.Json = False,
) -> None:
    """Choose the rank of every tensor in a store, by one rule.

    Examples: **eckart plan store/ --energy 0.9 --max-rank 64** · **eckart plan store/ --budget 1%**
    """
    if out is not None:
        check_output_file(out)

    def say(text: str) -> None:
        console.say(text, quiet)

    with console.progress_bar(quiet, "factoring") as bar:
        opened, chosen = decide(
            FactorStore.open(store),
            rule,
            embeddings=embeddings,
            notify=say,
            options=PassOptions(workers, device=device, progress=bar, notify=say),
        )
    if out is not None:
        write_json(out, chosen.to_json())
    if json:
        console.print_json(chosen.to_json())
        return
    print_plan(opened, chosen)


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
    console.print_table(["tensor", "shape", "rank", "energy", "parameters", "why"], rows)
    share = chosen.parameters / max(store.base_parameters, 1)
    bytes_each = adapter_dtype(store).itemsize
    console.out().print(
        f"\n{chosen.rule}: {chosen.parameters:,} parameters ({console.percent(share, 2)} of the base, "
        f"{console.size(chosen.parameters * bytes_each)}), energy {console.percent(chosen.energy)}, "
        f"error {chosen.error:.4f}",
        markup=False,
    )
    if chosen.dense:
        console.out().print(
            f"factors are not smaller than the dense update for {listing(chosen.dense, 'tensor')}",
            markup=False,
        )
