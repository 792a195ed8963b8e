"""`eckart explain`: a worked derivation for a small matrix."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from eckart.cli import console


def explain(
    topic: Annotated[str, typer.Argument(help="svd, rank, lowrank, lora, pinv or pca.", show_default=False)],
    matrix: Annotated[
        str,
        typer.Argument(
            help='Rows parted by semicolons, as "4 0; 3 5"; or a .csv or .npy file.', show_default=False
        ),
    ],
    rank: Annotated[
        int | None, typer.Option("--rank", help="lowrank, lora: the rank to cut at.", show_default="1")
    ] = None,
    alpha: Annotated[
        str | None, typer.Option("--alpha", help="lora: the scale is alpha / rank.", show_default="the rank")
    ] = None,
    given: Annotated[
        str | None,
        typer.Option("--given", help="lora: a B, for which the best A is found.", show_default=False),
    ] = None,
    format: Annotated[str, typer.Option("--format", help="terminal, markdown, latex or html.")] = "terminal",
    lang: Annotated[str, typer.Option("--lang", help="en, ja or zh.")] = "en",
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")] = False,
) -> None:
    """Work out a small matrix as on paper, exactly, with every step shown and checked.

    Up to 5 x 5, for **pca** 12 x 5; whole numbers, decimals, fractions and roots: **"1/2 sqrt(2); 0 -3"**.
    Where the roots get ugly it says so and goes on in decimals. Needs eckart[explain].

    Examples: **eckart explain svd "4 0; 3 5"** · **eckart explain lora W.npy --rank 2 --alpha 16** ·
    **eckart explain pca data.csv --format html --lang ja > pca.html**
    """
    from eckart.explain import explain as work_out
    from eckart.explain import render

    done = work_out(topic, matrix, rank=rank, alpha=alpha, given=given)
    text = render(done, "markdown" if json and format == "terminal" else format, lang)
    if json:
        results = {name: plain_value(value) for name, value in done.results.items()}
        held = all(check.holds for check in done.checks)
        console.print_json({"topic": topic, "holds": held, "results": results, "text": text})
        return
    console.print_text(text)


def plain_value(value: Any) -> Any:
    """Return a result for JSON: exact numbers as text, matrices as lists of lists."""
    if isinstance(value, bool | int | str):
        return value
    if isinstance(value, list):
        return [plain_value(item) for item in value]
    return plain_value(value.tolist()) if hasattr(value, "tolist") else str(value)
