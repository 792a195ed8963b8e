"""Time two source trees of Eckart against each other: the `src` folders of two checkouts.

    git worktree add ../before COMMIT
    python benchmarks/compare_commits.py ../before/src src

Each side has a process of its own. The sides take turns in every round, so that a busy machine slows down
both alike. A ratio is the old median divided by the new one: above 1, the new side is faster. The last column
tells whether both sides returned identical bytes. Nothing is written.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import llama_pair
import machine
import numpy as np
import scipy.linalg
from tables import Table

import eckart
from eckart import autodiff

RANK, ENERGY = 32, 0.9
WIDTH, LAYERS, BATCH = 64, 3, 64  # the network
OPERATIONS = 1000  # length of the chain of small operations
WARM_UP = 0.05  # seconds of calls before each timing; at least one call
TIMED = 0.2  # seconds over which the timed calls are spread; at least one call
PAUSE = 0.1  # seconds before each turn, in which the other side's threads go to sleep
SIZE, QUICK_SIZE = 2048, 256  # rows and columns of the matrices
LLAMA, QUICK_LLAMA = (1024, 2816, 2), (256, 688, 1)  # hidden size, intermediate size and layers of the pair
ROUNDS, QUICK_ROUNDS = 9, 2


class Timing(NamedTuple):
    """The seconds of one call, and a hash of its result."""

    seconds: float
    digest: str


class Job(NamedTuple):
    """A call to be timed. `unit` is the number of units per second in which its time is shown."""

    title: str
    call: Callable[[], Any]
    unit: float


# --- one side, in a process of its own ----------------------------------------------------------------


def jobs(size: int) -> dict[str, Job]:
    """Return the calls that are timed. Both sides must have the functions that they use."""
    random = np.random.default_rng(0)
    left, right = (
        scipy.linalg.qr(random.standard_normal((size, size), dtype=np.float32))[0] for _ in range(2)
    )
    i = np.arange(1, size + 1, dtype=np.float32)
    fast_decay, slow_decay = ((left * values) @ right.T for values in (1 / i, i**-0.5))
    X, Y = (random.standard_normal((BATCH, WIDTH)) for _ in range(2))
    weights = [random.standard_normal((WIDTH, WIDTH)) / 8 for _ in range(LAYERS)]

    def loss(weights: list[Any]) -> Any:
        h = X
        for W in weights[:-1]:
            h = np.tanh(h @ W)
        e = h @ weights[-1] - Y
        return np.sum(e * e) / BATCH

    def chain(x: Any) -> Any:
        y = x
        for _ in range(OPERATIONS // 2):
            y = y * x + x
        return np.sum(y)

    network_gradient, chain_gradient = autodiff.grad(loss), autodiff.grad(chain)
    point = np.array([0.03, 0.04, 0.05])
    matrix = f"{size} x {size}"
    return {
        "rank": Job(f"svd(rank={RANK}), {matrix}, 1/i, ms", lambda: eckart.svd(fast_decay, rank=RANK), 1e3),
        "energy": Job(
            f"svd(energy={ENERGY}), {matrix}, i^-0.5, ms", lambda: eckart.svd(slow_decay, energy=ENERGY), 1e3
        ),
        "network": Job(
            f"gradient of a network, {LAYERS} x {WIDTH}, ms", lambda: network_gradient(weights), 1e3
        ),
        "chain": Job(
            "gradient of small operations, µs each", lambda: chain_gradient(point), 1e6 / OPERATIONS
        ),
    }


def time_call(call: Callable[[], Any]) -> Timing:
    """Call until warm, then return the mean seconds of a few calls."""
    started = time.perf_counter()
    result = call()
    while time.perf_counter() - started < WARM_UP:
        call()
    started, count = time.perf_counter(), 0
    while count == 0 or time.perf_counter() - started < TIMED:
        call()
        count += 1
    return Timing((time.perf_counter() - started) / count, digest(result))


def digest(result: Any) -> str:
    """Return a hash of the numbers in a result: a decomposition, an array, or a list of arrays."""
    arrays = [result.U, result.s, result.Vh] if hasattr(result, "Vh") else result
    arrays = arrays if isinstance(arrays, list) else [arrays]
    return hashlib.sha256(b"".join(np.ascontiguousarray(a).tobytes() for a in arrays)).hexdigest()


def serve(size: int) -> None:
    """Answer the names of jobs on stdin with timings on stdout, one JSON document per line."""
    prepared = jobs(size)
    titles = {name: (job.title, job.unit) for name, job in prepared.items()}
    print(json.dumps({"file": eckart.__file__, "titles": titles}), flush=True)
    for line in sys.stdin:
        print(json.dumps(time_call(prepared[line.strip()].call)), flush=True)


# --- the comparison -----------------------------------------------------------------------------------


@dataclass
class Side:
    """One source tree, and the process that runs its calls. Use it in a `with` statement."""

    source: Path
    env: dict[str, str]
    size: int
    timings: dict[str, list[Timing]] = field(default_factory=dict)

    def __enter__(self) -> Side:
        command = [sys.executable, str(Path(__file__).resolve()), "--serve", str(self.size)]
        self.process = subprocess.Popen(
            command, env=self.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        greeting = self._answer()
        if not Path(greeting["file"]).resolve().is_relative_to(self.source):
            raise RuntimeError(f"expected Eckart from {self.source}, got {greeting['file']}")
        self.titles: dict[str, tuple[str, float]] = greeting["titles"]
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()

    def add(self, name: str, timing: Timing) -> None:
        """Keep the timing of a job."""
        self.timings.setdefault(name, []).append(timing)

    def time_call(self, name: str) -> None:
        """Time one job in the process of this side."""
        assert self.process.stdin is not None
        self.process.stdin.write(name + "\n")
        self.process.stdin.flush()
        self.add(name, Timing(*self._answer()))

    def time_help(self) -> str:
        """Time the start-up of the command line, and return the help of `extract`."""
        started = time.perf_counter()
        text = self._run_eckart("extract", "--help")
        self.add("help", Timing(time.perf_counter() - started, "not compared"))
        return text

    def time_extract(self, base: Path, tuned: Path, out: Path) -> None:
        """Time `eckart extract`, a whole process."""
        takes_option = "--output" in self.time_help()  # in older versions the output is positional
        output = ["-o", str(out)] if takes_option else [str(out)]
        shutil.rmtree(out, ignore_errors=True)
        started = time.perf_counter()
        self._run_eckart("extract", str(base), str(tuned), *output, "--rank", str(RANK), "--quiet")
        seconds = time.perf_counter() - started
        adapter = (out / "adapter_model.safetensors").read_bytes()
        self.add("extract", Timing(seconds, hashlib.sha256(adapter).hexdigest()))

    def _run_eckart(self, *arguments: str) -> str:
        command = [sys.executable, "-m", "eckart", *arguments]
        finished = subprocess.run(command, env=self.env, capture_output=True, text=True, check=False)
        if finished.returncode:
            raise RuntimeError(
                f"`eckart {' '.join(arguments)}` of {self.source} ended with exit code "
                f"{finished.returncode}:\n{finished.stderr}"
            )
        return finished.stdout

    def _answer(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the process of {self.source} failed: see the traceback above")
        return json.loads(line)


def compare(
    old: Side, new: Side, llama: tuple[int, int, int], rounds: int, notify: Callable[[str], None]
) -> Table:
    """Run all rounds, and return the table."""
    titles = {
        **old.titles,
        "extract": (f"eckart extract --rank {RANK}, whole process, s", 1.0),
        "help": ("eckart extract --help, whole process, s", 1.0),
    }
    with tempfile.TemporaryDirectory(prefix="eckart-compare-") as folder:
        work = Path(folder)
        base, tuned = llama_pair.write_pair(work, llama_pair.Shape(*llama))
        for number in range(rounds):
            notify(f"round {number + 1} of {rounds}")
            order = (old, new) if number % 2 == 0 else (new, old)
            for name in old.titles:
                for side in order:
                    time.sleep(PAUSE)
                    side.time_call(name)
            for side in order:
                time.sleep(PAUSE)
                side.time_extract(base, tuned, work / "adapter")
    return make_table(old, new, titles, rounds)


def make_table(old: Side, new: Side, titles: dict[str, tuple[str, float]], rounds: int) -> Table:
    """Return a table with one row per job."""
    table = Table(f"{old.source} and {new.source}, {rounds} rounds")
    for name, (title, unit) in titles.items():
        before, after = ([unit * timing.seconds for timing in side.timings[name]] for side in (old, new))
        same = len({timing.digest for side in (old, new) for timing in side.timings[name]}) == 1
        table.rows.append(
            {
                "job": title,
                "old / new": statistics.median(before) / statistics.median(after),
                "of the best": min(before) / min(after),
                "old, median": statistics.median(before),
                "new, median": statistics.median(after),
                "old, best": min(before),
                "new, best": min(after),
                "same result": "yes" if same else "**no**",
            }
        )
    return table


def main() -> None:
    """Compare two source trees, or be one of the sides."""
    if sys.argv[1:2] == ["--serve"]:
        serve(size=int(sys.argv[2]))
        return
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("old", type=Path, metavar="OLD_SRC", help="the src folder of the older checkout")
    parser.add_argument("new", type=Path, metavar="NEW_SRC", help="the src folder of the newer checkout")
    parser.add_argument(
        "--rounds", type=int, help=f"rounds; {ROUNDS} by default, {QUICK_ROUNDS} with --quick"
    )
    parser.add_argument("--quick", action="store_true", help="use small sizes, to check that everything runs")
    parser.add_argument("--threads", type=int, default=machine.cores(), help="threads of both sides")
    options = parser.parse_args()
    for source in (options.old, options.new):
        if not (source / "eckart" / "__init__.py").exists():
            parser.error(f"{source} has no package eckart. Pass the src folder of a checkout")

    def side(source: Path) -> Side:
        source = source.resolve()
        env = machine.child_environment(options.threads, keep_python_path=True)
        other_paths = env.get("PYTHONPATH")
        env["PYTHONPATH"] = f"{source}{os.pathsep}{other_paths}" if other_paths else str(source)
        return Side(source, env, QUICK_SIZE if options.quick else SIZE)

    rounds = options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS)
    print(f"load before the run: {machine.load()}, threads: {options.threads}", file=sys.stderr)
    with side(options.old) as old, side(options.new) as new:
        table = compare(old, new, QUICK_LLAMA if options.quick else LLAMA, rounds, _notify)
    print(table.markdown())


def _notify(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
