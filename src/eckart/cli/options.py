"""Arguments and options that several commands share, and the options of the rank rules."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from functools import partial, wraps
from pathlib import Path
from typing import Annotated, Any, cast, get_args, overload

import typer

from eckart.adapter.formats import FORMATS
from eckart.adapter.formats.registry import folder_formats
from eckart.arguments import argument
from eckart.checkpoint.dtypes import ADAPTER_DTYPES, dtype_name
from eckart.errors import UsageError
from eckart.rank.options import BOUNDS, RULES, RuleOptions, rule_from
from eckart.rank.rule import RuleOption
from eckart.serving.consumers import ALIASES, CONSUMERS
from eckart.text import either

RULE = "Rank rule (give one)"
BOUNDS_PANEL = "Bounds on the ranks"
RUN = "Execution"
FOLDERS = folder_formats()
FILES = [name for name in FORMATS if name not in FOLDERS]
NEW_ADAPTER_HELP = f"The new adapter: a folder for {either(FOLDERS)}, a .safetensors file for {either(FILES)}"
DTYPE_HELP = (
    f"Dtype of the factors: {', '.join(dtype_name(d) for d in ADAPTER_DTYPES)}, in any common spelling."
)

Base = Annotated[
    Path, typer.Argument(help="The base checkpoint: a .safetensors file or a folder.", show_default=False)
]
Tuned = Annotated[Path, typer.Argument(help="The fine-tuned checkpoint.", show_default=False)]

Dtype = Annotated[
    str | None,
    typer.Option("--dtype", help=DTYPE_HELP, show_default="the adapter's own"),
]
Format = Annotated[
    str | None,
    typer.Option(
        "--format",
        help=f"File format of the result: {either(FORMATS)}.",
        show_default="the adapter's own",
    ),
]
For = Annotated[
    str | None,
    typer.Option(
        "--for",
        help="Comma-separated programs that must load the result correctly: "
        f"{', '.join(CONSUMERS)}. Other names: {', '.join(ALIASES)}.",
        show_default=False,
    ),
]
BaseOf = Annotated[
    Path | None,
    typer.Option("--base", help="The base model that the adapter belongs to.", show_default=False),
]
Weights = Annotated[
    list[str] | None,
    typer.Option(
        "--weights",
        help="Comma-separated numbers, one per adapter, e.g. 0.7,0.3 or 1,-1. Repeatable.",
        metavar="NUMBERS",
        show_default="1 for each",
    ),
]

Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        min=1,
        help="Number of tensors to process at the same time.",
        rich_help_panel=RUN,
        show_default="one per core",
    ),
]
Device = Annotated[
    str,
    typer.Option("--device", help="Where to factor: cpu or cuda (needs eckart[torch]).", rich_help_panel=RUN),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print neither progress nor remarks.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing output.")]


@overload
def rank_options(command: Callable[..., None]) -> Callable[..., None]: ...


@overload
def rank_options(*, alternative: str) -> Callable[[Callable[..., None]], Callable[..., None]]: ...


def rank_options(
    command: Callable[..., None] | None = None, *, alternative: str | None = None
) -> Callable[..., Any]:
    """Add the options of every rank rule to a command, and pass the command the resulting rule.

    Parameters
    ----------
    command : callable
        A typer command with a parameter ``rule: RankRule``, in whose place the help lists the options. If it
        is annotated ``RankRule | None``, the command also runs without a rule.
    alternative : str, optional
        Parameter of the command that may be given instead of a rule, for example ``"plan"``. It is refused
        together with any of the options.

    Returns
    -------
    callable
        The command with the added options, or a decorator if no command is given.

    Examples
    --------
    ::

        @rank_options
        def plan(store: Path, rule: RankRule) -> None: ...

        @rank_options(alternative="plan")
        def extract(base: Path, tuned: Path, rule: RankRule | None, plan: Path | None = None) -> None: ...
    """
    if command is None:
        return partial(rank_options, alternative=alternative)
    signature = inspect.signature(command, eval_str=True)
    rule_parameter = signature.parameters["rule"]
    is_optional = type(None) in get_args(rule_parameter.annotation)
    options = [*(rule_type.option for rule_type in RULES), *BOUNDS]
    added = [_option_parameter(o, BOUNDS_PANEL if o in BOUNDS else RULE) for o in options]
    parameters: list[inspect.Parameter] = []
    for parameter in signature.parameters.values():
        here = added if parameter is rule_parameter else [parameter]
        parameters += [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in here]
    name = command.__name__

    @wraps(command)
    def with_rule(**arguments: Any) -> None:
        values = {option: arguments.pop(option.keyword) for option in options}
        given = {option.keyword: value for option, value in values.items() if option.is_given(value)}
        if alternative is not None and arguments[alternative] is not None and given:
            flags = ", ".join(option.flag for option in options if option.keyword in given)
            raise UsageError(
                f"eckart {name}", f"got --{alternative} together with {flags}", "Pass one of them"
            )
        is_omitted = not given and is_optional
        rule = None if is_omitted else rule_from(None, cast(RuleOptions, given))
        command(rule=rule, **arguments)

    with_rule.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    with_rule.__annotations__ = {p.name: p.annotation for p in parameters} | {"return": None}
    return with_rule


def _option_parameter(option: RuleOption, panel: str) -> inspect.Parameter:
    """Return the parameter that typer turns into one command-line option."""
    is_switch = option.type is bool
    parser = share(option.keyword) if option.is_share else None
    declared = typer.Option(
        False if is_switch else None,
        option.flag,
        help=option.help,
        metavar=option.metavar or None,
        rich_help_panel=panel,
        show_default=False,
        parser=parser,
    )
    annotation: Any = bool if is_switch else option.type | None
    return inspect.Parameter(
        option.keyword, inspect.Parameter.KEYWORD_ONLY, default=declared, annotation=annotation
    )


def share(keyword: str) -> Callable[[str | float], float]:
    """Return the parser of an option that is a share of one: ``0.9`` or ``90%``.

    Parameters
    ----------
    keyword : str
        The option's keyword, for messages.
    """

    def read(text: str | float) -> float:
        plain = str(text).strip()
        try:
            return float(plain.removesuffix("%")) / 100 if plain.endswith("%") else float(plain)
        except ValueError:
            raise UsageError(argument(keyword, plain), "expected a share such as 0.9 or 90%") from None

    return read


def weights_of(texts: list[str] | None, adapters: list[Path]) -> list[float] | None:
    """Return the numbers of the ``--weights`` options.

    Parameters
    ----------
    texts : list of str or None
        For example ``["0.7,0.3"]`` or ``["0.7", "0.3"]``.
    adapters : list of Path
        The adapters of the command line. A shell separates words by spaces, so in ``--weights 0.7 0.3`` the
        second number is among them.

    Returns
    -------
    list of float, or None if the option was not given

    Raises
    ------
    UsageError
        If a part is not a number, or the numbers are separated by spaces.
    """
    if not texts:
        return None
    strays = [str(path) for path in adapters if _is_number(str(path)) and not path.exists()]
    if strays:
        numbers = ",".join([*texts, *strays])
        raise UsageError(
            f"--weights {' '.join([*texts, *strays])}",
            "expected numbers separated by commas, found spaces",
            f"Use --weights {numbers}, or one --weights for each number",
        )
    try:
        return [float(part) for text in texts for part in text.split(",")]
    except ValueError:
        raise UsageError(
            f"--weights {' '.join(texts)}", "expected numbers separated by commas", "Use for example 0.7,0.3"
        ) from None


def _is_number(text: str) -> bool:
    return bool(re.fullmatch(r"[-+]?[0-9]*\.?[0-9]+", text))
