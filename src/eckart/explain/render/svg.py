"""A panel of a picture as inline SVG, with colours from the style sheet of the page, for light and dark."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from math import floor, hypot, log10

from eckart.explain.formula import plain
from eckart.explain.steps import Panel, Point

HALF = 100.0  # half of the side of the picture, in SVG units
ROOM = 1.6  # half of the side, in units of the panel's reach; the margin is for labels
HEAD = 8.0  # length of the head of an arrow
CLASSES = ("first", "second")


def svg(panel: Panel) -> str:
    """Return a panel as an SVG element. Its caption, which stands next to it, describes it."""
    scale = HALF / (ROOM * panel.reach)

    def place(point: Point) -> Point:
        return point[0] * scale, -point[1] * scale  # the y axis of SVG points down

    parts = [f'<path class="axis" d="M{-HALF:g} 0H{HALF:g}M0 {-HALF:g}V{HALF:g}"/>']
    if panel.dashed:
        parts.append(f'<path class="dashed" d="{_curve(map(place, panel.dashed))}"/>')
    parts.append(f'<path class="outline" d="{_curve(map(place, panel.outline))}"/>')
    for kind, (label, tip) in zip(CLASSES, panel.arrows, strict=False):
        parts += _arrow(kind, plain(label), place(tip))
    parts += _tick(_round(panel.reach), scale)
    x, y = place(panel.ring)
    parts.append(f'<circle class="ring" cx="{_short(x)}" cy="{_short(y)}" r="3.5"/>')
    box = f"{-HALF:g} {-HALF:g} {2 * HALF:g} {2 * HALF:g}"
    return f'<svg viewBox="{box}" aria-hidden="true">{"".join(parts)}</svg>'


def _tick(step: float, scale: float) -> Iterable[str]:
    """Mark one length on the negative first axis to show the scale."""
    at = -step * scale
    yield f'<path class="tick" d="M{_short(at)} -3V3"/>'
    yield f'<text class="tick" x="{_short(at - 8)}" y="14">{-step:g}</text>'


def _round(reach: float) -> float:
    """Return the largest number up to ``reach`` of the form 1, 2 or 5 times a power of ten."""
    power = 10.0 ** floor(log10(reach) + 1e-9)
    return next(float(f"{m * power:.6g}") for m in (5, 2, 1) if m * power <= reach * (1 + 1e-9))


def _arrow(kind: str, label: str, tip: Point) -> Iterable[str]:
    x, y = tip
    length = hypot(x, y)
    if length < 0.5:  # too short to be visible
        return
    a, b = x / length, y / length
    head = min(HEAD, 0.6 * length)
    neck = (x - head * a, y - head * b)
    wings = [(neck[0] - side * 0.45 * head * b, neck[1] + side * 0.45 * head * a) for side in (1, -1)]
    yield f'<line class="{kind}" x1="0" y1="0" x2="{_short(neck[0])}" y2="{_short(neck[1])}"/>'
    yield f'<path class="{kind}" d="{_curve([tip, *wings])}"/>'
    beyond = length + 12 + 2 * len(label) * abs(a)  # labels are longer along the first axis
    yield (
        f'<text class="{kind}" x="{_short(beyond * a)}" y="{_short(beyond * b)}" dy=".35em">'
        f"{escape(label)}</text>"
    )


def _curve(points: Iterable[Point]) -> str:
    return "M" + "L".join(f"{_short(x)} {_short(y)}" for x, y in points) + "Z"


def _short(x: float) -> str:
    return f"{round(x, 2) + 0.0:g}"
