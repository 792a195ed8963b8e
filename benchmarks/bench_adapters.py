"""`resize` and `combine`, compared with a dense SVD of B A and with PEFT."""

from __future__ import annotations

import json
import math
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import child
import machine
import ml_dtypes
import numpy as np
import peft
import targets
import torch
import transformers
from tables import Table, limit, ratio
from threadpoolctl import threadpool_limits

import eckart
from eckart.adapter import Adapter, Module
from eckart.checkpoint import write_safetensors
from eckart.operations.overlap import overlaps

MIB = 2**20
PREFIX = "base_model.model.model.layers."
# The projections of a Llama layer: (d_out, d_in), where h is the hidden size and f the intermediate size.
PROJECTIONS = {
    "self_attn.q_proj": ("h", "h"),
    "self_attn.k_proj": ("h", "h"),
    "self_attn.v_proj": ("h", "h"),
    "self_attn.o_proj": ("h", "h"),
    "mlp.gate_proj": ("f", "h"),
    "mlp.up_proj": ("f", "h"),
    "mlp.down_proj": ("h", "f"),
}
# Imports what `eckart resize` imports, and does nothing.
IDLE = "import eckart.cli.app, numpy, scipy, time; time.sleep(0.1)"

Factors = tuple[np.ndarray, np.ndarray]  # B (m, r) and A (r, n)


class Model(NamedTuple):
    """The sizes of a Llama model."""

    hidden: int
    intermediate: int
    layers: int

    @property
    def modules(self) -> int:
        """Return the number of projections."""
        return len(PROJECTIONS) * self.layers

    def projections(self) -> dict[str, tuple[int, int]]:
        """Return the shape (d_out, d_in) of every projection of one layer."""
        sizes = {"h": self.hidden, "f": self.intermediate}
        return {name: (sizes[d_out], sizes[d_in]) for name, (d_out, d_in) in PROJECTIONS.items()}


DENSE_SIZE, DENSE_RANK = 5120, 128
WHOLE_MODEL, COMBINED_MODEL = Model(4096, 11008, 32), Model(2048, 5632, 1)
QUICK_DENSE_SIZE, QUICK_DENSE_RANK = 512, 32
QUICK_WHOLE_MODEL, QUICK_COMBINED_MODEL = Model(256, 512, 4), Model(128, 256, 2)


def random_factors(m: int, n: int, r: int, seed: int) -> Factors:
    """Return B and A; the singular values of their product fall approximately as i^-0.7."""
    random = np.random.default_rng(seed)
    decay = np.arange(1, r + 1, dtype=np.float32) ** -0.7
    B = random.standard_normal((m, r), dtype=np.float32) / math.sqrt(m)
    A = random.standard_normal((r, n), dtype=np.float32) / math.sqrt(n)
    return B, A * decay[:, None]


def write_adapter(folder: Path, model: Model, rank: int, seed: int = 0) -> Path:
    """Write a bfloat16 PEFT adapter of every projection, with alpha = 2 r."""
    folder.mkdir(parents=True)
    tensors = {}
    for layer in range(model.layers):
        for i, (name, (d_out, d_in)) in enumerate(model.projections().items()):
            B, A = random_factors(d_out, d_in, rank, seed + 100 * layer + i)
            key = f"{PREFIX}{layer}.{name}"
            tensors[f"{key}.lora_A.weight"] = A.astype(ml_dtypes.bfloat16)
            tensors[f"{key}.lora_B.weight"] = B.astype(ml_dtypes.bfloat16)
    write_safetensors(folder / "adapter_model.safetensors", tensors)
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": rank,
        "lora_alpha": 2 * rank,
        "target_modules": sorted(name.partition(".")[2] for name in PROJECTIONS),
        "base_model_name_or_path": None,
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def run(threads: int, *, quick: bool, notify: Callable[[str], None]) -> list[Table]:
    """Fill every table."""
    dense_size, dense_rank = (QUICK_DENSE_SIZE, QUICK_DENSE_RANK) if quick else (DENSE_SIZE, DENSE_RANK)
    with tempfile.TemporaryDirectory(prefix="eckart-benchmark-") as folder, threadpool_limits(threads):
        work = Path(folder)
        notify("adapters: resize against a dense SVD")
        dense = _resize_against_dense(dense_size, dense_rank)
        notify("adapters: resize of a whole adapter against its lower bound")
        whole = _resize_against_floor(work, threads, QUICK_WHOLE_MODEL if quick else WHOLE_MODEL)
        notify("adapters: combine against PEFT")
        combined = _combine_against_peft(work, QUICK_COMBINED_MODEL if quick else COMBINED_MODEL)
    return [dense, *whole, combined]


def _resize_against_dense(n: int, r: int) -> Table:
    """Resize one module from rank r to r / 4: ours, and the SVD of the product B A."""
    rank = r // 4
    table = Table(
        f"Resize of a rank-{r} module, {n} x {n} float32, to rank {rank}",
        "The rival multiplies out B A and calls `torch.linalg.svd`, with `full_matrices=True` as kohya's "
        "resize_lora.py does by default, and without it. One module, in memory, in one process. Error: "
        "||B A - B' A'||_F / ||B A||_F of the float32 factors, computed in the same way for both: from the "
        "R factors of the QR factorisations of [B, B'] and of [A; -A']^T, in float64.",
    )
    B, A = random_factors(n, n, r, 1)
    adapter = Adapter({"layer": Module("layer", "linear", B, A)})
    our_seconds = machine.best_seconds(lambda: eckart.resize(adapter, rank=rank))
    module = eckart.resize(adapter, rank=rank).adapter.modules["layer"]
    our_error = _relative_difference((B, A), (module.left, module.right))
    for full in (True, False):
        started = time.perf_counter()
        U, s, Vh = torch.linalg.svd(torch.from_numpy(B) @ torch.from_numpy(A), full_matrices=full)
        root = s[:rank].sqrt()
        factors = (U[:, :rank] * root).numpy(), (root[:, None] * Vh[:rank]).numpy()
        seconds = time.perf_counter() - started
        error = _relative_difference((B, A), factors)
        table.rows.append(
            {
                **ratio(seconds, our_seconds, targets.RESIZE_OVER_DENSE if full else None),
                "rival": f"torch.linalg.svd(B @ A, full_matrices={full})",
                "ours, s": our_seconds,
                "rival, s": seconds,
                "our error": f"{our_error:.7f}",
                "rival's error": f"{error:.7f}",
                "difference": f"{abs(our_error - error):.1e}",
            }
        )
    return table


def _relative_difference(one: Factors, other: Factors) -> float:
    """Return ||B A - B' A'||_F / ||B A||_F without multiplying out a product."""

    def norm(B: np.ndarray, A: np.ndarray) -> float:
        left = np.linalg.qr(B.astype(np.float64), mode="r")
        right = np.linalg.qr(A.astype(np.float64).T, mode="r")
        return float(np.linalg.norm(left @ right.T))

    difference = norm(np.concatenate([one[0], other[0]], axis=1), np.concatenate([one[1], -other[1]]))
    return difference / norm(*one)


def _resize_against_floor(work: Path, threads: int, model: Model) -> list[Table]:
    """Resize a whole adapter from file to file, and compare its seconds with the lower bound."""
    source, target = write_adapter(work / "whole", model, 64), work / "resized"
    env = machine.child_environment(threads, keep_python_path=True)
    program = [sys.executable, "-m", "eckart", "resize"]
    command = [*program, str(source), "-o", str(target), "--rank", "16", "--overwrite", "--quiet"]
    runs = [child.run(command, log=work / "resize.log", env=env) for _ in range(3)]
    for usage in runs:
        if usage.code:
            raise RuntimeError(f"`eckart resize` ended with exit code {usage.code}:\n{usage.tail}")
    start = min(child.run([*program, "--help"], log=work / "help.log", env=env).seconds for _ in range(3))
    seconds = min(usage.seconds for usage in runs) - start
    bytes_read = (source / "adapter_model.safetensors").stat().st_size
    bytes_written = (target / "adapter_model.safetensors").stat().st_size
    flops = sum(2.0 * model.layers * (m + n) * 64**2 for m, n in model.projections().values())
    reading = bytes_read / machine.read_rate(source / "adapter_model.safetensors")
    writing = bytes_written / _write_rate(work / "probe", min(bytes_written, 100 * MIB))
    factoring = flops / _gram_rate(model.hidden, 64, threads)
    floor = reading + writing + factoring
    time_table = Table(
        f"`eckart resize --rank 16` of a rank-64 bfloat16 adapter, {model.modules} modules, {model.hidden} / "
        f"{model.intermediate}",
        "A whole process, less its start-up. The floor: the bytes read and written over the measured rates "
        "of `np.fromfile` from the page cache and of writing with fsync, plus 2(m + n)r^2 flops per module "
        "(a QR factorisation of both factors, without Q) over the measured float64 rate of B^T B.",
    )
    time_table.rows.append(
        {
            **limit(seconds / floor, targets.RESIZE_FLOOR, "x the floor"),
            "seconds": seconds,
            "start-up, s": start,
            "floor, s": floor,
            "reading": reading,
            "writing": writing,
            "QR": factoring,
            "MiB read": bytes_read / MIB,
            "MiB written": bytes_written / MIB,
            "Gflop": flops / 1e9,
        }
    )
    memory_table = Table(
        "Memory of the same command",
        "The private peak of the process less that of its start-up, in units of the largest module's factors "
        "in float64.",
    )
    peak = max(usage.private for usage in runs)
    start_peak = child.run([sys.executable, "-c", IDLE], log=work / "idle.log", env=env).private
    module_bytes = (model.hidden + model.intermediate) * 64 * 8
    memory_table.rows.append(
        {
            **limit((peak - start_peak) / module_bytes, targets.RESIZE_MODULES, "modules"),
            "private peak, MiB": peak / MIB,
            "start-up, MiB": start_peak / MIB,
            "a module, MiB": module_bytes / MIB,
            "the adapter, MiB": bytes_read / MIB,
        }
    )
    return [time_table, memory_table]


def _write_rate(path: Path, size: int) -> float:
    """Return the rate, in bytes per second, of writing a file with fsync."""
    tensors = {"x": np.zeros(size, np.uint8)}
    seconds = machine.best_seconds(lambda: write_safetensors(path, tensors), max_runs=3)
    path.unlink()
    return size / seconds


def _gram_rate(m: int, r: int, threads: int) -> float:
    """Return the float64 flops per second of B^T B on all threads.

    One product counts as m r^2 flops, because its result is symmetric.
    """
    matrices = [np.random.default_rng(i).standard_normal((m, r)) for i in range(threads)]
    repeats = 20

    def multiply(B: np.ndarray) -> None:
        for _ in range(repeats):
            B.T @ B

    with threadpool_limits(1), ThreadPoolExecutor(threads) as pool:
        seconds = machine.best_seconds(lambda: list(pool.map(multiply, matrices)))
    return threads * repeats * m * r**2 / seconds


def _combine_against_peft(work: Path, model: Model) -> Table:
    """Combine four adapters and cut the sum to rank 64: ours, and two methods of PEFT."""
    rank = 64
    folders = [write_adapter(work / f"adapter{i}", model, rank, 10_000 * (i + 1)) for i in range(4)]
    weights = [0.5, 0.3, 0.4, 0.2]
    table = Table(
        f"`combine` of four rank-{rank} adapters, {model.modules} modules, {model.hidden} / "
        f"{model.intermediate}, cut to rank {rank}",
        "Ours starts from mapped files and ends in memory. PEFT's "
        '`add_weighted_adapter(combination_type="svd")` starts from a loaded float32 model; loading is not '
        f"timed. Error: relative to the best rank-{rank} matrix of the weighted sum of the updates, computed "
        "in float64, over all modules. alpha is 2 r, so that applying a scale twice would show. `eckart "
        "combine` also reports the overlap of the six pairs, PEFT does not.",
    )
    expected = _best_sums(folders, weights, rank)
    adapters = [eckart.load_adapter(folder) for folder in folders]

    def combine() -> Adapter:
        return eckart.combine(adapters, weights=weights, rank=rank, dtype="float32").adapter

    our_seconds = machine.best_seconds(combine)
    overlap_seconds = machine.best_seconds(lambda: overlaps(adapters))
    modules = combine().modules.items()
    our_error = _relative_error({n: m.left.astype(np.float64) @ m.right for n, m in modules}, expected)
    for method in ("svd", "linear"):
        updates, seconds = _combine_in_peft(folders, weights, rank, model, method)
        table.rows.append(
            {
                **ratio(seconds, our_seconds, targets.COMBINE_OVER_PEFT if method == "svd" else None),
                "rival": f'PEFT add_weighted_adapter("{method}")',
                "ours, s": our_seconds,
                "rival, s": seconds,
                "our overlap report, s": overlap_seconds,
                "our error": f"{our_error:.1e}",
                "rival's error": f"{_relative_error(updates, expected):.1e}",
            }
        )
    return table


def _best_sums(folders: list[Path], weights: list[float], rank: int) -> dict[str, np.ndarray]:
    """Return the best matrix of the given rank for the weighted sum of each module's updates, in float64."""
    adapters = [eckart.load_adapter(folder) for folder in folders]
    best = {}
    for name in adapters[0].modules:
        total: Any = 0.0
        for adapter, weight in zip(adapters, weights, strict=True):
            left, right = adapter.modules[name].product()
            total = total + weight * (left @ right)
        U, s, Vh = np.linalg.svd(total, full_matrices=False)
        best[name] = (U[:, :rank] * s[:rank]) @ Vh[:rank]
    return best


def _relative_error(updates: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> float:
    squares = sum(float(((updates[name] - expected[name]) ** 2).sum()) for name in expected)
    return math.sqrt(squares / sum(float((update**2).sum()) for update in expected.values()))


def _combine_in_peft(
    folders: list[Path], weights: list[float], rank: int, model: Model, method: str
) -> tuple[dict[str, np.ndarray], float]:
    """Return the combined update of every module, and the seconds of `add_weighted_adapter`."""
    config = transformers.LlamaConfig(
        vocab_size=64,
        hidden_size=model.hidden,
        intermediate_size=model.intermediate,
        num_hidden_layers=model.layers,
        num_attention_heads=8,
        num_key_value_heads=8,
    )
    names = [f"adapter{i}" for i in range(len(folders))]
    method_options = {"svd_rank": rank} if method == "svd" else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        llama = transformers.LlamaForCausalLM(config)
        network = peft.PeftModel.from_pretrained(llama, folders[0], names[0])
        for name, folder in zip(names[1:], folders[1:], strict=True):
            network.load_adapter(folder, name)
        started = time.perf_counter()
        network.add_weighted_adapter(names, weights, "sum", combination_type=method, **method_options)
        seconds = time.perf_counter() - started
    updates = {}
    for name, module in network.base_model.model.named_modules():
        if hasattr(module, "lora_A") and "sum" in module.lora_A:
            updates[name] = module.get_delta_weight("sum").detach().numpy().astype(np.float64)
    return updates, seconds
