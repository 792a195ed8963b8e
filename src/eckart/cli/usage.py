"""Command lines as users type them: paths and choices in arguments, and one line for every mistake."""

from __future__ import annotations

import difflib
import os
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

import typer
from typer.models import ParameterInfo

from eckart.arguments import nearest
from eckart.errors import UsageError
from eckart.paths import user_path
from eckart.text import clip, either

Command = TypeVar("Command", bound=Callable[..., None])

# The base of all errors of the parser. typer exports only one of them, BadParameter(UsageError(ParserError)).
ParserError: type[Exception] = typer.BadParameter.__mro__[2]

EXPLAINED = {
    "--alpha": "Remove it: alpha always equals the rank, so the scale is 1 in every program",
    "--lora-alpha": "Remove it: alpha always equals the rank, so the scale is 1 in every program",
    "--network-alpha": "Remove it: alpha always equals the rank, so the scale is 1 in every program",
    "--verbose": "Remove it: progress and remarks are printed unless -q is given",
}
"""What to do about options of other tools that no option of ours replaces."""

PLACEHOLDERS = {"--output": "OUT", "--to": "FORMAT", "--for": "PROGRAMS"}
"""What stands for the value of an option in a command that a message completes."""


def with_paths(command: Command) -> Command:
    """Let a command read its paths by `eckart.paths.user_path`, which expands ``~`` and refuses URLs.

    Parameters
    ----------
    command : callable
        A typer command. Every parameter that is annotated as a `Path` is changed.

    Returns
    -------
    callable
        The same command.
    """
    hints = get_type_hints(command, include_extras=True)
    for hint in hints.values():
        if Path in _types(hint):
            for info in getattr(hint, "__metadata__", ()):
                if isinstance(info, ParameterInfo):
                    info.parser = user_path
    command.__annotations__ = hints
    return command


def _types(hint: Any) -> Iterator[Any]:  # Any: an annotation
    yield hint
    for inner in get_args(hint):
        yield from _types(inner)


def run(app: typer.Typer) -> int:
    """Parse the command line and run its command.

    Parameters
    ----------
    app : Typer
        The program.

    Returns
    -------
    int
        The exit code.

    Raises
    ------
    EckartError
        If the command line is wrong, or the command fails.
    """
    try:
        code = typer.main.get_command(app)(prog_name="eckart", standalone_mode=False)
    except ParserError as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # the help is printed
            return 2
        raise usage_error(error) from None
    return code if isinstance(code, int) else 0


def usage_error(error: Any) -> UsageError:  # Any: typer does not export the classes of its parser
    """Return an error of the parser as one of Eckart's.

    Parameters
    ----------
    error : ParserError
        An unknown option, a missing argument, a value of the wrong type, ...
    """
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "eckart"
    help_line = f"All options: {path} --help" if context is not None else ""
    match type(error).__name__:
        case "NoSuchOption":
            return _unknown_option(error.option_name, context, path)
        case "MissingParameter":
            return _missing(error, path)
        case "BadParameter":
            return UsageError(_as_typed(_name_of(error.param)), _what_is_wrong(error.message), help_line)
        case "BadOptionUsage":
            return UsageError(error.option_name, _lower(error.message), help_line)
    message = _lower(error.format_message())
    if message.startswith("no such command"):
        return _unknown_command(context)
    return UsageError(path, message, _extra_numbers(context) or help_line)


def _unknown_option(option: str, context: Any, path: str) -> UsageError:
    """Return the error for an option that the command does not have."""
    where = clip(option, 60)
    options = {name: p for p in context.command.params for name in p.opts if name.startswith("--")}
    plain = "--" + option.lstrip("-").replace("_", "-").lower()
    # `--for` is the keyword `consumers`, and `--output` is `out`: compare by keywords, as in Python.
    by_keyword = {p.name: name for name, p in options.items()}
    by_keyword |= {"out": options["--output"].opts[0]} if "--output" in options else {}
    names = [] if len(plain) < 3 else [by_keyword[k] for k in nearest(plain, by_keyword)]
    if plain in EXPLAINED and not names:
        return UsageError(where, f"{path} has no such option", EXPLAINED[plain])
    if names:
        fix = f"Use {either(_with_placeholder(name, options[name]) for name in names)}"
        return UsageError(where, f"{path} has no such option", f"{fix}. All options: {path} --help")
    positional = [p.name.upper() for p in context.command.params if p.name == plain[2:].replace("-", "_")]
    if positional:
        fix = f"Pass {positional[0]} without an option: {context.get_usage().removeprefix('Usage: ')}"
        return UsageError(where, f"{path} has no such option", fix)
    return UsageError(where, f"{path} has no such option", f"All options: {path} --help")


def _with_placeholder(name: str, parameter: Any) -> str:
    """Return an option with what stands for its value, as it is typed."""
    if getattr(parameter, "is_flag", False):
        return name
    return f"{name} {_placeholder(parameter)}"


def _missing(error: Any, path: str) -> UsageError:
    """Return the error for arguments and options that are required and were not given."""
    context = error.ctx
    given = {name for name, value in context.params.items() if value not in (None, (), [])}
    missing = [p for p in context.command.params if p.required and p.name not in given]
    missing = missing or [error.param]
    names = [f"{_name_of(p)} ({_lower(p.help or 'required')})" for p in missing]
    arguments = [p.name.upper() for p in missing if p.param_type_name == "argument"]
    options = [f"{p.opts[-1]} {_placeholder(p)}" for p in missing if p.param_type_name != "argument"]
    typed = [shlex.quote(text) for text in sys.argv[1:]]
    command = " ".join(["eckart", *typed, *arguments, *options])
    return UsageError(path, f"expected {' and '.join(names)}", f"Use: {clip(command, 500)}")


def _placeholder(option: Any) -> str:
    if option.opts[0] in PLACEHOLDERS:
        return PLACEHOLDERS[option.opts[0]]
    is_telling = option.metavar and option.metavar not in ("TEXT", "PATH")
    return str(option.metavar if is_telling else option.name.upper())


def _name_of(parameter: Any) -> str:
    """Return the name of a parameter as it is typed."""
    if parameter is None:
        return "eckart"
    is_argument = parameter.param_type_name == "argument"
    return str(parameter.name.upper() if is_argument else parameter.opts[0])


def _as_typed(name: str) -> str:
    """Return an option with the value that was typed, ``--rank x``; for an argument, its name alone."""
    for option, value in zip(sys.argv, [*sys.argv[1:], ""], strict=True):
        if option == name:
            return clip(f"{name} {value}".strip(), 60)
        if option.startswith(f"{name}="):
            return clip(option, 60)
    return name


def _what_is_wrong(message: str) -> str:
    """Return what is wrong with a value. The libraries that typer builds on word it differently."""
    text = _lower(message)
    if "valid integer" in text or "valid int" in text:
        return "expected a whole number"
    if "valid number" in text or "valid float" in text:
        return "expected a number"
    return text.replace("input should be", "expected a number")


def _unknown_command(context: Any) -> UsageError:
    commands = list(context.command.commands)
    typed = next((text for text in sys.argv[1:] if not text.startswith("-")), "")
    close = difflib.get_close_matches(typed.lower(), commands, n=1)
    if not close and os.path.lexists(typed):
        close = ["inspect"]
    fix = f"Use eckart {close[0]}" if close else f"Use one of {', '.join(commands)}"
    return UsageError(f"eckart {clip(typed, 60)}", "there is no such command", fix)


def _extra_numbers(context: Any) -> str:
    """Return the fix for numbers after ``--weights 0.5``."""
    has_weights = context is not None and any("--weights" in p.opts for p in context.command.params)
    return "Separate the weights by commas: --weights 0.5,0.5" if has_weights else ""


def _lower(message: str) -> str:
    """Return a message of the parser in the form of ours: lower case, without a period."""
    message = " ".join(message.split()).rstrip(".")
    return message[:1].lower() + message[1:]
