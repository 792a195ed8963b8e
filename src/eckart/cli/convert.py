"""`eckart convert`: an adapter in another format."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from eckart.adapter.formats import FORMATS
from eckart.cli import console
from eckart.cli import options as opt
from eckart.operations.convert import convert as convert_adapter
from eckart.text import count, either


def convert(
    adapter: Annotated[Path, typer.Argument(help="An adapter of any format.", show_default=False)],
    out: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help=f"{opt.NEW_ADAPTER_HELP}.",
            show_default=False,
        ),
    ],
    to: Annotated[
        str,
        typer.Option("--to", help=f"Format to write: {either(FORMATS)}.", show_default=False),
    ],
    experts: Annotated[
        str | None,
        typer.Option(
            "--experts",
            help="Also change the layout of a mixture of experts: fused (one tensor for all experts of a "
            "layer) or split (one tensor for each).",
            show_default=False,
        ),
    ] = None,
    base: opt.BaseOf = None,
    overwrite: opt.Overwrite = False,
    quiet: opt.Quiet = False,
    json: opt.Json = False,
) -> None:
    """Write an adapter in another format. Its factors and scales stay the same.

    Examples: **eckart convert lora.safetensors -o adapter/ --to peft** ·
    **eckart convert adapter/ -o lora.safetensors --to kohya**
    """
    result = convert_adapter(adapter, out, to, experts=experts, base=base, overwrite=overwrite)
    for note in result.notes:
        console.say(f"note: {note}", quiet)
    if json:
        console.print_json(
            {
                "adapter": str(result.path),
                "from": result.source,
                "to": result.format,
                "modules": result.modules,
                "notes": list(result.notes),
            }
        )
        return
    modules = count(result.modules, "module")
    console.out().print(f"{result.path}: {modules}, {result.source} to {result.format}", markup=False)
