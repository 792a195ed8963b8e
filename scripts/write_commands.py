"""Write docs/commands.md: every command of `eckart`, with its arguments and options.

Run it after any change to a command. A test compares the page with the program::

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
METAVARS = {int: "N", float: "X", Path: "PATH", str: "TEXT"}


def page() -> str:
    """Return the page."""
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    return "\n".join([HEAD, *(line for name, command in commands.items() for line in section(name, command))])


def section(name: str, command: Any) -> Iterator[str]:
    """Yield the lines about one command."""
    hints = get_type_hints(command.callback)
    arguments = [p for p in command.params if not p.opts[0].startswith("-")]
    options = [p for p in command.params if p.opts[0].startswith("-") and p.name != "help"]
    yield from (f"## eckart {name}", "", "```text")
    yield f"eckart {name} {' '.join([*map(argument_name, arguments), '[OPTIONS]'])}"
    yield from ("```", "")
    yield from paragraphs(inspect.getdoc(command.callback) or "")
    if arguments:
        yield from ("", "| argument | |", "|---|---|")
        yield from (f"| `{argument_name(p)}` | {description(p)} |" for p in arguments)
    panels = dict.fromkeys(p.rich_help_panel or "Options" for p in options)
    for panel in sorted(panels, key=lambda title: title == "Options"):  # the general options last
        yield from ("", f"| {panel[0].lower() + panel[1:]} | |", "|---|---|")
        for p in options:
            if (p.rich_help_panel or "Options") == panel:
                yield f"| `{', '.join(p.opts)}{metavar(p, hints[p.name])}` | {description(p)} |"
    yield ""


def paragraphs(docstring: str) -> Iterator[str]:
    """Yield each paragraph of a docstring as one line, with empty lines between them; bold becomes code."""
    for i, paragraph in enumerate(docstring.split("\n\n")):
        if i:
            yield ""
        yield re.sub(r"\*\*(.+?)\*\*", r"`\1`", " ".join(paragraph.split()))


def argument_name(argument: Any) -> str:
    """Return the name of an argument as usage lines show it."""
    name = argument.name.upper() + ("..." if argument.nargs != 1 else "")
    return name if argument.required else f"[{name}]"


def metavar(option: Any, hint: Any) -> str:
    """Return a space and the placeholder for an option's value; nothing for a flag."""
    if option.is_flag:
        return ""
    if option.metavar:
        return f" {option.metavar}"
    # The hint may be a type, a union, or an Annotated union.
    types = [inner for outer in (get_args(hint) or (hint,)) for inner in (get_args(outer) or (outer,))]
    return " " + next(METAVARS[kind] for kind in types if kind in METAVARS)


def description(parameter: Any) -> str:
    """Return the help of a parameter, and its default."""
    text = (parameter.help or "").replace("|", "\\|")
    default = parameter.show_default  # a description of the default, or whether to show it
    if isinstance(default, str):
        return f"{text} Default: {default}."
    if default and not getattr(parameter, "is_flag", False) and parameter.default is not None:
        return f"{text} Default: `{parameter.default}`."
    return text


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
