"""Describe the machine: its hardware, its versions, and the two rates that lower bounds are computed from.

Run as a program, this file prints the rate of matrix products. That needs a process of its own: the thread
pools of other libraries spin between their calls, which slows down the products many times over.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_info

from eckart.version import __version__

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
PAUSE = 0.3  # seconds before each timing, in which the threads of earlier work go to sleep
PACKAGES = ("numpy", "scipy", "torch", "peft", "autograd", "scikit-learn", "scikit-surprise")


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def best_seconds(work: Callable[[], object], max_runs: int = 5, patience: float = 10.0) -> float:
    """Return the shortest time of a few runs."""
    return min(all_seconds(work, max_runs, patience))


def all_seconds(work: Callable[[], object], max_runs: int = 5, patience: float = 10.0) -> list[float]:
    """Return the times of up to `max_runs` runs; no run starts after `patience` seconds of work."""
    time.sleep(PAUSE)
    times: list[float] = []
    while len(times) < max_runs and sum(times) < patience:
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return times


def read_rate(path: Path) -> float:
    """Return the rate, in bytes per second, of reading a file from the page cache."""
    np.fromfile(path, np.uint8)  # now the file is in the page cache
    return path.stat().st_size / best_seconds(lambda: np.fromfile(path, np.uint8))


def product_rate(m: int, n: int, threads: int) -> float:
    """Return the float32 flops per second of the two products of a Krylov step with an (m, n) matrix."""
    command = [sys.executable, str(Path(__file__).resolve()), str(m), str(n)]
    env = child_environment(threads, keep_python_path=True)
    finished = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    return float(finished.stdout)


def _product_rate(m: int, n: int, width: int = 40) -> float:
    random = np.random.default_rng(0)
    A = random.standard_normal((m, n), dtype=np.float32)
    V = random.standard_normal((width, n), dtype=np.float32)
    Q = random.standard_normal((width, m), dtype=np.float32)

    def step() -> None:
        V @ A.T  # (width, m)
        Q @ A  # (width, n)

    step()
    return 4.0 * m * n * width / best_seconds(step, max_runs=20)


def load() -> str:
    """Return the load average of the last minute, which is near 0 on an idle machine."""
    return f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"


def describe(threads: int, mergekit_python: Path | None) -> dict[str, str]:
    """Return the machine and the versions, as the rows of a table."""
    blas = {f"{p['internal_api']} {p.get('version') or ''}".strip() for p in threadpool_info()}
    return {
        "CPU": cpu_model(),
        "cores": str(cores()),
        "threads, both sides": str(threads),
        "memory": memory(),
        "system": f"{platform.system()} {platform.machine()}",
        "BLAS and OpenMP in the benchmark": ", ".join(sorted(blas)),
        "python": platform.python_version(),
        "eckart": __version__,
        **{name: version(name) for name in PACKAGES},
        "mergekit": mergekit_versions(mergekit_python),
    }


def cpu_model() -> str:
    """Return the name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"


def memory() -> str:
    """Return the size of the main memory."""
    try:
        size = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return "unknown"
    return f"{size / 2**30:.0f} GiB"


def version(package: str) -> str:
    """Return the installed version of a package."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def mergekit_versions(python: Path | None) -> str:
    """Return the versions of mergekit, torch and transformers in mergekit's own environment."""
    if python is None or not python.exists():
        return "not installed"
    code = (
        "from importlib.metadata import version as v; "
        "print(v('mergekit'), '(torch ' + v('torch') + ', transformers ' + v('transformers') + ')')"
    )
    finished = subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=False)
    return finished.stdout.strip() or "not installed"


def child_environment(threads: int, *, keep_python_path: bool) -> dict[str, str]:
    """Return the environment variables of a child process: a fixed number of threads, and no network.

    `keep_python_path` is for an Eckart that runs from its source tree.
    """
    env = dict(os.environ)
    env |= dict.fromkeys(THREAD_VARIABLES, str(threads))
    env |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    if not keep_python_path:
        env.pop("PYTHONPATH", None)
    return env


def sibling(python: Path, command: str) -> Path:
    """Return the path of a command that is installed in the same folder as an interpreter."""
    return python.absolute().parent / (command + (".exe" if sys.platform == "win32" else ""))


if __name__ == "__main__":
    print(_product_rate(int(sys.argv[1]), int(sys.argv[2])))
