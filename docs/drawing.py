"""How the guide's figures look, and how they are written: SVG that suits a light page and a dark one.

A file is the same bytes whenever the same numbers are drawn. Matplotlib's date and hashed names are
taken out, coordinates keep two decimals, letters stay text. Colours go into attributes, so that a
style sheet in the file can turn the whole figure, ground and all, when the reader's screen is dark.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import Any

import matplotlib

matplotlib.use("svg")

import matplotlib.pyplot as plt

# Blue and vermilion, on dark sky blue and orange: told apart by all common kinds of colour blindness
# (Okabe and Ito, 2008), and dark enough for small letters. DARK is what a dark screen shows instead.
GROUND, INK, QUIET, RULE = "#ffffff", "#1f2430", "#667085", "#d8dce3"
BLUE, RED, GREEN, WASH = "#0072b2", "#bd4f00", "#007a5a", "#e9f1f8"
DARK = {
    GROUND: "#1e2129", INK: "#e7e9ee", QUIET: "#a2abba", RULE: "#3d4350",
    BLUE: "#56b4e9", RED: "#f0994a", GREEN: "#3fc49b", WASH: "#27323f",
}  # fmt: skip

STYLE = {
    "figure.facecolor": GROUND, "axes.facecolor": "none", "axes.edgecolor": RULE, "axes.labelcolor": QUIET,
    "axes.titlecolor": INK, "axes.titlesize": 10.5, "axes.titlelocation": "left", "axes.titlepad": 10,
    "axes.labelsize": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True,
    "axes.grid": True, "grid.color": RULE, "grid.linewidth": 0.6, "text.color": INK, "font.size": 9,
    "xtick.color": RULE, "ytick.color": RULE, "xtick.labelcolor": QUIET, "ytick.labelcolor": QUIET,
    "xtick.labelsize": 8.5, "ytick.labelsize": 8.5, "xtick.minor.bottom": False, "ytick.minor.left": False,
    "lines.linewidth": 1.8, "lines.solid_capstyle": "round", "path.simplify": False,
    "svg.fonttype": "none", "svg.hashsalt": "eckart", "legend.frameon": False,
}  # fmt: skip
matplotlib.rcParams.update(STYLE)

FONTS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', 'DejaVu Sans', sans-serif"


def canvas(columns: int, width: float, height: float, **how: Any) -> tuple[Any, Sequence[Any]]:
    """Return a figure with one row of axes, in the guide's style; sizes in inches."""
    figure, axes = plt.subplots(
        1, columns, figsize=(width, height), layout="constrained", squeeze=False, **how
    )
    return figure, axes[0]


def to_svg(figure: Any) -> str:
    """Return a figure as the text of an SVG file, and close it."""
    written = io.StringIO()
    figure.savefig(written, format="svg", metadata={"Date": None, "Creator": None})
    plt.close(figure)
    text = written.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r" <metadata>.*?</metadata>\n", "", text, flags=re.DOTALL)
    text = re.sub(r"font-family: [^;\"]*", f"font-family: {FONTS}", text)
    text = _named(text)
    text = re.sub(r'(?<= )style="([^"]*)"', _attributes, text)
    text = re.sub(r'(?<=[" ])(d|x|y|transform|points)="([^"]*)"', _rounded, text)
    return text.replace("</style>", _dark() + "</style>", 1)


def _named(text: str) -> str:
    """Number what Matplotlib names by a hash, which would change with the last bit of a coordinate."""
    hashed = re.findall(r'id="((?:m|p|C\w*_|image)[0-9a-f]{10})"', text)
    for number, name in enumerate(dict.fromkeys(hashed), 1):
        text = text.replace(name, f"part{number}")
    return text


def _attributes(found: re.Match[str]) -> str:
    """Turn a style into attributes, over which a style sheet has its way."""
    pairs = dict(pair.split(":", 1) for pair in found[1].split(";") if ":" in pair)
    return " ".join(f'{name.strip()}="{value.strip()}"' for name, value in pairs.items())


def _rounded(found: re.Match[str]) -> str:
    short = re.sub(r"-?\d+\.\d+", lambda number: f"{round(float(number[0]), 2) + 0.0:g}", found[2])
    return f'{found[1]}="{" ".join(short.split())}"'


def _dark() -> str:
    rules = "".join(
        f'[{part}="{light}"]{{{part}:{dark}}}' for light, dark in DARK.items() for part in ("fill", "stroke")
    )
    return f"@media (prefers-color-scheme: dark){{{rules}}}"
