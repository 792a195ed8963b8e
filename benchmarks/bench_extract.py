"""`eckart extract` against `mergekit-extract-lora`: whole processes, from pair to file."""

from __future__ import annotations

import argparse
import math
import shlex
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import child
import llama_pair
import machine
import numpy as np
import targets
import torch
from llama_pair import Shape, is_projection
from residual import Residual, residual
from safetensors import safe_open
from tables import Cell, Table, limit, ratio
from threadpoolctl import threadpool_limits

import eckart

RANK = 32
LARGE, SMALL = Shape(4096, 11008, 1), Shape(1024, 2816, 4)
DEPTHS = (1, 4, 8)  # layers at which the peak of memory is taken, at the width of SMALL
RIVAL_ONCE = 1 << 27  # from this many adapted numbers the rival takes minutes, and runs once
MIB = 2**20


@dataclass
class Bench:
    """Where to work, whom to call and with how many threads."""

    work: Path
    threads: int
    ours: Sequence[str]
    rival: Path | None
    repeats: int = 3
    say: Callable[[str], None] = print
    pairs: dict[Shape, tuple[Path, Path]] = field(default_factory=dict)

    def pair(self, shape: Shape) -> tuple[Path, Path]:
        """Return the folders of a pair, written at its first use."""
        if shape not in self.pairs:
            name = f"{shape.hidden}-{shape.intermediate}-{shape.layers}"
            self.pairs[shape] = llama_pair.write_pair(self.work / name, shape)
        return self.pairs[shape]

    def drop(self, shape: Shape) -> None:
        """Remove a pair that is not needed any more."""
        folders = self.pairs.pop(shape, None)
        if folders:
            shutil.rmtree(folders[0].parent)

    def extract(self, shape: Shape, out: Path, *, store: Path | None = None) -> child.Usage:
        """Run our side once into ``out``, which is emptied first."""
        base, tuned = self.pair(shape)
        shutil.rmtree(out, ignore_errors=True)
        command = [*self.ours, "extract", str(base), str(tuned), str(out)]
        command += ["--rank", str(RANK), "--quiet"]
        if store is not None:
            command += ["--store", str(store)]
        env = machine.child_environment(self.threads, source=True)
        usage = child.run(command, log=self.work / "eckart.log", env=env)
        if usage.code:
            raise RuntimeError(f"`{shlex.join(command)}` ended with {usage.code}:\n{usage.tail}")
        return usage

    def rival_extract(self, shape: Shape, out: Path) -> child.Usage:
        """Run the rival once into ``out``, on the same layers: see the flags."""
        assert self.rival is not None
        base, tuned = self.pair(shape)
        shutil.rmtree(out, ignore_errors=True)
        command = [str(machine.sibling(self.rival, "mergekit-extract-lora"))]
        command += ["--model", str(tuned), "--base-model", str(base), "--out-path", str(out)]
        command += ["--max-rank", str(RANK), "--num-threads", str(self.threads)]
        command += ["--skip-undecomposable"]  # or it copies the norms, whole, into the adapter
        command += ["--exclude-regex", "embed_tokens", "--exclude-regex", "lm_head"]  # and these
        env = machine.child_environment(self.threads, source=False)
        return child.run(command, log=self.work / "mergekit.log", env=env)


def measure(bench: Bench, large: Shape = LARGE, small: Shape = SMALL) -> list[Table]:
    """Run every row; one process at a time."""
    against = Table(
        f"`eckart extract --rank {RANK}` against `mergekit-extract-lora --max-rank {RANK}`",
        "Ratio: the rival's figure over ours. Whole processes, start-up included, on files in the "
        "page cache. The rival runs with `--skip-undecomposable --exclude-regex embed_tokens "
        "--exclude-regex lm_head`, so that both adapt the seven projections of each layer and "
        "nothing else. Peak memory counts mapped files; private memory does not. Residual: "
        "||dW - B A||_F / ||dW||_F over all adapted layers, from the written files, in float64.",
    )
    floor = Table(
        f"The floor of `eckart extract --rank {RANK}`",
        "What the reading and the matrix products would take alone: bytes of both checkpoints over "
        "the measured rate of `np.fromfile` from the page cache, and 4mnb flops per Krylov step "
        "over the measured float32 rate of such products with a block of 40. The columns searched "
        "are those that `eckart.svd` reports for one update of each shape. Start-up (`--help`) is "
        "not in the floor.",
    )
    ours: dict[Shape, child.Usage] = {}
    for shape in (large, small):
        bench.say(f"extract: {shape}")
        ours[shape] = _against(bench, shape, against)
    start, rival_start = _start_up(bench)
    against.rows.append(
        {
            **ratio(rival_start, start, None),
            "shape": "none",
            "figure": "start-up alone, s",
            "ours": start,
            "rival": rival_start,
            "note": "the `--help` of both",
        }
    )
    for shape in (large, small):
        bench.say(f"floor: {shape}")
        _floor(bench, shape, ours[shape], start, floor)
    store = _store(bench, small)
    peak = _peak([(shape, ours[shape]) for shape in (large, small)])
    bench.drop(large)
    depth = _depth(bench, small, ours[small])
    return [against, floor, store, peak, depth]


def _against(bench: Bench, shape: Shape, table: Table) -> child.Usage:
    out, theirs_out = bench.work / "ours", bench.work / "theirs"
    ours = _best([bench.extract(shape, out) for _ in range(bench.repeats)])
    theirs: child.Usage | None = None
    found: Residual | None = None
    why = "not installed"
    if bench.rival is not None and bench.rival.exists():
        once = _adapted(shape) >= RIVAL_ONCE
        runs = [bench.rival_extract(shape, theirs_out) for _ in range(1 if once else bench.repeats)]
        failed = [run for run in runs if run.code]
        if failed:
            why = "failed: " + (failed[0].tail.splitlines() or [f"exit {failed[0].code}"])[-1]
        else:
            theirs, why = _best(runs), f"best of {len(runs)}"
            found = residual(*bench.pair(shape), theirs_out)
    mine = residual(*bench.pair(shape), out)
    other = _difference(mine, found)
    rows: list[tuple[str, float | None, float | None, float | None, str]] = [
        ("seconds", targets.EXTRACT.get(shape.hidden), ours.seconds, theirs and theirs.seconds,
         f"ours best of {bench.repeats}, rival {why}"),
        ("peak memory, MiB", None, ours.peak / MIB, theirs and theirs.peak / MIB,
         "largest of the runs"),
        ("private memory, MiB", None, ours.private / MIB, theirs and theirs.private / MIB,
         "sampled every 10 ms"),
        ("residual", targets.RESIDUAL, mine.relative, found and found.relative, other),
        ("adapter, MiB", None, mine.bytes / MIB, found and found.bytes / MIB,
         f"ours {mine.dtype}" + (f", rival {found.dtype}" if found else "")),
    ]  # fmt: skip
    for name, target, here, there, note in rows:
        fallback = {"verdict": why} if there is None else {}
        cells: dict[str, Cell] = {**ratio(there, here, target), **fallback}
        cells |= {"shape": str(shape), "figure": name, "ours": _precise(name, here)}
        table.rows.append({**cells, "rival": _precise(name, there), "note": note})
    return ours


def _precise(name: str, value: float | None) -> Cell:
    return f"{value:.5f}" if name == "residual" and value is not None else value


def _difference(ours: Residual, theirs: Residual | None) -> str:
    """Say what was compared; two adapters of different layers must not pass for comparable."""
    said = f"{len(ours.modules)} layers"
    if ours.others:
        said += f"; ours also holds {len(ours.others)} other tensors"
    if theirs is not None and theirs.modules != ours.modules:
        said += f"; **not the same layers**, the rival has {len(theirs.modules)}"
    if theirs is not None and theirs.others:
        said += f"; the rival also holds {len(theirs.others)} other tensors"
    return said


def _start_up(bench: Bench) -> tuple[float, float | None]:
    log = bench.work / "start.log"
    env = machine.child_environment(bench.threads, source=True)
    command = [*bench.ours, "extract", "--help"]
    ours = _best([child.run(command, log=log, env=env) for _ in range(bench.repeats)])
    if bench.rival is None or not bench.rival.exists():
        return ours.seconds, None
    env = machine.child_environment(bench.threads, source=False)
    command = [str(machine.sibling(bench.rival, "mergekit-extract-lora")), "--help"]
    theirs = _best([child.run(command, log=log, env=env) for _ in range(2)])
    return ours.seconds, None if theirs.code else theirs.seconds


def _floor(bench: Bench, shape: Shape, ours: child.Usage, start: float, table: Table) -> None:
    base, tuned = (folder / "model.safetensors" for folder in bench.pair(shape))
    size = base.stat().st_size + tuned.stat().st_size
    reading = size / machine.read_rate(tuned)
    flops = seconds = 0.0
    widths: list[str] = []
    with safe_open(base, "pt") as old, safe_open(tuned, "pt") as new:
        for (m, n), names in _by_size(shape).items():
            change = new.get_tensor(names[0]).float() - old.get_tensor(names[0]).float()
            width, method = _searched(change.numpy(), bench.threads)
            del change
            widths.append(f"{m} x {n}: {width} ({method})")
            work = 4.0 * m * n * width * len(names)
            flops += work
            seconds += work / machine.product_rate(m, n, bench.threads)
    table.rows.append(
        {
            "x floor": ours.seconds / (reading + seconds),
            "shape": str(shape),
            "ours, s": ours.seconds,
            "reading, s": reading,
            "products, s": seconds,
            "start-up, s": start,
            "less start-up, x floor": max(ours.seconds - start, 0.0) / (reading + seconds),
            "bytes, MiB": size / MIB,
            "read rate, GB/s": size / reading / 1e9,
            "Gflop": flops / 1e9,
            "product rate, Gflop/s": flops / seconds / 1e9,
            "columns searched": "; ".join(widths),
        }
    )


def _searched(change: np.ndarray, threads: int) -> tuple[int, str]:
    """Return the width of the space that our solver searched, and the route that it took."""
    with threadpool_limits(threads, user_api="blas"):
        found = eckart.svd(change, rank=RANK)
    return len(found.spectrum.values) if found.spectrum is not None else RANK, found.method


def _by_size(shape: Shape) -> dict[tuple[int, int], list[str]]:
    sizes: dict[tuple[int, int], list[str]] = {}
    for name, size in shape.tensors():
        if is_projection(name):
            sizes.setdefault((size[0], size[1]), []).append(name)
    return sizes


def _adapted(shape: Shape) -> int:
    return sum(m * n * len(names) for (m, n), names in _by_size(shape).items())


def _store(bench: Bench, shape: Shape) -> Table:
    bench.say("extract: a second time, from a store")
    store = bench.work / "store"
    shutil.rmtree(store, ignore_errors=True)
    first = bench.extract(shape, bench.work / "first", store=store)
    again = [bench.extract(shape, bench.work / "again", store=store) for _ in range(bench.repeats)]
    second = _best(again)
    same = all(
        (bench.work / "first" / name).read_bytes() == (bench.work / "again" / name).read_bytes()
        for name in ("adapter_model.safetensors", "adapter_config.json")
    )
    return Table(
        "A second extract from a store that is there",
        "`--store DIR` given to both calls; whole processes, start-up included.",
        [
            {
                **limit(second.seconds, targets.STORE_SECONDS, "s"),
                "shape": str(shape),
                "first, s": first.seconds,
                "second, s": second.seconds,
                "same bytes": "yes" if same else "**no**",
            }
        ],
    )


def _peak(runs: Sequence[tuple[Shape, child.Usage]]) -> Table:
    """Hold the peaks against their bound: so many times the largest tensor in float32, and a base."""
    table = Table(
        "Peak memory of ours against its bound",
        f"The bound is {targets.PEAK_TENSORS} times the largest tensor in float32, and 300 MB.",
    )
    for shape, usage in runs:
        largest = 4 * max(math.prod(axes) for _, axes in shape.tensors())
        bound = targets.PEAK_TENSORS * largest + targets.PEAK_BYTES
        table.rows.append({**limit(usage.peak / MIB, bound / MIB, "MiB"), "shape": str(shape)})
    return table


def _depth(bench: Bench, shape: Shape, known: child.Usage) -> Table:
    table = Table(
        "Peak memory of ours at growing depth",
        "The figure is the peak over that at one layer. Mapped files count into the peak, as the "
        "system counts them, and not into private memory.",
    )
    first: child.Usage | None = None
    for layers in DEPTHS:
        bench.say(f"extract: depth {layers}")
        deep = replace(shape, layers=layers)
        usage = known if deep == shape else bench.extract(deep, bench.work / "ours")
        first = first or usage
        files = [folder / "model.safetensors" for folder in bench.pair(deep)]
        table.rows.append(
            {
                **limit(usage.peak / first.peak, targets.DEPTH_GROWTH, "x"),
                "shape": str(deep),
                "both checkpoints, MiB": sum(f.stat().st_size for f in files) / MIB,
                "peak, MiB": usage.peak / MIB,
                "private, MiB": usage.private / MIB,
            }
        )
        bench.drop(deep)
    return table


def _best(runs: Sequence[child.Usage]) -> child.Usage:
    """Return the fastest run with the largest memory of all: both are the stricter reading."""
    best = min(runs, key=lambda usage: usage.seconds)
    peak, private = (max(getattr(u, name) for u in runs) for name in ("peak", "private"))
    return best._replace(peak=peak, private=private)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes, one run each")
    parser.add_argument("--mergekit", type=Path, default=Path(".venv-mergekit/bin/python"))
    parser.add_argument("--threads", type=int, default=machine.cores())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    for table in run(args.mergekit, args.threads, quick=args.quick):
        print("\n" + table.markdown())


def run(
    rival: Path | None, threads: int, *, quick: bool = False, say: Callable[[str], None] = print
) -> list[Table]:
    """Measure in a temporary folder that is removed at the end."""
    with tempfile.TemporaryDirectory(prefix="eckart-benchmark-") as folder:
        ours = (sys.executable, "-m", "eckart")
        bench = Bench(Path(folder), threads, ours, rival, 1 if quick else 3, say)
        if quick:
            return measure(bench, Shape(512, 1376, 1), Shape(512, 1376, 4))
        return measure(bench)


if __name__ == "__main__":
    main()
