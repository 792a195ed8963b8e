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
    if result.holds and result.is_exchanged:
        console.say(
            "note: this adapter fits the opposite change. Check the order of BASE and TUNED.",
            quiet,
        )
    if not result.holds:
        if result.is_exchanged:
            raise CheckFailedError(
                str(adapter),
                "its statement holds for the opposite change, so base and tuned look exchanged",
                f"Use the other order: eckart verify {tuned} {base} {adapter}",
            )
        raise CheckFailedError(
            str(adapter),
            f"its statement does not hold: {_false_entries(result)}",
            "Extract it again, or check that these are the checkpoints it was made from, base first",
        )


def _false_entries(result: Verification) -> str:
    """Return how many modules, and how many other entries of the statement, are false."""
    wrong = sum(not module.holds for module in result.modules)
    modules = f"it is false about {wrong} of {count(result.modules, 'module')}"
    if not result.problems:
        return modules
    if not wrong:
        return f"{count(result.problems, 'entry is', 'entries are')} false"
    return f"{modules}, and {count(result.problems, 'other entry is', 'other entries are')} false"


def print_verification(result: Verification) -> None:
    """Print the measured and the stated error of every module and of the whole adapter."""
    rows: list[list[Cell]] = []
    for module in result.modules:
        holds = "yes" if module.stated is not None else "-"
        error, stated_error = (None if x is None else f"{x:.6f}" for x in (module.error, module.stated))
        rows.append([module.name, module.rank, error, stated_error, holds if module.holds else "NO"])
    print_table(COLUMNS, rows, drop=["stated", "rank"])
    stated = "nothing stated" if result.stated is None else f"stated {result.stated:.6f}"
    out = console.out()
    out.print(f"\nall modules together: measured {result.error:.6f}, {stated}", markup=False)
    for problem in result.problems:
        out.print(problem, markup=False)
