"""The drawings of the unit circle: the points in the data, and the SVG made from them."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eckart.explain import FORMATS, LANGUAGES, explain, render
from eckart.explain.formula import plain
from eckart.explain.steps import Picture
from eckart.explain.words import TABLES

MATRICES = [
    "4 0; 3 5",
    "3 1; 1 2",
    "1 2; 2 4",
    "0 0; 0 0",
    "0 -1; 1 0",
    "0 4; 5 3",
    "sqrt(2) 1; 1 1",
    "0.01 0.02; -0.03 0.01",
    "900 1; 2 800",
    "1 2",
    "-3 0",
]


def picture(matrix):
    (drawn,) = (part for part in explain("svd", matrix).parts() if isinstance(part, Picture))
    return drawn


def numbers(matrix):
    return np.array([[float(_value(x)) for x in row.split()] for row in matrix.split(";")])


def _value(text):
    return np.sqrt(2) if text == "sqrt(2)" else text


def check(W, drawn):
    """Check that the four panels are x, V^T x, S V^T x and W x for x on the circle."""
    start, rotated, stretched, ended = drawn.panels
    points = [np.array(panel.outline).T for panel in drawn.panels]  # (2, 72) each
    sigma = np.zeros(2)
    values = np.linalg.svd(W, compute_uv=False)
    sigma[: len(values)] = values
    scale = max(sigma[0], 1e-300)
    assert len(start.outline) == 72 and len(set(start.outline)) == 72
    for p in points[:2]:
        assert np.hypot(*p) == pytest.approx(1)
    image = np.vstack([W @ points[0], np.zeros((2 - len(W), 72))])
    np.testing.assert_allclose(points[3], image, atol=1e-12 * scale)
    np.testing.assert_allclose(points[2], sigma[:, None] * points[1], atol=1e-12 * scale)
    # The arrows: the v, their images on the axes, the semi-axes, and the images under W.
    rank = int(np.sum(sigma > 1e-12 * scale)) if sigma[0] else 0
    assert [len(panel.arrows) for panel in drawn.panels] == [2, 2, rank, rank]
    V = np.array([tip for _, tip in start.arrows]).T
    np.testing.assert_allclose(V.T @ V, np.eye(2), atol=1e-12)
    np.testing.assert_allclose([tip for _, tip in rotated.arrows], np.eye(2), atol=1e-12)
    for i in range(rank):
        assert np.hypot(*stretched.arrows[i][1]) == pytest.approx(sigma[i])
        np.testing.assert_allclose(ended.arrows[i][1][: len(W)], W @ V[:, i], atol=1e-12 * scale)
    # A caption says "mirrors" exactly if the orientation changes.
    assert rotated.caption.key == ("circle.turned" if np.linalg.det(V) > 0 else "circle.mirrored")
    if W.shape == (2, 2) and rank == 2:
        mirrored = [panel.caption.key for panel in (rotated, ended)].count("circle.mirrored")
        assert (mirrored % 2 == 1) == (np.linalg.det(W) < 0)
    np.testing.assert_allclose(ended.ring[: len(W)], W[:, 0], atol=1e-12 * scale)
    for panel, p in zip(drawn.panels, points, strict=True):
        assert np.abs(p).max() <= panel.reach * (1 + 1e-12)


@pytest.mark.parametrize("matrix", MATRICES)
def test_the_panels_show_the_images_of_the_circle(matrix):
    check(numbers(matrix), picture(matrix))


@settings(max_examples=40)
@given(st.lists(st.lists(st.integers(-9, 9), min_size=2, max_size=2), min_size=1, max_size=2))
def test_the_panels_are_right_for_random_integers(rows):
    check(np.array(rows, float), picture(rows))


@pytest.mark.parametrize("matrix", ["3 1; 1 3; 1 1", "3 2 2; 2 3 -2", "5", "3; 4", "1 2 3"])
def test_other_shapes_are_not_drawn(matrix):
    done = explain("svd", matrix)
    assert not any(isinstance(part, Picture) for part in done.parts())
    assert "title.circle" not in done.keys() and "<svg" not in render(done, "html")  # noqa: SIM118


def test_only_the_topic_svd_has_a_drawing():
    for topic in ("rank", "lowrank", "lora", "pinv", "pca"):
        assert "<svg" not in render(explain(topic, "4 0; 3 5"), "html")


@pytest.mark.parametrize("matrix", MATRICES)
def test_the_svg_shows_the_points(matrix):
    text = render(explain("svd", matrix), "html")
    drawings = [ElementTree.fromstring(x) for x in re.findall(r"<svg.*?</svg>", text)]
    drawn = picture(matrix)
    assert len(drawings) == len(drawn.panels) == 4
    for svg, panel in zip(drawings, drawn.panels, strict=True):
        assert svg.get("viewBox") == "-100 -100 200 200"
        (path,) = (e for e in svg if e.get("class") == "outline")
        points = np.array(re.findall(r"-?[\d.]+(?:e-?\d+)?", path.get("d")), float).reshape(-1, 2)
        tick = next(e for e in svg if e.get("class") == "tick" and e.tag == "path")
        label = float(next(e.text for e in svg if e.get("class") == "tick" and e.tag == "text"))
        place = float(re.match(r"M(-?[\d.]+)", tick.get("d"))[1])
        # The scale is read from the tick, as a reader would do; coordinates have two decimals.
        scale = place / label
        np.testing.assert_allclose(points / [scale, -scale], panel.outline, atol=0.02 * panel.reach)
        assert np.abs(points).max() < 100
        labels = [e.text for e in svg if e.tag == "text" and e.get("class") != "tick"]
        assert labels == [plain(name) for name, _ in panel.arrows]
        for e in svg.iter("text"):
            assert abs(float(e.get("x"))) < 95 and abs(float(e.get("y"))) < 95


def test_the_page_has_colours_for_dark_screens():
    text = render(explain("svd", "4 0; 3 5"), "html")
    style = text[: text.index("</style>")]
    assert "prefers-color-scheme: dark" in style
    for name in re.findall(r"var\((--\w+)\)", style):
        assert style.count(f"{name}:") >= 1
    for kind in set(re.findall(r'class="(\w+)"', "".join(re.findall(r"<svg.*?</svg>", text)))):
        assert f".{kind}" in style


def test_every_format_describes_the_picture_in_a_sentence():
    for matrix, key in (("4 0; 3 5", "ellipse"), ("1 2; 2 4", "segment"), ("0 0; 0 0", "point")):
        done = explain("svd", matrix)
        for format in FORMATS:
            for lang in LANGUAGES:
                text = render(done, format, lang)
                assert re.split("u₁|{", TABLES[lang][f"circle.{key}"])[0] in text
                assert ("<svg" in text) == (format == "html")
    text = " ".join(render(explain("svd", "4 0; 3 5")).split())
    assert "the semi-axes σ₁ = 2√10 ≈ 6.3246 along u₁ and σ₂ = √10 ≈ 3.1623 along u₂." in text
