"""Rendering of an explanation in one of four formats and one of three languages."""

from __future__ import annotations

from eckart.checks import check_choice
from eckart.explain.render.html import Html
from eckart.explain.render.latex import Latex
from eckart.explain.render.markdown import Markdown
from eckart.explain.render.terminal import Terminal
from eckart.explain.render.writer import Writer, write
from eckart.explain.steps import Explanation
from eckart.explain.words import LANGUAGES

WRITERS: dict[str, type[Writer]] = {
    "terminal": Terminal,
    "markdown": Markdown,
    "latex": Latex,
    "html": Html,
}
FORMATS = tuple(WRITERS)


def render(
    explanation: Explanation[object], format: str = "terminal", lang: str = "en", width: int | None = None
) -> str:
    """Return an explanation as text.

    Parameters
    ----------
    explanation : Explanation
        The result of `explain`.
    format : {"terminal", "markdown", "latex", "html"}
        Unicode text; Markdown with formulas between dollar signs; a LaTeX document; or an HTML page with
        MathML, which loads no other files.
    lang : {"en", "ja", "zh"}
        English, Japanese or Chinese.
    width : int, optional
        Columns of the terminal, for the format "terminal". By default, lines have about 100 columns.

    Returns
    -------
    str
        The document.

    Raises
    ------
    UsageError
        The format or the language is unknown.

    Examples
    --------
    >>> from eckart.explain import explain
    >>> print(render(explain("rank", "1 2; 2 4"))[:27])
    Three ways to find the rank
    """
    format = check_choice(format, "format", FORMATS)
    writer = Terminal(width) if format == "terminal" else WRITERS[format]()
    return write(explanation, writer, check_choice(lang, "lang", LANGUAGES))


__all__ = ["FORMATS", "LANGUAGES", "render"]
