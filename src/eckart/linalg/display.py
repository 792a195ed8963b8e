"""Tables that notebooks show for results."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape


def html_table(title: str, rows: Mapping[str, str]) -> str:
    """Return a table of two columns as HTML.

    Parameters
    ----------
    title : str
        Shown above the table.
    rows : mapping of str to str
        Label and value of each row.

    Returns
    -------
    str
        Everything is escaped.

    Examples
    --------
    >>> html_table("LowRank", {"rank": "2"})
    '<table><caption>LowRank</caption><tr><th scope="row">rank</th><td>2</td></tr></table>'
    """
    body = "".join(
        f'<tr><th scope="row">{escape(label)}</th><td>{escape(value)}</td></tr>'
        for label, value in rows.items()
    )
    return f"<table><caption>{escape(title)}</caption>{body}</table>"
