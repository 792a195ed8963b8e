"""Run cases of damaged and hostile input: ``python -m tests.fuzz --count 2000``, or one: ``--seed 7``."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shlex
import shutil
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from fuzz.batch import Scratch, run_all, run_chunk
from fuzz.case import Case, Result
from fuzz.kinds import FAMILIES

CHUNK = 500  # cases that one process runs before it reports
COUNTED = ("internal error", "over 5 s", "over 1 GB")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seed", type=int, help="run this one case, and show what it did")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--count", type=int, default=2_000, help="number of cases")
    parser.add_argument("--family", choices=FAMILIES, help="only the cases of this family")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="number of processes")
    parser.add_argument("--keep", type=Path, default=Path("build/fuzz"), help="folder for failing inputs")
    options = parser.parse_args()
    keep = options.keep.resolve()
    if options.seed is not None:
        return replay(options.seed, keep)
    seeds = list(range(options.first, options.first + options.count))
    if options.family is not None:
        seeds = [seed for seed in seeds if seed % len(FAMILIES) == FAMILIES.index(options.family)]
    return report(seeds, keep, options.jobs)


def replay(seed: int, keep: Path) -> int:
    """Run one case and show it; its inputs stay in the folder for failing inputs."""
    case = Case.of(seed)
    folder = keep / f"{seed}-before"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    scratch = Scratch(folder)
    changes = case.prepare(scratch.valid(case.kind), scratch.place)
    print(f"kind: {case.kind}", *(f"changed: {change}" for change in changes), sep="\n")
    print(f"run: cd {shlex.quote(str(scratch.place))} && eckart {case.command}")
    (result,) = run_all([seed])
    print(f"exit code {result.code}, {result.seconds:.2f} s, {result.memory / 1e6:.0f} MB")
    print(result.output, *(f"FAULT: {fault}" for fault in result.faults), sep="\n")
    return bool(result.faults)


def report(seeds: list[int], keep: Path, jobs: int) -> int:
    """Run cases, print the failing ones as they occur, and a line of totals."""
    started = time.monotonic()
    chunks = [seeds[i : i + CHUNK] for i in range(0, len(seeds), CHUNK)]
    results: list[Result] = []
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        for future in as_completed([pool.submit(run_chunk, chunk, keep) for chunk in chunks]):
            results += future.result()
            for result in future.result():
                for fault in result.faults:
                    print(f"seed {result.seed} (eckart {Case.of(result.seed).command}): {fault}", flush=True)
            print(f"{len(results):,} of {len(seeds):,} cases done", file=sys.stderr)
    print(summary(results, time.monotonic() - started))
    return any(result.faults for result in results)


def summary(results: list[Result], seconds: float) -> str:
    """Return the line of totals."""
    totals = {kind: sum(any(f.startswith(kind) for f in r.faults) for r in results) for kind in COUNTED}
    others = sum(any(not f.startswith(COUNTED) for f in r.faults) for r in results)
    slowest = max(results, key=lambda r: r.seconds)
    largest = max(results, key=lambda r: r.memory)
    return (
        f"{len(results):,} cases in {seconds:.0f} s: {totals['internal error']} internal errors, "
        f"{totals['over 5 s']} over 5 s, {totals['over 1 GB']} over 1 GB, {others} other faults; "
        f"slowest {slowest.seconds:.1f} s (seed {slowest.seed}), "
        f"largest {largest.memory / 1e6:.0f} MB (seed {largest.seed})"
    )


if __name__ == "__main__":
    sys.exit(main())
