"""Rows of figures as data, and their rendering as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

Cell = str | float | int | None


@dataclass
class Table:
    """A title, a sentence on how to read it, and rows that all have the same keys."""

    title: str
    note: str = ""
    rows: list[dict[str, Cell]] = field(default_factory=list)

    def markdown(self) -> str:
        """Render as a Markdown table under a heading."""
        head = f"### {self.title}\n\n" + (f"{self.note}\n\n" if self.note else "")
        if not self.rows:
            return head + "Nothing was measured.\n"
        names = list(self.rows[0])
        lines = [names, ["---"] * len(names)]
        lines += [[shown(row[name]) for name in names] for row in self.rows]
        widths = [max(len(line[i]) for line in lines) for i in range(len(names))]
        return head + "".join(_line(line, widths) for line in lines)


def shown(cell: Cell) -> str:
    """Render one cell: three significant digits, and nothing for what was not measured."""
    if cell is None:
        return "-"
    if isinstance(cell, float):
        return f"{cell:.0f}" if abs(cell) >= 1000 else f"{cell:.3g}"
    return str(cell)


def ratio(theirs: float | None, ours: float | None, target: float | None) -> dict[str, Cell]:
    """Return the first cells of a row: theirs / ours, whether we lose, and the target beside it.

    Seconds, bytes and residuals are all better when smaller, so that above 1 is ours.
    """
    aim = None if target is None else f"≥ {target:g}"
    if theirs is None or ours is None:
        return {"ratio": None, "target": aim, "verdict": "not measured"}
    value = theirs / ours if ours else float("inf")
    words = ["**loses**"] if value < 1 else ["wins"] if value > 1 else ["even"]
    if target is not None:
        words.append("target met" if value >= target else "**target missed**")
    near = 0.9 < value < 1.1  # three digits would hide which side of 1 it is on
    return {
        "ratio": f"{value:.4f}" if near else value,
        "target": aim,
        "verdict": ", ".join(words),
    }


def limit(value: float | None, most: float, unit: str) -> dict[str, Cell]:
    """Return the first cells of a row of ours alone: the figure against the most it may be."""
    aim = f"≤ {most:g} {unit}".strip()
    if value is None:
        return {"figure": None, "target": aim, "verdict": "not measured"}
    return {
        "figure": f"{shown(value)} {unit}".strip(),
        "target": aim,
        "verdict": "target met" if value <= most else "**target missed**",
    }


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "| " + " | ".join(c.ljust(w) for c, w in zip(cells, widths, strict=True)) + " |\n"
