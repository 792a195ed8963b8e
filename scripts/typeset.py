"""Typeset the formulas of the guide as MathML, which browsers show without a script or a font from elsewhere.

mkdocs calls this file as a hook. The Markdown extension `arithmatex` marks the formulas, ``$...$`` in a line
and ``$$...$$`` on lines of their own, and leaves code alone. GitHub typesets the same notation.
"""

from __future__ import annotations

import html
import re

from latex2mathml.converter import convert

MARKED = re.compile(r'<(span|div) class="arithmatex">(.*?)</\1>', re.DOTALL)


def on_page_content(content: str, **_: object) -> str:
    """Replace every marked formula in the HTML of a page; mkdocs calls this for each page."""
    return MARKED.sub(lambda match: mathml(html.unescape(match[2])), content)


def mathml(marked: str) -> str:
    r"""Return a formula as MathML.

    Parameters
    ----------
    marked : str
        ``\(...\)`` for a formula in a line, ``\[...\]`` for one on lines of its own.

    Raises
    ------
    ValueError
        If the formula contains a command that is not known.
    """
    is_display = marked.startswith(r"\[")
    formula = marked[2:-2].strip()
    result = convert(formula, display="block" if is_display else "inline")
    if "\\" in result or "<mi>&</mi>" in result:  # a command or an environment that is not known
        raise ValueError(f"this formula cannot be typeset: {formula}")
    return result
