"""Write docs/commands.md: every command of `eckart`, with its arguments and options.

Run it after any change to a command. A test compares the page with the program::

    python scripts/write_commands.py
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_type_hints

import typer

from eckart.cli.app import app
from eckart.cli.help_pages import name_of_argument, name_of_value

PAGE = Path(__file__).parents[1] / "docs" / "commands.md"
HEAD = """# Commands

<!-- written by scripts/write_commands.py -->

Results go to stdout, progress and remarks to stderr. `--json` prints one JSON document. Exit codes:
0 success, 1 a requested check failed, 2 invalid usage or input (no half-written output), 130 interrupted.
`eckart --version` prints the version, and `eckart COMMAND --help` the text of this page.

## Interruptions and streams

Ctrl-C ends every command within a second, also while tensors are being factored. One line reports how
far it was and whether the same command resumes: `Interrupted: 18 of 21 tensors done; the same command
resumes.` Nothing half-written stays behind. A second Ctrl-C skips the clean-up; the next run of the
command then removes what is left.

| exit code | meaning |
|---|---|
| 0 | success |
| 1 | a requested check failed |
| 2 | invalid usage or input, or an output that cannot be written |
| 129 | the terminal was closed (SIGHUP) |
| 130 | Ctrl-C (SIGINT); Ctrl-Break on Windows |
| 143 | a request to stop (SIGTERM) |

If the reader of a pipe leaves, as in `eckart inspect base/ tuned/ | head`, the command continues without
output, and its exit code still reports its result. If stdout is full or closed, the exit code is 2.
Errors of stderr are ignored, because remarks and progress must not make a command fail.
"""


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
    yield f"eckart {name} {' '.join([*map(name_of_argument, arguments), '[OPTIONS]'])}"
    yield from ("```", "")
    yield from paragraphs(inspect.getdoc(command.callback) or "")
    if arguments:
        yield from ("", "| argument | |", "|---|---|")
        yield from (f"| `{name_of_argument(p)}` | {description(p)} |" for p in arguments)
    panels = dict.fromkeys(p.rich_help_panel or "Options" for p in options)
    for panel in sorted(panels, key=lambda title: title == "Options"):  # the general options last
        yield from ("", f"| {panel[0].lower() + panel[1:]} | |", "|---|---|")
        for p in options:
            if (p.rich_help_panel or "Options") == panel:
                option = f"{', '.join(p.opts)} {name_of_value(p, hints[p.name])}".strip()
                yield f"| `{option}` | {description(p)} |"
    yield ""


def paragraphs(docstring: str) -> Iterator[str]:
    """Yield each paragraph of a docstring as one line, with empty lines between them; bold becomes code."""
    for i, paragraph in enumerate(docstring.split("\n\n")):
        if i:
            yield ""
        yield re.sub(r"\*\*(.+?)\*\*", r"`\1`", " ".join(paragraph.split()))


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
