"""Write docs/commands.md: every command of `eckart` with its arguments and options, read from the program.

Run it from the repository's root after a change to a command. A test compares the page with the program::

    python scripts/write_commands.py
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

import typer

from eckart.cli.app import app

PAGE = Path(__file__).parents[1] / "docs" / "commands.md"
HEAD = """# Commands

<!-- written by scripts/write_commands.py -->

Results go to stdout, progress and remarks to stderr. `--json` prints one JSON document. Exit codes:
0 success, 1 a requested check failed, 2 invalid usage or input (no half-written output), 130 interrupted.
`eckart --version` prints the version, and `eckart COMMAND --help` the text of this page.
"""
WORDS = {int: "N", float: "X", Path: "PATH", str: "TEXT"}


def page() -> str:
    """Return the text of the page."""
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    return "\n".join([HEAD, *(line for name, command in commands.items() for line in section(name, command))])


def section(name: str, command: Any) -> Iterator[str]:
    """Yield the lines about one command."""
    hints = get_type_hints(command.callback)
    arguments = [p for p in command.params if not p.opts[0].startswith("-")]
    options = [p for p in command.params if p.opts[0].startswith("-") and p.name != "help"]
    yield from (f"## eckart {name}", "", "```text")
    yield f"eckart {name} {' '.join([*map(place, arguments), '[OPTIONS]'])}"
    yield from ("```", "")
    text = inspect.getdoc(command.callback) or ""
    yield from (re.sub(r"\*\*(.+?)\*\*", r"`\1`", " ".join(part.split())) for part in spaced(text))
    if arguments:
        yield from ("", "| argument | |", "|---|---|")
        yield from (f"| `{place(p)}` | {cell(p)} |" for p in arguments)
    panels = dict.fromkeys(p.rich_help_panel or "Options" for p in options)
    for panel in sorted(panels, key=lambda title: title == "Options"):  # the general ones last
        yield from ("", f"| {panel[0].lower() + panel[1:]} | |", "|---|---|")
        for p in options:
            if (p.rich_help_panel or "Options") == panel:
                yield f"| `{', '.join(p.opts)}{value(p, hints[p.name])}` | {cell(p)} |"
    yield ""


def spaced(text: str) -> Iterator[str]:
    """Yield the paragraphs of a docstring, separated by empty lines."""
    for i, paragraph in enumerate(text.split("\n\n")):
        if i:
            yield ""
        yield paragraph


def place(argument: Any) -> str:
    """Return an argument as it appears in a usage line."""
    name = argument.name.upper() + ("..." if argument.nargs != 1 else "")
    return name if argument.required else f"[{name}]"


def value(option: Any, hint: Any) -> str:
    """Return the placeholder for an option's value, empty for a switch."""
    if option.is_flag:
        return ""
    if option.metavar:
        return f" {option.metavar}"
    kinds = [kind for one in (get_args(hint) or (hint,)) for kind in (get_args(one) or (one,))]
    return " " + next(WORDS[kind] for kind in kinds if kind in WORDS)


def cell(parameter: Any) -> str:
    """Return the help of a parameter and its default."""
    text = (parameter.help or "").replace("|", "\\|")
    default = parameter.show_default
    if isinstance(default, str):
        return f"{text} Default: {default}."
    if default and not getattr(parameter, "is_flag", False) and parameter.default is not None:
        return f"{text} Default: `{parameter.default}`."
    return text


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
