"""The sentences of every language, and how their gaps are filled."""

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
    """Return a sentence with its gaps."""
    if lang not in TABLES:
        raise UsageError(f"lang={lang!r}", f"expected one of {', '.join(LANGUAGES)}")
    return TABLES[lang][key]


def fill(text: Text, lang: str, inline: Callable[[Formula], str], escape: Callable[[str], str]) -> str:
    """Return a sentence with its gaps filled, as a renderer writes words and formulas.

    Examples
    --------
    >>> from eckart.explain.formula import plain
    >>> fill(Text("matrix.shape", {"m": 2, "n": 3}), "en", plain, str)
    '2 rows and 3 columns.'
    """
    parts = []
    for words, gap, _, _ in Formatter().parse(sentence(text.key, lang)):
        parts.append(escape(words))
        if gap is not None:
            value = text.values[gap]
            parts.append(escape(str(value)) if isinstance(value, int) else inline(value))
    return "".join(parts)
