"""The program `eckart`: its commands, and the one place where errors are printed."""

from __future__ import annotations

import os
import signal
import sys
import threading

import typer

from eckart.cli import (
    check,
    combine,
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
from eckart.errors import CheckFailedError, EckartError
from eckart.text import escape
from eckart.version import __version__

EPILOG = (
    "Results go to stdout, progress and remarks to stderr. "
    "Exit codes: 0 done, 1 a check did not hold, 2 bad usage or input, 130 interrupted."
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
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _stop)
    try:
        sys.exit(usage.run(app))
    except EckartError as error:
        _fail(error.for_terminal(), 1 if isinstance(error, CheckFailedError) else 2)
    except MemoryError:
        _fail("out of memory. Try --workers 1, or a smaller --rank.", 2)
    except Exception as error:  # anything else is a bug in Eckart
        if os.environ.get("ECKART_DEBUG"):
            raise
        _fail(
            f"internal error: {type(error).__name__}: {error}. This is a bug in Eckart. "
            "Set ECKART_DEBUG=1 to see the stack trace, and please report it.",
            2,
        )


def _stop(number: int, frame: object) -> None:
    """Exit through an exception, so that half-written files are removed."""
    sys.exit(128 + number)


def _fail(message: str, code: int) -> None:
    print(f"eckart: {escape(message)}", file=sys.stderr)
    sys.exit(code)
