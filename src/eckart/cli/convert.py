"""`eckart convert`: an adapter in another format."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from eckart.cli import console
from eckart.cli import options as opt
from eckart.operations.convert import convert as convert_to


def convert(
    adapter: Annotated[Path, typer.Argument(help="An adapter of any format.", show_default=False)],
    out: Annotated[
        Path, typer.Argument(help="Folder (PEFT) or .safetensors file to make.", show_default=False)
    ],
    to: Annotated[str, typer.Option("--to", help="peft, kohya or diffusers.", show_default=False)],
    experts: Annotated[
        str | None,
        typer.Option(
            "--experts", help="fused or split: how a mixture's experts are held.", show_default=False
        ),
    ] = None,
    base: opt.BaseOf = None,
    overwrite: opt.Overwrite = False,
    quiet: opt.Quiet = False,
    json: opt.Json = False,
) -> None:
    """Write an adapter in another format: same factors, same scale, same update.

    Examples: **eckart convert lora.safetensors adapter/ --to peft** ·
    **eckart convert adapter/ lora.safetensors --to kohya**
    """
    done = convert_to(adapter, out, to, experts=experts, base=base, overwrite=overwrite)
    for note in done.notes:
        console.say(f"note: {note}", quiet)
    if json:
        console.print_json(
            {
                "adapter": str(out),
                "from": done.source,
                "to": to,
                "modules": done.modules,
                "notes": list(done.notes),
            }
        )
        return
    console.out().print(f"{out}: {done.modules} modules, {done.source} to {to}", markup=False)
