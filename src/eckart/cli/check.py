"""`eckart check`: predict how each program would load an adapter."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from eckart.adapter import load_adapter
from eckart.checkpoint.model import open_model
from eckart.cli import console
from eckart.cli import options as opt
from eckart.cli.tables import Cells, Column, print_table
from eckart.errors import CheckFailedError, UsageError
from eckart.operations.compare import Comparison, compare
from eckart.serving import CheckResult, Problem
from eckart.serving import check as check_adapter

COLUMNS = (
    Column("program", Cells.PHRASE),
    Column("correct"),
    Column("error of its update"),
    Column("start it with", Cells.PHRASE),
)
MOST_BASE_PROBLEMS = 20  # printed; --json lists all


def check(
    adapter: Annotated[Path, typer.Argument(help="An adapter of any format.", show_default=False)],
    consumers: opt.For = None,
    base: opt.BaseOf = None,
    against: Annotated[
        Path | None,
        typer.Option("--against", help="Measure the difference from this adapter.", show_default=False),
    ] = None,
    quiet: opt.Quiet = False,
    json: opt.Json = False,
) -> None:
    """Predict how programs would load an adapter, and compare that with the intended update.

    Exits 1 if a program would refuse the adapter, compute a different update, or drop a part of it.

    Examples: **eckart check adapter/ --for vllm,llama.cpp,peft** · **eckart check adapter/ --base base/** ·
    **eckart check small/ --against adapter/**
    """
    loaded = load_adapter(adapter)
    for note in loaded.notes:
        console.say(f"note: {note}", quiet)
    result = CheckResult(())
    if consumers or base is not None:
        model = open_model(base) if base is not None else None
        result = check_adapter(loaded, consumers or "", model)
    elif against is None:
        raise UsageError("eckart check", "expected --for, --base or --against", "Pass e.g. --for vllm")
    comparison = compare(loaded, load_adapter(against)) if against is not None else None
    if json:
        console.print_json(_as_json(result, comparison))
    else:
        _print(result, comparison, base)
    failures = _failures(result, comparison)
    if failures:
        fix = "" if result.holds else "See the fixes above"
        raise CheckFailedError(str(adapter), " and ".join(failures), fix)


def _failures(result: CheckResult, comparison: Comparison | None) -> list[str]:
    """Return what does not hold, as predicates of the adapter."""
    failures = []
    programs = [v.consumer.title for v in result.verdicts if not v.holds]
    if programs:
        failures.append(f"would not be loaded correctly by {', '.join(programs)}")
    if result.base_problems:
        failures.append("does not fit the base")
    if comparison is not None and not comparison.holds:
        failures.append("states an error that does not hold")
    return failures


def _print(result: CheckResult, comparison: Comparison | None, base: Path | None) -> None:
    rows = [
        [v.consumer.title, "yes" if v.holds else "NO", v.outcome.removeprefix("error "), v.options or None]
        for v in result.verdicts
    ]
    if rows:
        print_table(COLUMNS, rows, drop=["start it with"])
    out = console.out()
    for verdict in result.verdicts:
        for problem in verdict.problems:
            out.print(_line(verdict.consumer.title, problem), markup=False)
    for problem in result.base_problems[:MOST_BASE_PROBLEMS]:
        out.print(_line("base", problem), markup=False)
    if len(result.base_problems) > MOST_BASE_PROBLEMS:
        out.print(f"... and {len(result.base_problems) - MOST_BASE_PROBLEMS} more", markup=False)
    if base is not None and not result.base_problems:
        out.print(f"base: every module fits {base}", markup=False)
    if comparison is not None:
        stated = "nothing stated" if comparison.stated is None else f"stated {comparison.stated:.6g}"
        out.print(f"difference of the updates: measured {comparison.error:.6g}, {stated}", markup=False)


def _line(reader: str, problem: Problem) -> str:
    return f"{reader}: {problem.where} ({problem.severity.value}): {problem.what}. Fix: {problem.fix}"


def _as_json(result: CheckResult, comparison: Comparison | None) -> dict[str, object]:
    return {
        "holds": result.holds and (comparison is None or comparison.holds),
        "programs": [
            {
                "name": v.consumer.name,
                "holds": v.holds,
                "error": v.error,
                "start_with": v.options,
                "source": v.consumer.source,
                "problems": [_problem_as_json(p) for p in v.problems],
            }
            for v in result.verdicts
        ],
        "base": [_problem_as_json(p) for p in result.base_problems],
        "against": None if comparison is None else asdict(comparison),
    }


def _problem_as_json(problem: Problem) -> dict[str, str]:
    return {**asdict(problem), "severity": problem.severity.value}
