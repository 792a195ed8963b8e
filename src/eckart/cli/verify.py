"""`eckart verify`: an adapter's stated errors, recomputed from the files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from eckart.cli import console
from eckart.cli import options as opt
from eckart.errors import CheckFailedError
from eckart.extraction.verify import verify as verify_adapter
from eckart.text import count


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
    found = verify_adapter(base, tuned, adapter)
    if json:
        console.print_json(
            {
                "holds": found.holds,
                "error": found.error,
                "stated": found.stated,
                "error_of_whole_change": found.error_of_whole_change,
                "problems": list(found.problems),
                "modules": [vars(m) for m in found.modules],
            }
        )
    else:
        console.print_table(
            ["module", "rank", "measured", "stated", "holds"],
            [
                [
                    m.name,
                    m.rank,
                    f"{m.error:.6f}",
                    None if m.stated is None else f"{m.stated:.6f}",
                    "NO" if not m.holds else "-" if m.stated is None else "yes",
                ]
                for m in found.modules
            ],
        )
        stated = "nothing stated" if found.stated is None else f"stated {found.stated:.6f}"
        console.out().print(f"\nall modules together: measured {found.error:.6f}, {stated}", markup=False)
        for problem in found.problems:
            console.out().print(problem, markup=False)
    if not found.holds:
        wrong = [m.name for m in found.modules if not m.holds]
        raise CheckFailedError(
            str(adapter),
            f"its statement does not hold ({count(wrong, 'module')}, {count(found.problems, 'other problem')})",
            "Extract it again, or check that these are the checkpoints it was made from, base first",
        )
