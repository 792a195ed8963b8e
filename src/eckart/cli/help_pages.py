"""The layout of `--help` pages: one example per line, and values named as in the guide."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args, get_type_hints

from typer.core import TyperCommand

NAME_OF_TYPE = {int: "N", float: "X", Path: "PATH", str: "TEXT"}
EXAMPLES = re.compile(r"^Examples?: ")
EXAMPLE = re.compile(r"\*\*(eckart .+?)\*\*([^*]*)", re.DOTALL)
BETWEEN_EXAMPLES = " \n·,."


class HelpCommand(TyperCommand):
    """A command whose help page shows every example in a line of its own."""

    def __init__(self, *args: Any, **options: Any) -> None:  # Any: the signature of typer
        super().__init__(*args, **options)
        self.help = with_list_of_examples(self.help or "")

    def get_params(self, ctx: Any) -> list[Any]:  # Any: typer's own types differ between its versions
        """Return the parameters, with the names of their values."""
        parameters = list(super().get_params(ctx))
        hints = get_type_hints(self.callback) if self.callback else {}
        for parameter in parameters:
            if parameter.param_type_name == "argument":
                parameter.metavar = parameter.name.upper()
            else:
                parameter.metavar = name_of_value(parameter, hints.get(parameter.name))
        return parameters

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return what follows the name of the command in the line of its usage."""
        arguments = [p for p in self.params if p.param_type_name == "argument"]
        return [*map(name_of_argument, arguments), "[OPTIONS]"]


def with_list_of_examples(help_text: str) -> str:
    """Return a help text in which a paragraph of examples is a list.

    Parameters
    ----------
    help_text : str
        Paragraphs of Markdown. That of the examples begins with "Example:" or "Examples:", and every example
        is bold. A remark may follow an example.

    Returns
    -------
    str

    Examples
    --------
    >>> print(with_list_of_examples("Do it.\\n\\nExamples: **eckart a** · **eckart b** (a remark)"))
    Do it.
    <BLANKLINE>
    Examples:
    <BLANKLINE>
    - **eckart a**
    - **eckart b** (a remark)
    """
    paragraphs = []
    for paragraph in help_text.split("\n\n"):
        if EXAMPLES.match(paragraph):
            lines = []
            for command, rest in EXAMPLE.findall(paragraph):
                remark = " ".join(rest.strip(BETWEEN_EXAMPLES).removesuffix("then").split())
                lines.append(f"- **{' '.join(command.split())}** {remark}".rstrip(f" {BETWEEN_EXAMPLES}"))
            paragraphs += [paragraph.partition(" ")[0], "\n".join(lines)]
        else:
            paragraphs.append(paragraph)
    return "\n\n".join(paragraphs)


def name_of_argument(argument: Any) -> str:
    """Return the name of an argument in a line of usage: in capitals, and in brackets if it is optional.

    Parameters
    ----------
    argument : click or typer argument
        An argument of a command.

    Returns
    -------
    str
        For example ``"BASE"``, ``"[TUNED]"`` or ``"ADAPTERS..."``.
    """
    name = argument.name.upper() + ("..." if argument.nargs != 1 else "")
    return name if argument.required else f"[{name}]"


def name_of_value(option: Any, hint: Any) -> str:
    """Return the placeholder for the value of an option.

    Parameters
    ----------
    option : click or typer option
        An option of a command.
    hint : type or None
        The type of the command's parameter of that name.

    Returns
    -------
    str
        Its metavar, else the kind of its value; nothing for a switch.
    """
    if option.metavar is not None:
        return str(option.metavar)
    if option.is_flag or hint is None:
        return ""
    # The hint may be a type, a union, or an Annotated union.
    types = [inner for outer in (get_args(hint) or (hint,)) for inner in (get_args(outer) or (outer,))]
    return next(NAME_OF_TYPE[kind] for kind in types if kind in NAME_OF_TYPE)
