"""Tables of results as data, and their rendering as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

Cell = str | float | int | None


@dataclass
class Table:
    """A title, a note on how to read the table, and rows that all have the same keys."""

    title: str
    note: str = ""
    rows: list[dict[str, Cell]] = field(default_factory=list)

    def markdown(self) -> str:
        """Render as a Markdown table under a heading."""
        head = f"### {self.title}\n\n"
        if self.note:
            head += f"{self.note}\n\n"
        if not self.rows:
            return head + "Nothing was measured.\n"
        names = list(self.rows[0])
        lines = [names, ["---"] * len(names)]
        lines += [[cell_text(row[name]) for name in names] for row in self.rows]
        widths = [max(len(line[i]) for line in lines) for i in range(len(names))]
        return head + "".join(_line(line, widths) for line in lines)


def cell_text(cell: Cell) -> str:
    """Render one cell: numbers with three significant digits, and "-" for a missing value."""
    if cell is None:
        return "-"
    if isinstance(cell, float):
        return f"{cell:.0f}" if abs(cell) >= 1000 else f"{cell:.3g}"
    return str(cell)


def ratio(rival: float | None, ours: float | None, target: float | None) -> dict[str, Cell]:
    """Return the first cells of a row: the ratio rival / ours, its target, and the verdict.

    Seconds, bytes and residuals are all better when smaller, so a ratio above 1 means that Eckart is better.
    """
    target_text = None if target is None else f"≥ {target:g}"
    if rival is None or ours is None:
        return {"ratio": None, "target": target_text, "verdict": "not measured"}
    value = rival / ours if ours else float("inf")
    if value < 1:
        verdict = "**loses**"
    elif value > 1:
        verdict = "wins"
    else:
        verdict = "even"
    if target is not None:
        verdict += ", target met" if value >= target else ", **target missed**"
    near_one = 0.9 < value < 1.1  # three significant digits could hide on which side of 1 it is
    return {"ratio": f"{value:.4f}" if near_one else value, "target": target_text, "verdict": verdict}


def limit(value: float | None, maximum: float, unit: str) -> dict[str, Cell]:
    """Return the first cells of a row about Eckart alone: the figure, its upper limit, and the verdict."""
    target_text = f"≤ {maximum:g} {unit}".strip()
    if value is None:
        return {"figure": None, "target": target_text, "verdict": "not measured"}
    return {
        "figure": f"{cell_text(value)} {unit}".strip(),
        "target": target_text,
        "verdict": "target met" if value <= maximum else "**target missed**",
    }


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
    return "| " + " | ".join(padded) + " |\n"
