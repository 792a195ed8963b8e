"""`eckart combine`: the weighted sum of adapters."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from eckart.cli import console
from eckart.cli import options as opt
from eckart.cli.resize import print_recut
from eckart.errors import UsageError
from eckart.operations.combine import combine_to
from eckart.operations.overlap import Overlap
from eckart.rank import RankRule


@opt.rank_options
def combine(
    adapters: Annotated[list[Path], typer.Argument(help="Two adapters or more.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder (PEFT) or .safetensors file to make.")],
    rule: RankRule | None,
    weights: opt.Weights = None,
    method: Annotated[
        str, typer.Option("--method", help="sum (exact), ties or dare (on the updates themselves).")
    ] = "sum",
    density: Annotated[
        float, typer.Option("--density", help="Share of entries that ties and dare keep.")
    ] = 0.5,
    seed: Annotated[int, typer.Option("--seed", help="Of dare's draws.")] = 0,
    consumers: opt.For = None,
    base: opt.BaseOf = None,
    dtype: opt.Dtype = None,
    format: opt.Format = None,
    workers: opt.Workers = None,
    overwrite: opt.Overwrite = False,
    quiet: opt.Quiet = False,
    json: opt.Json = False,
) -> None:
    """Add adapters with weights, exactly, then cut the sum to a rule's ranks.

    Without a rule every component is kept. Ranks, targets, alphas and rsLoRA may differ, and weights may
    be negative.

    Examples: **eckart combine a/ b/ --weights 0.7,0.3 -o both/** ·
    **eckart combine a/ b/ c/ -o one/ --rank 16 --for vllm**
    """
    if method == "sum" and (density != 0.5 or seed):
        raise UsageError("eckart combine", "--density and --seed are of ties and dare", "Give --method too")
    with console.progress_bar(quiet, "combining") as bar:
        done = combine_to(
            adapters, out, opt.weights_of(weights), method=method, density=density, seed=seed, rule=rule,
            dtype=dtype, format=format, consumers=consumers or "", base=base, overwrite=overwrite,
            workers=workers, progress=bar,
        )  # fmt: skip
    for note in done.notes:
        console.say(f"note: {note}", quiet)
    if json:
        rows = [vars(o) for o in done.overlaps]
        console.print_json(
            {"adapter": str(out), "notes": list(done.notes), **done.statement.to_json(), "overlaps": rows}
        )
        return
    print_recut(done)
    print_overlaps(done.overlaps, [str(a) for a in adapters])


def print_overlaps(overlaps: list[Overlap], names: list[str]) -> None:
    """Print, for every pair of adapters, how far their subspaces overlap."""
    pairs: dict[tuple[int, int], list[Overlap]] = {}
    for overlap in overlaps:
        pairs.setdefault((overlap.first, overlap.second), []).append(overlap)
    rows = []
    for (first, second), found in pairs.items():
        most = max(found, key=lambda o: abs(o.cosine))
        rows.append([
            f"{names[first]} and {names[second]}", len(found),
            f"{np.mean([o.left for o in found]):.3f}", f"{np.mean([o.right for o in found]):.3f}",
            f"{most.cosine:+.3f}", most.name,
        ])  # fmt: skip
    if rows:
        columns = [
            "overlap (1 same space, 0 orthogonal)",
            "modules",
            "writes to",
            "reads from",
            "cosine at most",
            "in",
        ]
        console.print_table(columns, rows)
