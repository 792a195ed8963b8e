"""Layout of formulas as blocks of text for a terminal: matrices take several lines, everything else one."""

from __future__ import annotations

from dataclasses import dataclass

from rich.cells import cell_len

from eckart.explain.formula import Formula, Frac, Grid, Op, Paren, Row, plain

WIDTH = 100  # columns; longer formulas continue on the next line
BREAKS = "=≈+-"  # signs where a line can break


@dataclass(frozen=True)
class Box:
    """Lines of equal width. The line ``base`` is level with the text on both sides."""

    lines: tuple[str, ...]
    base: int = 0

    @property
    def width(self) -> int:
        """Columns on the screen."""
        return cell_len(self.lines[0])

    def join(self, other: Box) -> Box:
        """Return this box with another one to its right, base line to base line."""
        base = max(self.base, other.base)
        below = max(len(self.lines) - self.base, len(other.lines) - other.base)
        left, right = self.padded(base, below), other.padded(base, below)
        return Box(tuple(a + b for a, b in zip(left, right, strict=True)), base)

    def padded(self, above: int, below: int) -> list[str]:
        """Return the lines, padded to ``above`` lines above the base and ``below`` lines from the base on."""
        blank = [" " * self.width]
        after = below - (len(self.lines) - self.base)
        return blank * (above - self.base) + list(self.lines) + blank * after


def draw(formula: Formula, width: int = WIDTH) -> str:
    """Return a formula as lines of text, broken before signs where a line would be wider than ``width``.

    Examples
    --------
    >>> from eckart.explain.formula import Num, Sym
    >>> print(draw(Row((Sym("W"), Op("="), Grid(((Num("4"), Num("0")), (Num("3"), Num("5"))))))))
        ⎡4  0⎤
    W = ⎣3  5⎦
    """
    rows: list[Box] = []
    current: Box | None = None
    indent = 0
    for i, item in enumerate(_flat(formula)):
        piece = box(item)
        if current is None:
            current = piece
            continue
        can_break = isinstance(item, Op) and item.text in BREAKS
        if can_break and current.width > indent and current.width + piece.width + _ahead(formula, i) > width:
            rows.append(current)
            indent = 4
            current = Box((" " * indent,)).join(piece)
        else:
            current = current.join(piece)
    if current is not None:
        rows.append(current)
    return "\n".join(text.rstrip() for row in rows for text in row.lines)


def _flat(formula: Formula) -> list[Formula]:
    """Return the items of a row, with nested rows flattened."""
    if not isinstance(formula, Row):
        return [formula]
    return [part for item in formula.items for part in _flat(item)]


def _ahead(formula: Formula, i: int) -> int:
    """Return the width between the sign at place i and the next sign where a line can break."""
    width = 0
    for item in _flat(formula)[i + 1 :]:
        if isinstance(item, Op) and item.text in BREAKS:
            break
        width += box(item).width
    return width


def box(formula: Formula) -> Box:
    """Return a formula as a box."""
    match formula:
        case Grid(rows, fence):
            return _matrix([[plain(x) for x in row] for row in rows], fence)
        case Row(items) if items:
            joined = box(items[0])
            for item in items[1:]:
                joined = joined.join(box(item))
            return joined
        case Paren(inner) if _has_grid(inner):
            return Box(("(",)).join(box(inner)).join(Box((")",)))
        case _:
            return Box((plain(formula),))


def _has_grid(formula: Formula) -> bool:
    match formula:
        case Grid():
            return True
        case Row(items):
            return any(map(_has_grid, items))
        case Frac(top, bottom):
            return _has_grid(top) or _has_grid(bottom)
        case Paren(inner):
            return _has_grid(inner)
        case _:
            return False


def _matrix(cells: list[list[str]], fence: str) -> Box:
    widths = [max(map(cell_len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "  ".join(" " * (w - cell_len(c)) + c for c, w in zip(row, widths, strict=True)) for row in cells
    ]
    last = len(lines) - 1
    left, right = _fences(len(lines), fence)
    drawn = tuple(f"{left[i]}{text}{right[i]}" for i, text in enumerate(lines))
    return Box(drawn, (last + 1) // 2)


def _fences(n: int, fence: str) -> tuple[str, str]:
    if fence == "||":
        return "│" * n, "│" * n
    if n == 1:
        return "[", "]"
    middle = n - 2
    return "⎡" + "⎢" * middle + "⎣", "⎤" + "⎥" * middle + "⎦"
