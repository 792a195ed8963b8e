"""`eckart resize`: adapters cut to other ranks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from eckart.cli import console
from eckart.cli import options as opt
from eckart.operations.batch import resize_all
from eckart.operations.combine import Combined
from eckart.operations.resize import Resized
from eckart.rank import RankRule
from eckart.text import count, listing


@opt.rank_options
def resize(
    adapter: Annotated[Path, typer.Argument(help="An adapter, or a folder of adapters.", show_default=False)],
    out: Annotated[
        Path, typer.Argument(help="Folder (PEFT) or .safetensors file to make.", show_default=False)
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
    """Cut an adapter to other ranks, exactly, and state what that leaves out.

    Works on the factors: B A is never formed. A rank over the adapter's own keeps every component, so
    that **--rank 999 --for vllm** only arranges it; the new factors are rounded to the dtype all the same.

    Examples: **eckart resize adapter/ small/ --energy 0.99** ·
    **eckart resize adapter/ served/ --rank 16 --for vllm,llama.cpp**
    """
    with console.progress_bar(quiet, "resizing") as bar:
        done = resize_all(
            adapter, out, rule=rule, dtype=dtype, format=format, consumers=consumers or "", base=base,
            overwrite=overwrite, workers=workers, progress=lambda name: bar,
        )  # fmt: skip
    for result in done:
        for note in result.notes:
            console.say(f"note: {note}", quiet)
    if json:
        said = [{"adapter": str(r.path), "notes": list(r.notes), **r.statement.to_json()} for r in done]
        console.print_json(said[0] if done[0].path == out else said)
        return
    for result in done:
        print_recut(result)


def print_recut(done: Resized | Combined) -> None:
    """Print what was written, and what the cut left out."""
    said, out = done.statement, console.out()
    modules = done.recut.outlines.values()
    ranks = sorted(m.rank for m in modules)
    spread = f"rank {ranks[0]}" if ranks[0] == ranks[-1] else f"ranks {ranks[0]} to {ranks[-1]}"
    before = sum(source.parameters for source in said.sources)
    out.print(
        f"{done.path}: {count(ranks, 'module')}, {spread}, {said.parameters:,} parameters "
        f"(of {before:,}), {said.dtype}\nerror {said.error:.3g} of the update",
        markup=False,
    )
    if said.left_out:
        out.print(f"left out: {listing(said.left_out, 'module')}", markup=False)
    layout = said.layout
    if layout:
        words = f"laid out for {', '.join(layout.consumers)}"
        if layout.bytes_of_zeros:
            words += f", at the cost of {console.size(layout.bytes_of_zeros)} of zeros"
        out.print(words, markup=False)
        for name, option in layout.options.items():
            out.print(f"start {name} with {option}", markup=False)
