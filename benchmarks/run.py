"""Run all benchmarks and write RESULTS.md: ratios first, targets beside them, losses marked."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import bench_adapters
import bench_autodiff
import bench_extract
import bench_recommend
import bench_svd
import machine
import torch
from tables import Table
from threadpoolctl import threadpool_limits

HERE = Path(__file__).resolve().parent
Section = tuple[str, list[Table]]  # a heading and what stands under it
SECTIONS = ("svd", "adapters", "extract", "autodiff", "recommend")
HEAD = """# Benchmark results

Written by `benchmarks/run.py`; every figure of both sides comes from one run of it. A ratio is the
rival's figure over ours, so that above 1 is ours; where ours loses, the row says so. `-` is a
figure that was not measured. [README.md](README.md) says what each table means.
"""


def main() -> None:
    """Run what was asked for, print the tables and write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it runs")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=SECTIONS, metavar="SECTION")
    parser.add_argument(
        "--mergekit",
        type=Path,
        default=Path(".venv-mergekit/bin/python"),
        metavar="PYTHON",
        help="the interpreter of the rival's environment",
    )
    parser.add_argument("--threads", type=int, default=machine.cores())
    parser.add_argument("--out", type=Path, default=HERE / "RESULTS.md")
    args = parser.parse_args()

    load = machine.load()
    torch.set_num_threads(args.threads)
    sections: list[Section] = []
    if "svd" in args.only:
        with threadpool_limits(args.threads):
            tables = bench_svd.measure(1024 if args.quick else 4096, say=say)
        sections.append(("Matrices, in one process", tables))
    if "adapters" in args.only:
        tables = bench_adapters.run(args.threads, quick=args.quick, say=say)
        sections.append(("Adapters", tables))
    if "extract" in args.only:
        tables = bench_extract.run(args.mergekit, args.threads, quick=args.quick, say=say)
        sections.append(("Checkpoints, whole processes", tables))
    if "autodiff" in args.only:
        tables = bench_autodiff.run(args.threads, quick=args.quick, say=say)
        sections.append(("Derivatives, on one thread", tables))
    if "recommend" in args.only:
        tables = bench_recommend.run(args.threads, quick=args.quick, say=say)
        sections.append(("Recommender, in one process", tables))

    about = {"load before the run": load, **machine.describe(args.threads, args.mergekit)}
    text = page(sections, about, quick=args.quick)
    args.out.write_text(text, "utf-8")
    print(text)


def page(sections: list[Section], about: dict[str, str], *, quick: bool) -> str:
    """Return the whole page."""
    parts = [HEAD]
    if quick:
        parts.append("**A smoke run at small sizes (`--quick`): its figures say nothing.**\n")
    parts.append("| | |\n| --- | --- |\n" + "".join(f"| {k} | {v} |\n" for k, v in about.items()))
    for title, tables in sections:
        parts.append(f"## {title}\n")
        parts += [table.markdown() for table in tables]
    return "\n".join(parts)


def say(line: str) -> None:
    """Report progress, beside the results."""
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
