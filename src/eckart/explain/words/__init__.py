"""The sentences in every language, with names in braces that formulas and integers replace."""

from __future__ import annotations

from collections.abc import Callable
from string import Formatter

from eckart.errors import UsageError
from eckart.explain.formula import Formula
from eckart.explain.steps import Text
from eckart.explain.words import en, ja, zh

TABLES = {"en": en.SENTENCES, "ja": ja.SENTENCES, "zh": zh.SENTENCES}
LANGUAGES = tuple(TABLES)


def sentence(key: str, lang: str) -> str:
    """Return a sentence with the names still in it."""
    if lang not in TABLES:
        raise UsageError(f"lang={lang!r}", f"expected one of {', '.join(LANGUAGES)}")
    return TABLES[lang][key]


def fill(text: Text, lang: str, inline: Callable[[Formula], str], escape: Callable[[str], str]) -> str:
    """Return a sentence with its values, as a renderer writes text and formulas.

    Parameters
    ----------
    text : Text
        The sentence and its values.
    lang : str
        The language.
    inline, escape : callable
        The renderer's functions for formulas and for plain text.

    Examples
    --------
    >>> from eckart.explain.formula import plain
    >>> fill(Text("matrix.shape", {"m": 2, "n": 3}), "en", plain, str)
    'Rows: 2, columns: 3.'
    """
    parts = []
    for literal, name, _, _ in Formatter().parse(sentence(text.key, lang)):
        parts.append(escape(literal))
        if name is not None:
            value = text.values[name]
            parts.append(escape(str(value)) if isinstance(value, int) else inline(value))
    return "".join(parts)
