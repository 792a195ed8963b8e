"""`eckart check`: what each program would make of an adapter."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from eckart.adapter import load_adapter
from eckart.checkpoint import Checkpoint
from eckart.cli import console
from eckart.cli import options as opt
from eckart.errors import CheckFailedError, UsageError
from eckart.operations.compare import Comparison, compare
from eckart.serving.check import CheckReport, check_adapter


def check(
    adapter: Annotated[Path, typer.Argument(help="An adapter of any format.", show_default=False)],
    consumers: opt.For = None,
    base: opt.BaseOf = None,
    against: Annotated[
        Path | None,
        typer.Option("--against", help="Measure the difference from another adapter.", show_default=False),
    ] = None,
    quiet: opt.Quiet = False,
    json: opt.Json = False,
) -> None:
    """Compare the update that programs would compute with the one that is meant.

    Exits 1 if a program would refuse the adapter, compute another update, or drop a part of it.

    Examples: **eckart check adapter/ --for vllm,llama.cpp,peft** · **eckart check adapter/ --base base/** ·
    **eckart check small/ --against adapter/**
    """
    loaded = load_adapter(adapter)
    for note in loaded.notes:
        console.say(f"note: {note}", quiet)
    report = CheckReport((), ())
    if consumers or base is not None:
        report = check_adapter(loaded, consumers or "", Checkpoint.open(base) if base is not None else None)
    elif against is None:
        raise UsageError("eckart check", "expected --for, --base or --against", "For example --for vllm")
    comparison = compare(loaded, load_adapter(against)) if against is not None else None
    if json:
        console.print_json(_as_json(report, comparison))
    else:
        _print(report, comparison, base)
    wrong = [v.consumer.title for v in report.verdicts if not v.right]
    if report.base_problems:
        wrong.append("the base")
    if comparison is not None and not comparison.holds:
        wrong.append("what it states")
    if wrong:
        raise CheckFailedError(
            str(adapter), f"is not right for {', '.join(wrong)}", "See above for the cures"
        )


def _print(report: CheckReport, comparison: Comparison | None, base: Path | None) -> None:
    rows = []
    for v in report.verdicts:
        error = "does not load" if v.refused else "not known" if v.error is None else f"{v.error:.3g}"
        rows.append([v.consumer.title, "yes" if v.right else "NO", error, v.options or None])
    if rows:
        console.print_table(["program", "right", "error of its update", "start it with"], rows)
    out = console.out()
    for v in report.verdicts:
        for p in v.problems:
            out.print(f"{v.consumer.title}: {p.where} {p.severity}: {p.what}. Cure: {p.cure}", markup=False)
    for p in report.base_problems[:20]:
        out.print(f"base: {p.where} {p.severity}: {p.what}. Cure: {p.cure}", markup=False)
    if base is not None and not report.base_problems:
        out.print(f"base: every module fits {base}", markup=False)
    if len(report.base_problems) > 20:
        out.print(f"... and {len(report.base_problems) - 20} more", markup=False)
    if comparison is not None:
        said = "nothing stated" if comparison.stated is None else f"stated {comparison.stated:.6g}"
        out.print(f"difference of the updates: measured {comparison.error:.6g}, {said}", markup=False)


def _as_json(report: CheckReport, comparison: Comparison | None) -> dict[str, object]:
    return {
        "right": report.right and (comparison is None or comparison.holds),
        "programs": [
            {
                "name": v.consumer.name,
                "right": v.right,
                "error": v.error,
                "start_with": v.options,
                "source": v.consumer.source,
                "problems": [asdict(p) for p in v.problems],
            }
            for v in report.verdicts
        ],
        "base": [asdict(p) for p in report.base_problems],
        "against": None if comparison is None else asdict(comparison),
    }
