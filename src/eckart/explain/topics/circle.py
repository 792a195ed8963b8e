"""The unit circle under a matrix, in four drawings: rotated, stretched, rotated."""

from __future__ import annotations

import numpy as np

from eckart.arrays import Floats
from eckart.explain.decomposition import Decomposition
from eckart.explain.exact import Matrix
from eckart.explain.formula import Formula, Row, Sym
from eckart.explain.notation import chain, letter
from eckart.explain.steps import Panel, Picture, Point, Say, Step, Text

POINTS = 72  # points of the circle: one every five degrees looks round
SMALL, LARGE = 0.4, 25.0  # for sigma_1 outside this range, the unit circle is too small or too large to draw
ANGLES = np.linspace(0, 2 * np.pi, POINTS, endpoint=False)
CIRCLE = np.array([np.cos(ANGLES), np.sin(ANGLES)])


def can_be_drawn(matrix: Matrix) -> bool:
    """Whether a matrix maps the plane to the plane or to a line."""
    return bool(matrix.cols == 2 and matrix.rows <= 2)


def circle_step(svd: Decomposition) -> Step:
    """Describe the image of the unit circle, and draw the circle after V^T, after Sigma and after U.

    The matrix must satisfy `can_be_drawn`. A line is drawn as the first axis.
    """
    lengths = {f"s{i}": chain(letter("σ", i), value) for i, value in enumerate(svd.sigma, 1)}
    key = ("circle.point", "circle.segment", "circle.ellipse")[svd.rank]
    return Step("title.circle", (Say(Text(key, lengths)), _picture(svd)))


def _picture(svd: Decomposition) -> Picture:
    V, stretch, U = _floats(svd.V), _floats(svd.S), _floats(svd.U)
    longest = float(svd.sigma[0]) if svd.rank else 1.0
    with_circle = SMALL <= longest <= LARGE
    reach = max(longest, 1.0) if with_circle else longest
    steps = (
        (Text("circle.start"), np.eye(2), "v", 1.0),
        (_caption(V, Sym("V", "", "T")), V.T, "e", 1.0),
        (Text("circle.stretched", {"M": Sym("Σ")}), stretch @ V.T, "σe", reach),
        (_caption(U, Sym("U")), U @ stretch @ V.T, "σu", reach),
    )
    panels = []
    for place, (caption, M, name, far) in enumerate(steps):
        count = svd.rank if place > 1 else 2
        arrows = tuple((_label(name, i), _point(M @ V[:, i])) for i in range(count))
        dashed = _points(CIRCLE) if place > 1 and with_circle else ()
        panels.append(Panel(caption, _points(M @ CIRCLE), arrows, _point(M[:, 0]), far, dashed))
    return Picture(Text("circle.compared" if with_circle else "circle.alone"), tuple(panels))


def _caption(M: Floats, name: Formula) -> Text:
    """Say whether an orthogonal matrix rotates or mirrors the plane."""
    return Text("circle.turned" if np.linalg.det(M) > 0 else "circle.mirrored", {"M": name})


def _label(name: str, i: int) -> Formula:
    return Row(tuple(letter(sign, i + 1) for sign in name))


def _floats(M: Matrix) -> Floats:
    return np.array([[float(M[i, j]) for j in range(M.cols)] for i in range(M.rows)])


def _points(curve: Floats) -> tuple[Point, ...]:
    return tuple(_point(p) for p in curve.T)


def _point(p: Floats) -> Point:
    return float(p[0]), float(p[1]) if len(p) > 1 else 0.0
