"""What the machine is and how fast it is: the two rates that a floor is made of, and the versions.

Run as a program it prints the rate of products: in a process of its own, because the thread pools
of other libraries, spinning between their calls, slow those of this one many times over.
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
PAUSE = 0.3  # seconds before a timing, in which the threads of whoever ran before go to sleep


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def best_seconds(work: Callable[[], object], most: int = 5, patience: float = 10.0) -> float:
    """Return the best time of a few runs."""
    return min(all_seconds(work, most, patience))


def all_seconds(work: Callable[[], object], most: int = 5, patience: float = 10.0) -> list[float]:
    """Return the times of up to ``most`` runs; past ``patience`` seconds none is begun."""
    time.sleep(PAUSE)
    times: list[float] = []
    while len(times) < most and sum(times) < patience:
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return times


def read_rate(path: Path) -> float:
    """Return bytes per second of reading a file that is in the page cache already."""
    np.fromfile(path, np.uint8)
    return path.stat().st_size / best_seconds(lambda: np.fromfile(path, np.uint8))


def product_rate(m: int, n: int, threads: int) -> float:
    """Return float32 flops per second of a Krylov step's two products with an (m, n) matrix."""
    command = [sys.executable, str(Path(__file__).resolve()), str(m), str(n)]
    env = child_environment(threads, source=True)
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    return float(done.stdout)


def _product_rate(m: int, n: int, width: int = 40) -> float:
    random = np.random.default_rng(0)
    A = random.standard_normal((m, n), dtype=np.float32)
    V = random.standard_normal((width, n), dtype=np.float32)
    Q = random.standard_normal((width, m), dtype=np.float32)

    def step() -> None:
        V @ A.T  # (width, m)
        Q @ A  # (width, n)

    step()
    return 4.0 * m * n * width / best_seconds(step, most=20)


def load() -> str:
    """Return how many processes want a core, over the last minute; near 0 on a quiet machine."""
    return f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"


def describe(threads: int, rival: Path | None) -> dict[str, str]:
    """Return the machine and the versions, as a table's rows."""
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
        **{name: version(name) for name in ("numpy", "scipy", "torch", "scikit-learn", "scikit-surprise")},
        "mergekit": rival_versions(rival),
    }


def cpu_model() -> str:
    """Return the processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"


def memory() -> str:
    """Return the installed memory."""
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


def rival_versions(python: Path | None) -> str:
    """Return the rival's version and those it runs on, from its own environment."""
    if python is None or not python.exists():
        return "not installed"
    code = (
        "from importlib.metadata import version as v; "
        "print(v('mergekit'), '(torch ' + v('torch') + ', transformers ' + v('transformers') + ')')"
    )
    done = subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=False)
    return done.stdout.strip() or "not installed"


def child_environment(threads: int, *, source: bool) -> dict[str, str]:
    """Return the environment of a child: the same threads for both sides, and no network.

    ``source`` keeps PYTHONPATH, for an Eckart that is run from its source tree.
    """
    env = dict(os.environ)
    env |= dict.fromkeys(THREAD_VARIABLES, str(threads))
    env |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    if not source:
        env.pop("PYTHONPATH", None)
    return env


def sibling(python: Path, command: str) -> Path:
    """Return a command that is installed beside an interpreter."""
    return python.absolute().parent / (command + (".exe" if sys.platform == "win32" else ""))


if __name__ == "__main__":
    print(_product_rate(int(sys.argv[1]), int(sys.argv[2])))
