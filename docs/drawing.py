"""The style of the guide's figures, and their conversion to SVG for light and dark pages.

The same numbers always give the same bytes: Matplotlib's date and hashed names are removed, and coordinates
are rounded to two decimals. Letters stay text. Colours are attributes, so a style sheet in the file can
change all of them, background included, for dark screens.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence

import matplotlib

matplotlib.use("svg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Blue and vermilion on light pages, sky blue and orange on dark ones, can be distinguished with all common
# kinds of colour blindness (Okabe and Ito, 2008) and have enough contrast for small letters. DARK replaces
# the colours on dark screens.
GROUND, INK, QUIET, RULE = "#ffffff", "#1f2430", "#667085", "#d8dce3"
BLUE, RED, GREEN, WASH = "#0072b2", "#bd4f00", "#007a5a", "#e9f1f8"
DARK = {
    GROUND: "#1e2129",
    INK: "#e7e9ee",
    QUIET: "#a2abba",
    RULE: "#3d4350",
    BLUE: "#56b4e9",
    RED: "#f0994a",
    GREEN: "#3fc49b",
    WASH: "#27323f",
}

STYLE = {
    "axes.axisbelow": True,
    "axes.edgecolor": RULE,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.labelcolor": QUIET,
    "axes.labelsize": 9,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.titlesize": 10.5,
    "figure.facecolor": GROUND,
    "font.size": 9,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    "path.simplify": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "eckart",
    "text.color": INK,
    "xtick.color": RULE,
    "xtick.labelcolor": QUIET,
    "xtick.labelsize": 8.5,
    "xtick.minor.bottom": False,
    "ytick.color": RULE,
    "ytick.labelcolor": QUIET,
    "ytick.labelsize": 8.5,
    "ytick.minor.left": False,
}
matplotlib.rcParams.update(STYLE)

FONTS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', 'DejaVu Sans', sans-serif"


def canvas(
    columns: int, width: float, height: float, width_ratios: Sequence[float] | None = None
) -> tuple[Figure, Sequence[Axes]]:
    """Return a figure with one row of axes in the style of the guide; sizes are in inches."""
    size = (width, height)
    figure, axes = plt.subplots(
        1, columns, figsize=size, layout="constrained", squeeze=False, width_ratios=width_ratios
    )
    return figure, axes[0]


def to_svg(figure: Figure) -> str:
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


def _attributes(match: re.Match[str]) -> str:
    """Convert a style to attributes, which a style sheet can override."""
    pairs = dict(pair.split(":", 1) for pair in match[1].split(";") if ":" in pair)
    return " ".join(f'{name.strip()}="{value.strip()}"' for name, value in pairs.items())


def _rounded(match: re.Match[str]) -> str:
    """Round the numbers in an attribute to two decimals."""
    short = re.sub(r"-?\d+\.\d+", lambda number: f"{round(float(number[0]), 2) + 0.0:g}", match[2])
    return f'{match[1]}="{" ".join(short.split())}"'


def _dark() -> str:
    rules = "".join(
        f'[{part}="{light}"]{{{part}:{dark}}}' for light, dark in DARK.items() for part in ("fill", "stroke")
    )
    return f"@media (prefers-color-scheme: dark){{{rules}}}"
