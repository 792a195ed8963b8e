"""The program `eckart`: its commands, and the one place where errors are printed."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

import typer

from eckart.cli import (
    check,
    combine,
    console,
    convert,
    demo,
    explain,
    extract,
    factor,
    image,
    inspect,
    merge,
    plan,
    recommend,
    resize,
    usage,
    verify,
)
from eckart.cli.help_pages import HelpCommand
from eckart.cli.signals import run_interruptibly
from eckart.cli.streams import check_stdout, safe_streams
from eckart.errors import CheckFailedError, EckartError, OutputError
from eckart.oserrors import fix_for, reason_of
from eckart.text import escape
from eckart.version import __version__

EPILOG = (
    "Results go to stdout, progress and remarks to stderr. "
    "Exit codes: 0 done, 1 a check did not hold, 2 bad usage or input, 130 interrupted. "
    "SIGTERM gives 143, and SIGHUP 129."
)

app = typer.Typer(
    name="eckart",
    help="Find the rank of a weight update and turn it into a LoRA adapter you can prove is right.",
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="markdown",
)
app.command("demo")(usage.with_paths(demo.demo))
app.command("inspect")(usage.with_paths(inspect.inspect))
app.command("factor")(usage.with_paths(factor.factor))
app.command("plan")(usage.with_paths(plan.plan))
app.command("extract")(usage.with_paths(extract.extract))
app.command("verify")(usage.with_paths(verify.verify))
app.command("resize")(usage.with_paths(resize.resize))
app.command("combine")(usage.with_paths(combine.combine))
app.command("merge")(usage.with_paths(merge.merge))
app.command("convert")(usage.with_paths(convert.convert))
app.command("check")(usage.with_paths(check.check))
app.command("explain", context_settings={"ignore_unknown_options": True})(usage.with_paths(explain.explain))
app.command("image")(usage.with_paths(image.image))
app.command("recommend")(usage.with_paths(recommend.recommend))
for _command in app.registered_commands:
    _command.cls = HelpCommand


@app.callback(invoke_without_command=True)
def _root(
    version: bool = typer.Option(False, "--version", help="Print the version.", is_eager=True),
) -> None:
    if version:
        print(__version__)
        raise typer.Exit


def main() -> None:
    """Run the program. Errors are one line on stderr, never a stack trace."""
    with safe_streams():
        code = run_interruptibly(_run, console.last_words)
    sys.exit(code)


def _run() -> int:
    """Run the command and return the exit code."""
    try:
        check_stdout()
        code = usage.run(app)
        sys.stdout.flush()
        return code
    except EckartError as error:
        return _report(error.for_terminal(), 1 if isinstance(error, CheckFailedError) else 2)
    except MemoryError:
        return _report("out of memory. Use --workers 1, or a smaller --rank.", 2)
    except Exception as error:
        if os.environ.get("ECKART_DEBUG"):
            raise
        return _report(_explain(error), 2)


def _explain(error: Exception) -> str:
    """Return the message for an error that no part of Eckart has turned into one of its own."""
    if isinstance(error, OSError):
        where = "" if error.filename is None else f"`{error.filename}`: "
        return f"{where}{reason_of(error)}. {fix_for(error)}."
    if isinstance(error, RecursionError):
        return "the input is nested too deeply. Use an input with fewer levels."
    return (
        f"internal error: {type(error).__name__}: {error}. This is a bug in Eckart. "
        "Set ECKART_DEBUG=1 to see the stack trace, and please report it."
    )


def _report(message: str, code: int) -> int:
    """Print an error after the results that precede it; return the exit code."""
    with suppress(OutputError):
        sys.stdout.flush()
    console.err().print(f"eckart: {escape(message)}", markup=False)
    return code
