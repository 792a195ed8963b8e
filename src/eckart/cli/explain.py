"""`eckart explain`: a worked explanation for a small matrix."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from eckart.checkpoint import refuse_overlap
from eckart.checkpoint.output import OutputFile
from eckart.checkpoint.target import FileKind, is_stdout
from eckart.checkpoint.write import write_bytes
from eckart.cli import console
from eckart.cli import options as opt
from eckart.strictjson import read_bytes

if TYPE_CHECKING:
    from eckart.explain.exact import Matrix, Number

Json: TypeAlias = bool | int | str | list["Json"]

WIDEST = 100  # columns on a terminal; longer lines are hard to read
FORMAT_OF_SUFFIX = {".md": "markdown", ".tex": "latex", ".html": "html"}


def explain(
    topic: Annotated[str, typer.Argument(help="svd, rank, lowrank, lora, pinv or pca.", show_default=False)],
    matrix: Annotated[
        str,
        typer.Argument(
            help='Rows separated by semicolons, as in "4 0; 3 5", or a .csv or .npy file.', show_default=False
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Write the page to this file instead of printing it.", show_default=False
        ),
    ] = None,
    rank: Annotated[
        int | None, typer.Option("--rank", help="lowrank, lora: rank of the approximation.", show_default="1")
    ] = None,
    alpha: Annotated[
        str | None,
        typer.Option("--alpha", help="lora: alpha, for a scale of alpha / rank.", show_default="the rank"),
    ] = None,
    given: Annotated[
        str | None,
        typer.Option("--given", help="lora: a matrix B, for which to find the best A.", show_default=False),
    ] = None,
    format: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="terminal, markdown, latex or html.",
            show_default="by the suffix of the output, else terminal",
        ),
    ] = None,
    lang: Annotated[str, typer.Option("--lang", help="en, ja or zh.")] = "en",
    overwrite: opt.Overwrite = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")] = False,
) -> None:
    """Explain a computation on a small matrix as on paper: every step is exact, shown and checked.

    The matrix is at most 5 x 5, for **pca** 12 x 5. Entries are integers, decimals, fractions and roots:
    **"1/2 sqrt(2); 0 -3"**. The command falls back to decimals, with a note, when roots do not simplify.
    Needs eckart[explain].

    Examples: **eckart explain svd "4 0; 3 5"** · **eckart explain lora W.npy --rank 2 --alpha 16** ·
    **eckart explain pca data.csv --lang ja -o pca.html**
    """
    from eckart.explain import explain as make_explanation
    from eckart.explain import render

    explanation = make_explanation(topic, matrix, rank=rank, alpha=alpha, given=given)
    file = None if output is None or is_stdout(output) else OutputFile(output, PAGE, overwrite)
    if file is not None:
        refuse_overlap(file.given, [matrix])
        file.check()
    if format is None:
        default = "markdown" if json else "terminal"
        format = default if output is None else FORMAT_OF_SUFFIX.get(output.suffix.lower(), default)
    is_terminal = output is None and not json and sys.stdout.isatty()
    text = render(explanation, format, lang, min(WIDEST, console.out().width) if is_terminal else None)
    if file is not None:
        with file as staged:
            write_bytes(staged, text.encode())
    if json:
        named = vars(explanation.results).items()
        results = {name: to_json(value) for name, value in named if value is not None}
        holds = all(check.holds for check in explanation.checks)
        console.print_json({"topic": topic, "holds": holds, "results": results, "text": text})
    elif file is None:
        console.print_text(text)
    else:
        console.out().print(f"{output}: written as {format}", markup=False)


def is_page(path: Path) -> bool:
    """Whether a file is text other than JSON, which is what this command writes."""
    text = read_bytes(path).decode()
    return "\0" not in text and not text.lstrip().startswith(("{", "["))


PAGE = FileKind("a page of text", is_page)


def to_json(value: Number | Matrix | list[Number] | list[Matrix] | int | bool) -> Json:
    """Return a result for JSON: exact numbers as text, matrices as lists of lists."""
    if isinstance(value, bool | int | str):
        return value
    if isinstance(value, list):
        return [to_json(item) for item in value]
    if hasattr(value, "tolist"):
        return to_json(value.tolist())
    return str(value)
