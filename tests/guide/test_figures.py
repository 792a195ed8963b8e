"""The figures of the guide: the numbers they show are right, and the files are current."""

from __future__ import annotations

import base64
import functools
import io
import re
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from eckart.checkpoint import Checkpoint
from eckart.demo import BASE, TUNED
from eckart.store.delta import read_delta

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
sys.path.append(str(DOCS))

import figures  # noqa: E402
from drawing import DARK, GROUND, canvas, to_svg  # noqa: E402

NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
IMAGE = re.compile(r"data:image/png;base64,\s*([A-Za-z0-9+/=\s]+)")


@functools.cache
def drawn(name: str):
    """Return the SVG text of a figure and the numbers it shows."""
    figure, numbers = figures.FIGURES[name]()
    return to_svg(figure), numbers


def test_the_circle_is_rotated_stretched_and_rotated():
    numbers = drawn("circle")[1]
    W, points, arrows = (numbers[key] for key in ("W", "points", "arrows"))
    assert W.tolist() == [[4, 0], [3, 5]]
    radii = [np.linalg.norm(p, axis=0) for p in points]
    assert radii[0] == pytest.approx(1) and radii[1] == pytest.approx(1)
    np.testing.assert_allclose(points[3], W @ points[0], atol=1e-14)
    np.testing.assert_allclose(radii[2], radii[3], rtol=1e-14)  # U only rotates
    assert [max(radii[3]), min(radii[3])] == pytest.approx([40**0.5, 10**0.5], rel=1e-2)
    np.testing.assert_allclose(np.linalg.norm(arrows[3], axis=0), [40**0.5, 10**0.5])
    np.testing.assert_allclose(arrows[1], np.eye(2), atol=1e-15)
    # Rotated, not mirrored: v2 is a quarter turn counterclockwise from v1, and so are their images.
    assert all(np.linalg.det(M) > 0 for M in arrows)


def test_the_spectra_are_those_of_the_pair():
    numbers = drawn("spectra")[1]
    seen = {label: (row["knee"], row["ninety"]) for label, row in numbers.items()}
    assert seen == {
        "lm_head": (1, 1),
        "layers.0.self_attn.k_proj": (9, 23),
        "layers.3.mlp.gate_proj": (29, 57),
    }
    for label, row in numbers.items():
        name = f"{label}.weight" if label == "lm_head" else f"model.{label}.weight"
        sides = [Checkpoint.open(path).map(name).astype(np.float64) for path in (TUNED, BASE)]
        known = np.linalg.svd(sides[0] - sides[1], compute_uv=False)
        np.testing.assert_allclose(row["values"], known, rtol=1e-6, atol=1e-9 * known[0])
        shares = np.cumsum(known**2) / np.sum(known**2)
        np.testing.assert_allclose(row["energy"][1:], shares, rtol=1e-9)
        assert row["ninety"] == 1 + int(np.argmax(shares >= 0.9))


def test_the_noise_floor_agrees_with_the_library():
    numbers = drawn("noise")[1]
    made, real = numbers["made"], numbers["real"]
    base, tuned = (Checkpoint.open(path) for path in (BASE, TUNED))
    delta = read_delta(base.info("lm_head.weight"), tuned.info("lm_head.weight"), noise=True)
    assert real["floor"] == pytest.approx(delta.noise_floor, rel=1e-12) and real["above"] == 124
    assert made["above"] == 16
    # Rounding to bfloat16 lowers them by up to 8 % here: small changes of an entry are lost.
    np.testing.assert_allclose(made["values"][:16], made["truth"], rtol=0.1)
    assert (made["ninety"], made["99"]) == (52, 158)  # a share of the energy overestimates the 16 directions


def test_the_approximations_of_the_picture_are_the_best():
    numbers = drawn("image")[1]
    plane = numbers["picture"].astype(np.float64)
    U, s, Vh = np.linalg.svd(plane)
    for image in numbers["ranks"]:
        r = image.rank
        best = (U[:, :r] * s[:r]) @ Vh[:r]
        assert np.linalg.norm(plane - best) / np.linalg.norm(plane) == pytest.approx(image.error, rel=1e-9)
        assert np.abs(image.picture - np.clip(np.rint(best), 0, 255)).max() <= 1
        assert image.share == r * (192 + 192 + 1) / 192**2


def test_the_theorem_of_eckart_and_young_holds_in_the_figure():
    numbers = drawn("eckart-young")[1]
    predicted = numbers["theory"][numbers["ranks"]]
    # The measured norms contain the rounding errors of 25,600 entries.
    np.testing.assert_allclose(numbers["best"], predicted, rtol=1e-9)
    for competitor in ("columns", "random"):
        assert np.all(numbers[competitor] > predicted * (1 + 1e-6))


def test_the_factors_are_drawn_to_scale():
    boxes = drawn("factors")[1]["boxes"]
    sizes = {name: (h, w) for name, (_, _, w, h) in boxes.items()}
    assert sizes == {"dW": (160, 432), "B": (160, 16), "A": (16, 432)}
    text = drawn("factors")[0]
    assert f"{16 * (160 + 432):,} numbers" in text and "13.7%" in text


def test_the_losses_are_those_that_the_demo_prints():
    """The figure repeats the table of the README, which the tests of pages compare with the demo."""
    readme = (ROOT / "README.md").read_text("utf-8")
    rows = re.findall(
        r"^(base(?: \+ \d+%)?|tuned) +[\d,]+ +(\S+(?: [kM]B)?) +([\d.]+) +([\d.]+)%$", readme, re.M
    )
    printed = {name: (size.replace("-", ""), float(loss), float(closed)) for name, size, loss, closed in rows}
    assert drawn("demo")[1]["losses"] == printed and len(printed) == 5


def alike(ours: str, theirs: str) -> bool:
    """Whether two files are the same up to the last digits, which depend on the LAPACK."""
    shapes = [NUMBER.sub("#", IMAGE.sub("", text)) for text in (ours, theirs)]
    pixels = [[picture(x) for x in IMAGE.findall(text)] for text in (ours, theirs)]
    numbers = [np.array(NUMBER.findall(IMAGE.sub("", text)), float) for text in (ours, theirs)]
    return (
        shapes[0] == shapes[1]
        and numbers[0].shape == numbers[1].shape
        and bool(np.all(np.abs(numbers[0] - numbers[1]) <= 0.021))  # two decimals, rounded either way
        and len(pixels[0]) == len(pixels[1])
        and all(np.abs(a - b).max() <= 1 for a, b in zip(*pixels, strict=True))
    )


def picture(encoded: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded))), float)


def pinned() -> str:
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["dependency-groups"]
    return next(line.partition("==")[2] for line in groups["docs"] if line.startswith("matplotlib=="))


@pytest.mark.skipif(version("matplotlib") != pinned(), reason="another Matplotlib lays out otherwise")
@pytest.mark.parametrize("name", figures.FIGURES)
def test_every_file_is_current(name):
    kept = (DOCS / "figures" / f"{name}.svg").read_text("utf-8")
    assert alike(drawn(name)[0], kept), "run python docs/figures.py"


def test_drawing_twice_gives_the_same_bytes():
    assert to_svg(figures.circle()[0]) == to_svg(figures.circle()[0])


def test_the_comparison_detects_changes():
    kept = (DOCS / "figures" / "circle.svg").read_text("utf-8")
    moved = re.sub(r"M (\d+)", lambda match: f"M {int(match[1]) + 1}", kept, count=1)
    assert moved != kept and not alike(moved, kept) and alike(kept, kept)
    assert not alike(kept.replace("stretches", "shrinks"), kept)


@pytest.mark.parametrize("path", sorted((DOCS / "figures").glob("*")), ids=lambda p: p.name)
def test_every_file_is_valid_and_used(path):
    assert path.stem in figures.FIGURES and path.suffix == ".svg"
    text = path.read_text("utf-8")
    ElementTree.fromstring(text)
    assert not re.search(r"<script|@import|url\((?!#)|href=\"(?!#|data:)|\d{4}-\d\d-\d\d", text)
    assert "prefers-color-scheme: dark" in text and f'fill="{GROUND}"' in text
    assert 'style="' not in text, "a style attribute would override the style sheet"
    assert any(f"figures/{path.name}" in page.read_text("utf-8") for page in DOCS.rglob("*.md"))


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colours as defined by the Web Content Accessibility Guidelines."""

    def light(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        r, g, b = (x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts)
        return 0.2126 * r + 0.7152 * g + 0.0722 * b

    low, high = sorted((light(one), light(other)))
    return (high + 0.05) / (low + 0.05)


def test_text_has_enough_contrast_on_light_and_dark_pages():
    for name in ("INK", "QUIET", "BLUE", "RED", "GREEN"):
        colour = getattr(figures, name)
        assert contrast(colour, GROUND) > 4.5 and contrast(DARK[colour], DARK[GROUND]) > 4.5, name
    figure, (ax,) = canvas(1, 2, 2)
    ax.text(0, 0, "x")
    assert f'fill="{figures.INK}"' in to_svg(figure)
