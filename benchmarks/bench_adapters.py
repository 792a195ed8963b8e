"""`resize` and `combine` against what people do today: forming B A, and PEFT."""

from __future__ import annotations

import json
import math
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import child
import machine
import ml_dtypes
import numpy as np
import targets
import torch
from tables import Table, limit, ratio
from threadpoolctl import threadpool_limits

import eckart
from eckart.adapter import Adapter, Module
from eckart.checkpoint import write_safetensors
from eckart.operations.overlap import overlaps

MIB = 2**20
PREFIX = "base_model.model.model.layers."
SEVEN = {  # the projections of a Llama layer: (d_out, d_in) in terms of hidden h and intermediate f
    "self_attn.q_proj": "hh", "self_attn.k_proj": "hh", "self_attn.v_proj": "hh", "self_attn.o_proj": "hh",
    "mlp.gate_proj": "fh", "mlp.up_proj": "fh", "mlp.down_proj": "hf",
}  # fmt: skip


def factors(m: int, n: int, r: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return B (m, r) and A (r, n) whose product's singular values fall as i^-0.7, about."""
    random = np.random.default_rng(seed)
    fall = np.arange(1, r + 1, dtype=np.float32) ** -0.7
    B = random.standard_normal((m, r), dtype=np.float32) / math.sqrt(m)
    A = random.standard_normal((r, n), dtype=np.float32) / math.sqrt(n)
    return B, A * fall[:, None]


def write_adapter(folder: Path, hidden: int, inner: int, layers: int, rank: int, seed: int = 0) -> Path:
    """Write a bfloat16 PEFT adapter for every projection of a Llama of that shape, alpha = 2 r."""
    folder.mkdir(parents=True)
    size = {"h": hidden, "f": inner}
    tensors = {}
    for layer in range(layers):
        for i, (name, shape) in enumerate(SEVEN.items()):
            B, A = factors(size[shape[0]], size[shape[1]], rank, seed + 100 * layer + i)
            key = f"{PREFIX}{layer}.{name}"
            tensors[f"{key}.lora_A.weight"] = A.astype(ml_dtypes.bfloat16)
            tensors[f"{key}.lora_B.weight"] = B.astype(ml_dtypes.bfloat16)
    write_safetensors(folder / "adapter_model.safetensors", tensors)
    config = {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": 2 * rank,
        "target_modules": sorted(name.partition(".")[2] for name in SEVEN), "base_model_name_or_path": None,
    }  # fmt: skip
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def run(threads: int, *, quick: bool, say: Callable[[str], None]) -> list[Table]:
    """Run every row."""
    with tempfile.TemporaryDirectory() as work, threadpool_limits(threads):
        say("adapters: resize against a dense SVD")
        one = _against_dense(1024 if quick else 5120, 32 if quick else 128)
        say("adapters: a whole adapter against its floor")
        whole = _whole(Path(work), threads, (256, 512, 4) if quick else (4096, 11008, 32))
        say("adapters: combine against PEFT")
        both = _combine(Path(work), threads, (128, 256, 2) if quick else (2048, 5632, 1))
    return [one, *whole, both]


def _against_dense(n: int, r: int) -> Table:
    """Resize one module of rank r to r / 4: ours, and the SVD of the formed product."""
    table = Table(
        f"Resize of a rank-{r} module, {n} x {n} float32, to rank {r // 4}",
        "The rival forms B A and takes `torch.linalg.svd` of it, with `full_matrices=True` as "
        "kohya's resize_lora.py does by default, and without. In one process, in memory, one module. "
        "Error: ||B A - B' A'||_F / ||B A||_F of the float32 factors, measured here alike for both: with "
        "the R of a QR of [B, B'] and of [A; -A']^T in float64.",
    )
    B, A = factors(n, n, r, 1)
    adapter = Adapter({"layer": Module("layer", "linear", B, A)})
    ours = machine.best_seconds(lambda: adapter.resize(rank=r // 4))
    cut = adapter.resize(rank=r // 4).modules["layer"]
    mine = _distance((B, A), (cut.left, cut.right))
    for full in (True, False):
        began = time.perf_counter()
        U, s, Vh = torch.linalg.svd(torch.from_numpy(B) @ torch.from_numpy(A), full_matrices=full)
        k = r // 4
        root = s[:k].sqrt()
        pair = (U[:, :k] * root).numpy(), (root[:, None] * Vh[:k]).numpy()
        seconds = time.perf_counter() - began
        theirs = _distance((B, A), pair)
        table.rows.append(
            {
                **ratio(seconds, ours, targets.RESIZE_OVER_DENSE if full else None),
                "rival": f"torch.linalg.svd(B @ A, full_matrices={full})",
                "ours, s": ours,
                "rival, s": seconds,
                "our error": f"{mine:.7f}",
                "rival's error": f"{theirs:.7f}",
                "difference": f"{abs(mine - theirs):.1e}",
            }
        )
    return table


def _distance(one: tuple[np.ndarray, np.ndarray], two: tuple[np.ndarray, np.ndarray]) -> float:
    def norm(B: np.ndarray, A: np.ndarray) -> float:
        left = np.linalg.qr(B.astype(np.float64), mode="r")
        right = np.linalg.qr(A.astype(np.float64).T, mode="r")
        return float(np.linalg.norm(left @ right.T))

    apart = norm(np.concatenate([one[0], two[0]], axis=1), np.concatenate([one[1], -two[1]]))
    return apart / norm(*one)


def _whole(work: Path, threads: int, shape: tuple[int, int, int]) -> list[Table]:
    """Resize a whole adapter from file to file, and hold the time against the floor."""
    hidden, inner, layers = shape
    folder = write_adapter(work / "whole", hidden, inner, layers, 64)
    env = machine.child_environment(threads, source=True)
    command = [sys.executable, "-m", "eckart", "resize", str(folder), "-o", str(work / "out"), "--rank", "16"]
    command += ["--overwrite", "--quiet"]
    runs = [child.run(command, log=work / "resize.log", env=env) for _ in range(3)]
    if any(r.code for r in runs):
        raise RuntimeError(runs[-1].tail)
    ours = min(runs, key=lambda r: r.seconds)
    start = min(
        child.run([sys.executable, "-m", "eckart", "resize", "--help"], log=work / "s.log", env=env).seconds
        for _ in range(3)
    )
    file = folder / "adapter_model.safetensors"
    made = (work / "out" / "adapter_model.safetensors").stat().st_size
    sides = layers * (4 * 2 * hidden + 3 * (hidden + inner))
    flops = 2.0 * sides * 64**2
    reading = file.stat().st_size / machine.read_rate(file)
    writing = made / _write_rate(work / "probe", min(made, 100 * MIB))
    computing = flops / _gram_rate(hidden, 64, threads)
    floor = reading + writing + computing
    seconds = ours.seconds - start
    time_table = Table(
        f"`eckart resize --rank 16` of a rank-64 bfloat16 adapter, {layers * 7} modules, {hidden} / {inner}",
        "Whole process, less its start-up. The floor: bytes read and written over the measured rates of "
        "`np.fromfile` from the page cache and of writing with fsync, and 2(m + n)r^2 flops, a QR of both "
        "factors without Q, over the measured float64 rate of B^T B. Memory: the process's private peak over "
        "that of its start-up, in units of the largest module's factors in float64.",
    )
    time_table.rows.append(
        {
            **limit(seconds / floor, targets.RESIZE_FLOOR, "x the floor"),
            "seconds": seconds,
            "start-up, s": start,
            "floor, s": floor,
            "reading": reading,
            "writing": writing,
            "QR": computing,
            "MiB read": file.stat().st_size / MIB,
            "MiB written": made / MIB,
            "Gflop": flops / 1e9,
        }
    )
    idle = child.run([sys.executable, "-c", IDLE], log=work / "i.log", env=env).private
    module = (hidden + inner) * 64 * 8
    memory = Table("Its memory")
    memory.rows.append(
        {
            **limit((max(r.private for r in runs) - idle) / module, targets.RESIZE_MODULES, "modules"),
            "private peak, MiB": max(r.private for r in runs) / MIB,
            "start-up, MiB": idle / MIB,
            "a module, MiB": module / MIB,
            "the adapter, MiB": file.stat().st_size / MIB,
        }
    )
    return [time_table, memory]


IDLE = "import eckart.cli.app, numpy, scipy, time; time.sleep(0.1)"


def _write_rate(path: Path, size: int) -> float:
    data = {"x": np.zeros(size, np.uint8)}
    seconds = machine.best_seconds(lambda: write_safetensors(path, data), most=3)
    path.unlink()
    return size / seconds


def _gram_rate(m: int, r: int, threads: int) -> float:
    """Return float64 flops per second of B^T B (counted as 2mr^2 / 2, being symmetric) on all threads."""
    from concurrent.futures import ThreadPoolExecutor

    B = [np.random.default_rng(i).standard_normal((m, r)) for i in range(threads)]

    def work(X: np.ndarray) -> None:
        for _ in range(20):
            X.T @ X

    with threadpool_limits(1), ThreadPoolExecutor(threads) as pool:
        seconds = machine.best_seconds(lambda: list(pool.map(work, B)))
    return threads * 20 * m * r**2 / seconds


def _combine(work: Path, threads: int, shape: tuple[int, int, int]) -> Table:
    """Combine four adapters at weights of both signs, cut to rank 64: ours, and PEFT's svd."""
    hidden, inner, layers = shape
    folders = [write_adapter(work / f"one{i}", hidden, inner, layers, 64, 10_000 * (i + 1)) for i in range(4)]
    weights = [0.5, 0.3, 0.4, 0.2]
    table = Table(
        f"`combine` of four rank-64 adapters, {7 * layers} modules, {hidden} / {inner}, cut to rank 64",
        'Ours from mapped files to memory; PEFT\'s `add_weighted_adapter(combination_type="svd")` '
        "on a loaded model, float32, its loading not counted. Error: against the best rank-64 matrix of the "
        "weighted sum of the updates, formed in float64; the sum over all modules. alpha is 2 r, so that a "
        "scale applied twice shows. `eckart combine` also reports the overlap of the six pairs, PEFT none.",
    )
    exact = _exact(folders, weights, 64)
    loaded = [eckart.load_adapter(f) for f in folders]
    ours = machine.best_seconds(lambda: eckart.combine(loaded, weights=weights, rank=64, dtype="F32"))
    report = machine.best_seconds(lambda: overlaps(loaded))
    made = eckart.combine(loaded, weights=weights, rank=64, dtype="F32").adapter
    mine = _relative({n: m.left.astype(np.float64) @ m.right for n, m in made.modules.items()}, exact)
    for how in ("svd", "linear"):
        theirs, seconds = _peft(folders, weights, shape, how)
        table.rows.append(
            {
                **ratio(seconds, ours, targets.COMBINE_OVER_PEFT if how == "svd" else None),
                "rival": f'PEFT add_weighted_adapter("{how}")',
                "ours, s": ours,
                "rival, s": seconds,
                "our overlap report, s": report,
                "our error": f"{mine:.1e}",
                "rival's error": f"{_relative(theirs, exact):.1e}",
            }
        )
    return table


def _exact(folders: list[Path], weights: list[float], rank: int) -> dict[str, np.ndarray]:
    loaded = [eckart.load_adapter(f) for f in folders]
    exact = {}
    for name in loaded[0].modules:
        total: Any = 0.0
        for adapter, weight in zip(loaded, weights, strict=True):
            left, right = adapter.modules[name].product()
            total = total + weight * (left @ right)
        U, s, Vh = np.linalg.svd(total, full_matrices=False)
        exact[name] = (U[:, :rank] * s[:rank]) @ Vh[:rank]
    return exact


def _relative(found: dict[str, np.ndarray], exact: dict[str, np.ndarray]) -> float:
    gap = sum(float(((found[n] - exact[n]) ** 2).sum()) for n in exact)
    return math.sqrt(gap / sum(float((x**2).sum()) for x in exact.values()))


def _peft(
    folders: list[Path], weights: list[float], shape: tuple[int, int, int], how: str
) -> tuple[dict[str, np.ndarray], float]:
    import peft
    import transformers

    hidden, inner, layers = shape
    config = transformers.LlamaConfig(
        vocab_size=64, hidden_size=hidden, intermediate_size=inner, num_hidden_layers=layers,
        num_attention_heads=8, num_key_value_heads=8,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = peft.PeftModel.from_pretrained(transformers.LlamaForCausalLM(config), folders[0], "a0")
        for i, folder in enumerate(folders[1:], 1):
            model.load_adapter(folder, f"a{i}")
        names = [f"a{i}" for i in range(len(folders))]
        began = time.perf_counter()
        more = {"svd_rank": 64} if how == "svd" else {}
        model.add_weighted_adapter(names, weights, "sum", combination_type=how, **more)
        seconds = time.perf_counter() - began
    found = {}
    for name, module in model.base_model.model.named_modules():
        if hasattr(module, "lora_A") and "sum" in module.lora_A:
            found[name] = module.get_delta_weight("sum").detach().numpy().astype(np.float64)
    return found, seconds
