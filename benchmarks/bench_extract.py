"""`eckart extract` compared with `mergekit-extract-lora`: whole processes, from checkpoints to adapter."""

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
QUICK_LARGE, QUICK_SMALL = Shape(512, 1376, 1), Shape(512, 1376, 4)
DEPTHS = (1, 4, 8)  # numbers of layers at which the peak memory is measured, at the width of SMALL
MERGEKIT_ONCE = 1 << 27  # with this many adapted numbers mergekit takes minutes, so it runs only once
MIB = 2**20


@dataclass
class Bench:
    """The working folder, the two programs, and how to run them."""

    work: Path
    threads: int
    mergekit_python: Path | None
    repeats: int = 3
    notify: Callable[[str], None] = print
    pairs: dict[Shape, tuple[Path, Path]] = field(default_factory=dict)

    @property
    def has_mergekit(self) -> bool:
        """Return whether mergekit's environment exists."""
        return self.mergekit_python is not None and self.mergekit_python.exists()

    def pair(self, shape: Shape) -> tuple[Path, Path]:
        """Return the folders of a pair, which is written at its first use."""
        if shape not in self.pairs:
            name = f"{shape.hidden}-{shape.intermediate}-{shape.layers}"
            self.pairs[shape] = llama_pair.write_pair(self.work / name, shape)
        return self.pairs[shape]

    def drop(self, shape: Shape) -> None:
        """Delete a pair that is not needed any more."""
        folders = self.pairs.pop(shape, None)
        if folders:
            shutil.rmtree(folders[0].parent)

    def eckart_command(self, *arguments: str) -> list[str]:
        """Return the command `eckart` with these arguments, for the interpreter that runs the benchmark."""
        return [sys.executable, "-m", "eckart", *arguments]

    def mergekit_command(self, *arguments: str) -> list[str]:
        """Return the command `mergekit-extract-lora` with these arguments."""
        assert self.mergekit_python is not None
        return [str(machine.sibling(self.mergekit_python, "mergekit-extract-lora")), *arguments]

    def run_eckart(self, shape: Shape, out: Path, *, store: Path | None = None) -> child.Usage:
        """Run `eckart extract` once; `out` is deleted first."""
        base, tuned = self.pair(shape)
        shutil.rmtree(out, ignore_errors=True)
        command = self.eckart_command("extract", str(base), str(tuned), "-o", str(out))
        command += ["--rank", str(RANK), "--quiet"]
        if store is not None:
            command += ["--store", str(store)]
        env = machine.child_environment(self.threads, keep_python_path=True)
        usage = child.run(command, log=self.work / "eckart.log", env=env)
        if usage.code:
            raise RuntimeError(f"`{shlex.join(command)}` ended with exit code {usage.code}:\n{usage.tail}")
        return usage

    def run_mergekit(self, shape: Shape, out: Path) -> child.Usage:
        """Run `mergekit-extract-lora` once, on the same modules; `out` is deleted first."""
        base, tuned = self.pair(shape)
        shutil.rmtree(out, ignore_errors=True)
        command = self.mergekit_command("--model", str(tuned), "--base-model", str(base))
        command += ["--out-path", str(out), "--max-rank", str(RANK), "--num-threads", str(self.threads)]
        # Without these flags it copies the norms, the embeddings and the head, whole, into the adapter.
        command += ["--skip-undecomposable"]
        command += ["--exclude-regex", "embed_tokens", "--exclude-regex", "lm_head"]
        env = machine.child_environment(self.threads, keep_python_path=False)
        return child.run(command, log=self.work / "mergekit.log", env=env)


def measure(bench: Bench, large: Shape, small: Shape) -> list[Table]:
    """Fill every table, running one process at a time."""
    comparison = Table(
        f"`eckart extract --rank {RANK}` against `mergekit-extract-lora --max-rank {RANK}`",
        "Ratio: the rival's figure over ours. Whole processes, including start-up, on files in the page "
        "cache. mergekit runs with `--skip-undecomposable --exclude-regex embed_tokens --exclude-regex "
        "lm_head`, so that both adapt the seven projections of each layer and nothing else. Peak memory "
        "includes mapped files, private memory does not. Residual: ||dW - B A||_F / ||dW||_F over all "
        "adapted modules, from the written files, in float64.",
    )
    floor = Table(
        f"The lower bound of `eckart extract --rank {RANK}`",
        "The floor is what reading and matrix products alone would take: the bytes of both checkpoints over "
        "the measured rate of `np.fromfile` from the page cache, plus 4mnb flops per Krylov step over the "
        "measured float32 rate of such products with a block of 40. The number of columns searched is what "
        "`eckart.svd` reports for one update of each shape. Start-up (`--help`) is not part of the floor.",
    )
    ours: dict[Shape, child.Usage] = {}
    for shape in (large, small):
        bench.notify(f"extract: {shape}")
        ours[shape] = _add_comparison(bench, shape, comparison)
    our_start, mergekit_start = _start_up(bench)
    comparison.rows.append(
        {
            **ratio(mergekit_start, our_start, None),
            "shape": "none",
            "figure": "start-up alone, s",
            "ours": our_start,
            "rival": mergekit_start,
            "note": "`--help` of both",
        }
    )
    for shape in (large, small):
        bench.notify(f"extract, lower bound: {shape}")
        _add_floor(bench, shape, ours[shape], our_start, floor)
    store = _store_table(bench, small)
    peak = _peak_table([(shape, ours[shape]) for shape in (large, small)])
    bench.drop(large)
    depth = _depth_table(bench, small, ours[small])
    return [comparison, floor, store, peak, depth]


def _add_comparison(bench: Bench, shape: Shape, table: Table) -> child.Usage:
    """Add one row for each figure of both programs, and return the usage of ours."""
    out, mergekit_out = bench.work / "ours", bench.work / "mergekit"
    usage = _best([bench.run_eckart(shape, out) for _ in range(bench.repeats)])
    contents = residual(*bench.pair(shape), out)
    ours = _figures(usage, contents)
    rival: dict[str, float] = {}
    rival_contents: Residual | None = None
    rival_usage, rival_runs = _run_mergekit(bench, shape, mergekit_out)
    if rival_usage is not None:
        rival_contents = residual(*bench.pair(shape), mergekit_out)
        rival = _figures(rival_usage, rival_contents)
    row_targets = {"seconds": targets.EXTRACT.get(shape.hidden), "residual": targets.RESIDUAL}
    notes = {
        "seconds": f"ours best of {bench.repeats}, rival {rival_runs}",
        "peak memory, MiB": "largest of the runs",
        "private memory, MiB": "sampled every 10 ms",
        "residual": _compare_contents(contents, rival_contents),
        "adapter, MiB": f"ours {contents.dtype}"
        + (f", rival {rival_contents.dtype}" if rival_contents else ""),
    }
    for figure, value in ours.items():
        cells: dict[str, Cell] = ratio(rival.get(figure), value, row_targets.get(figure))
        if not rival:
            cells["verdict"] = rival_runs
        table.rows.append(
            {
                **cells,
                "shape": str(shape),
                "figure": figure,
                "ours": _precise(figure, value),
                "rival": _precise(figure, rival.get(figure)),
                "note": notes[figure],
            }
        )
    return usage


def _figures(usage: child.Usage, contents: Residual) -> dict[str, float]:
    """Return the figures that are compared."""
    return {
        "seconds": usage.seconds,
        "peak memory, MiB": usage.peak / MIB,
        "private memory, MiB": usage.private / MIB,
        "residual": contents.relative,
        "adapter, MiB": contents.bytes / MIB,
    }


def _precise(figure: str, value: float | None) -> Cell:
    """Return the cell of a figure: two residuals may be equal in their first three digits."""
    return f"{value:.5f}" if figure == "residual" and value is not None else value


def _run_mergekit(bench: Bench, shape: Shape, out: Path) -> tuple[child.Usage | None, str]:
    """Return the best usage of mergekit, and a description of its runs; None where it did not succeed."""
    if not bench.has_mergekit:
        return None, "not installed"
    once = _adapted_numbers(shape) >= MERGEKIT_ONCE
    runs = [bench.run_mergekit(shape, out) for _ in range(1 if once else bench.repeats)]
    for usage in runs:
        if usage.code:
            lines = usage.tail.splitlines() or [f"exit code {usage.code}"]
            return None, f"failed: {lines[-1]}"
    return _best(runs), f"best of {len(runs)}"


def _compare_contents(ours: Residual, rival: Residual | None) -> str:
    """Describe what the adapters contain: two adapters of different modules must not look comparable."""
    text = f"{len(ours.modules)} modules"
    if ours.other_tensors:
        text += f"; ours also has {len(ours.other_tensors)} other tensors"
    if rival is not None and rival.modules != ours.modules:
        text += f"; **not the same modules**: the rival has {len(rival.modules)}"
    if rival is not None and rival.other_tensors:
        text += f"; the rival also has {len(rival.other_tensors)} other tensors"
    return text


def _start_up(bench: Bench) -> tuple[float, float | None]:
    """Return the seconds that `--help` takes in both programs."""
    log = bench.work / "start.log"
    command = bench.eckart_command("extract", "--help")
    env = machine.child_environment(bench.threads, keep_python_path=True)
    ours = _best([child.run(command, log=log, env=env) for _ in range(bench.repeats)])
    if not bench.has_mergekit:
        return ours.seconds, None
    command = bench.mergekit_command("--help")
    env = machine.child_environment(bench.threads, keep_python_path=False)
    rival = _best([child.run(command, log=log, env=env) for _ in range(2)])
    return ours.seconds, None if rival.code else rival.seconds


def _add_floor(bench: Bench, shape: Shape, ours: child.Usage, start: float, table: Table) -> None:
    """Add a row that compares our seconds with those of reading and multiplying alone."""
    base, tuned = (folder / "model.safetensors" for folder in bench.pair(shape))
    size = base.stat().st_size + tuned.stat().st_size
    reading = size / machine.read_rate(tuned)
    flops = products = 0.0
    widths: list[str] = []
    with safe_open(base, "pt") as base_file, safe_open(tuned, "pt") as tuned_file:
        for (m, n), names in _projections_by_size(shape).items():
            change = tuned_file.get_tensor(names[0]).float() - base_file.get_tensor(names[0]).float()
            width, route = _columns_searched(change.numpy(), bench.threads)
            del change
            widths.append(f"{m} x {n}: {width} ({route})")
            work = 4.0 * m * n * width * len(names)
            flops += work
            products += work / machine.product_rate(m, n, bench.threads)
    floor = reading + products
    table.rows.append(
        {
            "x floor": ours.seconds / floor,
            "shape": str(shape),
            "ours, s": ours.seconds,
            "reading, s": reading,
            "products, s": products,
            "start-up, s": start,
            "less start-up, x floor": max(ours.seconds - start, 0.0) / floor,
            "bytes, MiB": size / MIB,
            "read rate, GB/s": size / reading / 1e9,
            "Gflop": flops / 1e9,
            "product rate, Gflop/s": flops / products / 1e9,
            "columns searched": "; ".join(widths),
        }
    )


def _columns_searched(change: np.ndarray, threads: int) -> tuple[int, str]:
    """Return the dimension of the space that our solver searched, and its route."""
    with threadpool_limits(threads, user_api="blas"):
        f = eckart.svd(change, rank=RANK)
    return len(f.spectrum.values) if f.spectrum is not None else RANK, f.method


def _projections_by_size(shape: Shape) -> dict[tuple[int, int], list[str]]:
    sizes: dict[tuple[int, int], list[str]] = {}
    for name, size in shape.tensors():
        if is_projection(name):
            sizes.setdefault((size[0], size[1]), []).append(name)
    return sizes


def _adapted_numbers(shape: Shape) -> int:
    return sum(m * n * len(names) for (m, n), names in _projections_by_size(shape).items())


def _store_table(bench: Bench, shape: Shape) -> Table:
    """Extract twice with a store, and compare the two adapters."""
    bench.notify("extract: a second time, from the store")
    store = bench.work / "store"
    shutil.rmtree(store, ignore_errors=True)
    first_out, second_out = bench.work / "first", bench.work / "second"
    first = bench.run_eckart(shape, first_out, store=store)
    second = _best([bench.run_eckart(shape, second_out, store=store) for _ in range(bench.repeats)])
    same_bytes = all(
        (first_out / name).read_bytes() == (second_out / name).read_bytes()
        for name in ("adapter_model.safetensors", "adapter_config.json")
    )
    return Table(
        "A second extraction from an existing store",
        "Both calls have `--store DIR`. Whole processes, including start-up.",
        [
            {
                **limit(second.seconds, targets.STORE_SECONDS, "s"),
                "shape": str(shape),
                "first, s": first.seconds,
                "second, s": second.seconds,
                "same bytes": "yes" if same_bytes else "**no**",
            }
        ],
    )


def _peak_table(runs: Sequence[tuple[Shape, child.Usage]]) -> Table:
    """Compare the peaks with their limit: a multiple of the largest tensor in float32, and a constant."""
    table = Table(
        "Peak memory of `eckart extract` against its limit",
        f"The limit is {targets.PEAK_TENSORS} times the largest tensor in float32, plus 300 MB.",
    )
    for shape, usage in runs:
        largest = 4 * max(math.prod(axes) for _, axes in shape.tensors())
        most = targets.PEAK_TENSORS * largest + targets.PEAK_BYTES
        table.rows.append({**limit(usage.peak / MIB, most / MIB, "MiB"), "shape": str(shape)})
    return table


def _depth_table(bench: Bench, shape: Shape, known: child.Usage) -> Table:
    """Measure the peak at several depths; `known` is the usage at the depth of `shape`."""
    table = Table(
        "Peak memory of `eckart extract` with more layers",
        "The figure is the peak relative to that with one layer. The peak includes mapped files, as the "
        "operating system counts them; private memory does not.",
    )
    first: child.Usage | None = None
    for layers in DEPTHS:
        bench.notify(f"extract: {layers} layers" if layers > 1 else "extract: 1 layer")
        deep = replace(shape, layers=layers)
        usage = known if deep == shape else bench.run_eckart(deep, bench.work / "ours")
        first = first or usage
        files = [folder / "model.safetensors" for folder in bench.pair(deep)]
        table.rows.append(
            {
                **limit(usage.peak / first.peak, targets.DEPTH_GROWTH, "x"),
                "shape": str(deep),
                "both checkpoints, MiB": sum(file.stat().st_size for file in files) / MIB,
                "peak, MiB": usage.peak / MIB,
                "private, MiB": usage.private / MIB,
            }
        )
        bench.drop(deep)
    return table


def _best(runs: Sequence[child.Usage]) -> child.Usage:
    """Return the fastest run, with the largest memory of all runs."""
    fastest = min(runs, key=lambda usage: usage.seconds)
    peak = max(usage.peak for usage in runs)
    private = max(usage.private for usage in runs)
    return fastest._replace(peak=peak, private=private)


def run(
    mergekit_python: Path | None, threads: int, *, quick: bool, notify: Callable[[str], None]
) -> list[Table]:
    """Fill every table, in a temporary folder that is deleted at the end."""
    with tempfile.TemporaryDirectory(prefix="eckart-benchmark-") as folder:
        bench = Bench(Path(folder), threads, mergekit_python, repeats=1 if quick else 3, notify=notify)
        if quick:
            return measure(bench, QUICK_LARGE, QUICK_SMALL)
        return measure(bench, LARGE, SMALL)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="use small sizes and one run each")
    parser.add_argument("--mergekit", type=Path, default=Path(".venv-mergekit/bin/python"), metavar="PYTHON")
    parser.add_argument("--threads", type=int, default=machine.cores())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for table in run(options.mergekit, options.threads, quick=options.quick, notify=print):
        print("\n" + table.markdown())


if __name__ == "__main__":
    main()
