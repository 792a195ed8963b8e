"""What a matrix does to the unit circle: turned, stretched, turned, as four drawings."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from eckart.explain.exact import Matrix
from eckart.explain.formula import Formula, Row, Sym
from eckart.explain.notation import chain, letter
from eckart.explain.steps import Panel, Picture, Point, Say, Step, Text
from eckart.explain.work import Work

POINTS = 72  # of the circle: one in five degrees, which the eye takes for round
SMALL, LARGE = 0.4, 25.0  # beside a sigma_1 out of this range the unit circle is not to be seen
CIRCLE = np.array([f(np.linspace(0, 2 * np.pi, POINTS, endpoint=False)) for f in (np.cos, np.sin)])

Floats = NDArray[np.float64]


def can_be_drawn(matrix: Matrix) -> bool:
    """Whether a matrix takes the plane to the plane, or to a line."""
    return bool(matrix.cols == 2 and matrix.rows <= 2)


def circle_step(work: Work) -> Step:
    """Say what becomes of the unit circle, and draw it after V^T, after Sigma and after U.

    Only for a matrix that `can_be_drawn`; a line is drawn as the first axis.
    """
    lengths = {f"s{i}": chain(letter("σ", i), value) for i, value in enumerate(work.sigma, 1)}
    key = ("circle.point", "circle.segment", "circle.ellipse")[work.rank]
    return Step("title.circle", (Say(Text(key, lengths)), _picture(work)))


def _picture(work: Work) -> Picture:
    V, stretch, U = _floats(work.V), _floats(work.S), _floats(work.U)
    longest = float(work.sigma[0]) if work.rank else 1.0
    beside = SMALL <= longest <= LARGE
    reach = max(longest, 1.0) if beside else longest
    steps = (
        (Text("circle.start"), np.eye(2), "v", 1.0),
        (_caption(V, Sym("V", "", "T")), V.T, "e", 1.0),
        (Text("circle.stretched", {"M": Sym("Σ")}), stretch @ V.T, "σe", reach),
        (_caption(U, Sym("U")), U @ stretch @ V.T, "σu", reach),
    )
    panels = []
    for place, (caption, M, name, far) in enumerate(steps):
        count = work.rank if place > 1 else 2
        arrows = tuple((_label(name, i), _point(M @ V[:, i])) for i in range(count))
        dashed = _points(CIRCLE) if place > 1 and beside else ()
        panels.append(Panel(caption, _points(M @ CIRCLE), arrows, _point(M[:, 0]), far, dashed))
    return Picture(Text("circle.beside" if beside else "circle.alone"), tuple(panels))


def _caption(M: Floats, name: Formula) -> Text:
    """Say whether an orthogonal matrix turns the plane, or turns it over."""
    return Text("circle.turned" if np.linalg.det(M) > 0 else "circle.mirrored", {"M": name})


def _label(name: str, i: int) -> Formula:
    return Row(tuple(letter(sign, i + 1) for sign in name))


def _floats(M: Matrix) -> Floats:
    return np.array([[float(M[i, j]) for j in range(M.cols)] for i in range(M.rows)])


def _points(curve: Floats) -> tuple[Point, ...]:
    return tuple(_point(p) for p in curve.T)


def _point(p: Floats) -> Point:
    return float(p[0]), float(p[1]) if len(p) > 1 else 0.0
