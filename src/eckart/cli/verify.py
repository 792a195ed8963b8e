"""`eckart verify`: an adapter's stated errors, recomputed from the files."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from eckart.cli import console
from eckart.cli import options as opt
from eckart.cli.tables import Cell, Cells, Column, print_table
from eckart.errors import CheckFailedError
from eckart.extraction.verify import Verification
from eckart.extraction.verify import verify as verify_adapter
from eckart.text import count

COLUMNS = (
    Column("module", Cells.NAME),
    Column("rank"),
    Column("measured"),
    Column("stated"),
    Column("holds"),
)


def verify(
    base: opt.Base,
    tuned: opt.Tuned,
    adapter: Annotated[Path, typer.Argument(help="Folder of a PEFT adapter.", show_default=False)],
    quiet: opt.Quiet = False,
    json: opt.Json = False,
) -> None:
    """Recompute the error of every layer from the two checkpoints and the adapter alone.

    Exits 1 if a stated error differs from the measured one by more than rounding. Adapters made by other
    programs state no errors; Eckart measures them too.

    Example: **eckart verify base/ tuned/ adapter/**
    """
    with console.progress_bar(quiet, "verifying") as bar:
        result = verify_adapter(base, tuned, adapter, progress=bar)
    if json:
        console.print_json(
            {
                "holds": result.holds,
                "error": result.error,
                "stated": result.stated,
                "error_of_whole_change": result.error_of_whole_change,
                "problems": list(result.problems),
                "modules": [asdict(module) for module in result.modules],
            }
        )
    else:
        print_verification(result)
    if not result.holds:
        wrong = [module for module in result.modules if not module.holds]
        raise CheckFailedError(
            str(adapter),
            f"its statement does not hold ({count(wrong, 'module')}, "
            f"{count(result.problems, 'other problem')})",
            "Extract it again, or check that these are the checkpoints it was made from, base first",
        )


def print_verification(result: Verification) -> None:
    """Print the measured and the stated error of every module and of the whole adapter."""
    rows: list[list[Cell]] = []
    for module in result.modules:
        if module.stated is None:
            rows.append(
                [module.name, module.rank, f"{module.error:.6f}", None, "-" if module.holds else "NO"]
            )
        else:
            holds = "yes" if module.holds else "NO"
            rows.append([module.name, module.rank, f"{module.error:.6f}", f"{module.stated:.6f}", holds])
    print_table(COLUMNS, rows, drop=["stated", "rank"])
    stated = "nothing stated" if result.stated is None else f"stated {result.stated:.6f}"
    out = console.out()
    out.print(f"\nall modules together: measured {result.error:.6f}, {stated}", markup=False)
    for problem in result.problems:
        out.print(problem, markup=False)
