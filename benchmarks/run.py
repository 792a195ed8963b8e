"""Run the benchmarks, and write their tables with ratios, targets and verdicts.

    python benchmarks/run.py                         # every section, written to benchmarks/RESULTS.md
    python benchmarks/run.py svd extract autodiff    # some sections, written to build/benchmarks.md
    python benchmarks/run.py --quick                 # small sizes, to check that everything runs

The page is also printed.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

import machine
import torch
from tables import Table

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "RESULTS.md"
PARTIAL_RESULTS = HERE.parent / "build" / "benchmarks.md"
TITLES = {
    "svd": "Matrices, in one process",
    "extract": "Checkpoints, whole processes",
    "adapters": "Adapters",
    "autodiff": "Derivatives, on one thread",
    "recommend": "Recommender, in one process",
}
HEAD = """# Benchmark results

Written by `benchmarks/run.py`. Both sides of every ratio were measured in the same run. A ratio is the
rival's figure divided by Eckart's ("ours"), so above 1 Eckart is better; where Eckart is worse, the verdict
is "loses". `-` means not measured. [README.md](README.md) explains every table.
"""


def main() -> None:
    """Run the chosen sections, write the page and print it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "sections",
        nargs="*",
        metavar="SECTION",
        help=f"the sections to run: {', '.join(TITLES)}; all by default",
    )
    parser.add_argument("--quick", action="store_true", help="use small sizes, to check that everything runs")
    parser.add_argument(
        "--mergekit",
        type=Path,
        default=Path(".venv-mergekit/bin/python"),
        metavar="PYTHON",
        help="the interpreter of mergekit's environment",
    )
    parser.add_argument("--threads", type=int, default=machine.cores(), help="threads of both sides")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="PATH",
        help="the page to write; by default RESULTS.md for a complete run, build/benchmarks.md for others",
    )
    options = parser.parse_args()
    unknown = [name for name in options.sections if name not in TITLES]
    if unknown:
        parser.error(f"unknown section: {', '.join(unknown)}. Choose from {', '.join(TITLES)}")
    names = [name for name in TITLES if name in options.sections or not options.sections]
    output = options.output
    if output is None:
        output = RESULTS if len(names) == len(TITLES) and not options.quick else PARTIAL_RESULTS
    output.parent.mkdir(parents=True, exist_ok=True)

    load = machine.load()
    torch.set_num_threads(options.threads)
    machine_rows = {"load before the run": load, **machine.describe(options.threads, options.mergekit)}
    sections: dict[str, list[Table]] = {}
    for name in names:
        sections[name] = run_section(name, options)
        # After every section, so that a failure in a later one loses nothing.
        output.write_text(page(machine_rows, sections, quick=options.quick), "utf-8")
    print(output.read_text("utf-8"))
    notify(f"Written to {output}")


def run_section(name: str, options: argparse.Namespace) -> list[Table]:
    """Run one section. Its module is imported only now: it may need packages that the others do not."""
    section = importlib.import_module(f"bench_{name}")
    rival = [options.mergekit] if name == "extract" else []
    tables: list[Table] = section.run(*rival, options.threads, quick=options.quick, notify=notify)
    return tables


def page(machine_rows: dict[str, str], sections: dict[str, list[Table]], *, quick: bool) -> str:
    """Return the whole page."""
    parts = [HEAD]
    if quick:
        parts.append("**A test run with small sizes (`--quick`): its figures are meaningless.**\n")
    parts.append("| | |\n| --- | --- |\n" + "".join(f"| {k} | {v} |\n" for k, v in machine_rows.items()))
    for name, tables in sections.items():
        parts.append(f"## {TITLES[name]}\n")
        parts += [table.markdown() for table in tables]
    return "\n".join(parts)


def notify(line: str) -> None:
    """Report progress on stderr, separate from the results."""
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
