"""`eckart.svd` and `eckart.spectrum` in one process, compared with SciPy, PyTorch and scikit-learn."""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import machine
import numpy as np
import scipy.linalg
import targets
import torch
from numpy.typing import NDArray
from sklearn.utils.extmath import randomized_svd
from tables import Cell, Table, limit, ratio
from threadpoolctl import threadpool_limits

import eckart

RANK, ENERGY = 32, 0.9
SIZE, QUICK_SIZE = 4096, 512
SPIKE, SPIKES = 20.0, 20  # the flat spectrum: 20 singular values of 20, the others are 1
ROWS = 512  # rows of the residual in memory at a time, in float64

Matrix = NDArray[np.float32]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Case:
    """A matrix and its singular values; None for a random matrix, whose values only a full SVD can tell."""

    name: str
    A: Matrix
    values: Floats | None


class TimedSvd(NamedTuple):
    """The factors of a decomposition, and the seconds that it took."""

    seconds: float
    U: NDArray[Any]
    s: NDArray[Any]
    Vh: NDArray[Any]


FullSvds = list[tuple[str, TimedSvd]]  # the full SVDs and their names


def cases(n: int, seed: int = 0) -> Iterator[Case]:
    """Yield the matrices one at a time; all but the last share their singular vectors."""
    random = np.random.default_rng(seed)
    left, right = (
        scipy.linalg.qr(random.standard_normal((n, n), dtype=np.float32), overwrite_a=True)[0]
        for _ in range(2)
    )
    i = np.arange(1.0, n + 1)
    for name, values in {
        "1/i": 1 / i,
        "i^-0.5": i**-0.5,
        "i^-0.3": i**-0.3,
        "exp(-i/64)": np.exp(-i / 64),
        f"flat + {SPIKES} spikes": np.where(i <= SPIKES, SPIKE, 1.0),
    }.items():
        yield Case(name, (left * values.astype(np.float32)) @ right.T, values)
    yield Case("Gaussian", random.standard_normal((n, n), dtype=np.float32), None)


def measure(n: int, seed: int = 0, notify: Callable[[str], None] = print) -> list[Table]:
    """Fill every table for matrices of size n x n."""
    rank = Table(
        f"`svd(A, rank={RANK})`, {n} x {n} float32",
        "Ratio: the rival's seconds over ours. Excess: by how many percent the residual ||A - U S Vh||_F, "
        f"recomputed in float64, exceeds that of the best rank-{RANK} matrix. The full SVDs are truncated "
        "afterwards. `svd_lowrank` searches a space with no more columns than it returns. Seconds are the "
        "best of a few runs; the median of ours is also shown.",
    )
    proof = Table(
        f"Residual of `svd(A, rank={RANK})`",
        "Eckart alone: by how many percent its residual exceeds the best possible one.",
    )
    energy = Table(
        f"`svd(A, energy={ENERGY})`, {n} x {n} float32",
        "The rivals cannot answer this question directly: their time is that of the full SVD it takes. "
        "Least: the least rank that keeps the energy, from the spectrum that the matrix was built with (for "
        "the Gaussian matrix, from SciPy's values). Bounds: the bounds of that rank that our result proves.",
    )
    values = Table(f"`spectrum(A)`: every singular value, no vectors, {n} x {n} float32")
    _warm_up()
    for case in cases(n, seed):
        notify(f"svd: {case.name}")
        full_svds = [
            ("scipy.linalg.svd", _scipy(case.A)),
            ("torch.linalg.svd", _torch(case.A)),
        ]
        true_values = full_svds[0][1].s.astype(np.float64) if case.values is None else case.values
        _add_rank_rows(case, true_values, full_svds, rank, proof)
        _add_energy_rows(case, true_values, full_svds, energy)
        if case.name == "i^-0.3":
            _add_values_rows(case, true_values, full_svds, values)
    return [rank, proof, energy, values]


def _warm_up() -> None:
    """Call every function once on a small matrix, so that imports and thread pools are not timed."""
    A = np.random.default_rng(0).standard_normal((300, 300), dtype=np.float32)
    for decompose in (_scipy, _torch, _lowrank, _sklearn):
        decompose(A)
    scipy.linalg.svdvals(A)
    torch.linalg.svdvals(torch.from_numpy(A))
    eckart.svd(A, rank=RANK)
    eckart.svd(A, energy=ENERGY)
    eckart.spectrum(A)


def _add_rank_rows(case: Case, true_values: Floats, full_svds: FullSvds, table: Table, proof: Table) -> None:
    best = math.sqrt(float((true_values[RANK:] ** 2).sum()))
    f = eckart.svd(case.A, rank=RANK)
    times = machine.all_seconds(lambda: eckart.svd(case.A, rank=RANK))
    excess = _excess(case.A, f.U, f.s, f.Vh, best)
    cells = limit(excess, targets.RANK_EXCESS, "%")
    proof.rows.append({**cells, "spectrum": case.name, "route": f.method})
    target = targets.RANK_OVER_FULL.get(case.name)
    rivals: list[tuple[str, TimedSvd, float | None]] = [(name, svd, target) for name, svd in full_svds]
    rivals += [  # without a target: their residuals differ from ours as much as their seconds
        (f"torch.svd_lowrank(q={RANK})", _lowrank(case.A), None),
        ("sklearn randomized_svd", _sklearn(case.A), None),
    ]
    for name, svd, target in rivals:
        table.rows.append(
            {
                **ratio(svd.seconds, min(times), target),
                "spectrum": case.name,
                "rival": name,
                "ours, s": min(times),
                "rival, s": svd.seconds,
                "our median, s": statistics.median(times),
                "our excess, %": excess,
                "rival's excess, %": _excess(case.A, svd.U, svd.s, svd.Vh, best),
            }
        )


def _add_energy_rows(case: Case, true_values: Floats, full_svds: FullSvds, table: Table) -> None:
    f = eckart.svd(case.A, energy=ENERGY)
    times = machine.all_seconds(lambda: eckart.svd(case.A, energy=ENERGY))
    energies = np.cumsum(true_values**2)
    least = int(np.searchsorted(energies, ENERGY * energies[-1])) + 1
    target = targets.ENERGY_OVER_FULL.get(case.name, targets.NEVER_SLOWER)
    for name, svd in full_svds:
        table.rows.append(
            {
                **ratio(svd.seconds, min(times), target),
                "spectrum": case.name,
                "rival": name,
                "ours, s": min(times),
                "rival, s": svd.seconds,
                "our median, s": statistics.median(times),
                "rank": f.rank,
                "least": least,
                "bounds": None if f.rank_bounds is None else "{} to {}".format(*f.rank_bounds),
                "route": f.method,
            }
        )


def _add_values_rows(case: Case, true_values: Floats, full_svds: FullSvds, table: Table) -> None:
    table.note = (
        f"On {case.name}. Error: the largest difference from the values that the matrix was built with, "
        "relative to sigma_1."
    )
    our_values = eckart.spectrum(case.A).values
    our_seconds = machine.best_seconds(lambda: eckart.spectrum(case.A), max_runs=3)
    tensor = torch.from_numpy(case.A)
    functions: list[tuple[str, Callable[[], Any]]] = [
        ("scipy.linalg.svdvals", lambda: scipy.linalg.svdvals(case.A)),
        ("torch.linalg.svdvals", lambda: torch.linalg.svdvals(tensor).numpy()),
    ]
    rivals = [(f"{name}, full", svd.seconds, svd.s, targets.VALUES_OVER_FULL) for name, svd in full_svds]
    rivals += [(name, machine.best_seconds(f, max_runs=3), f(), None) for name, f in functions]
    for name, seconds, values, target in rivals:
        table.rows.append(
            {
                **ratio(seconds, our_seconds, target),
                "spectrum": case.name,
                "rival": name,
                "ours, s": our_seconds,
                "rival, s": seconds,
                "our error": _largest_error(our_values, true_values),
                "rival's error": _largest_error(values, true_values),
            }
        )


def _scipy(A: Matrix) -> TimedSvd:
    return _timed(lambda: scipy.linalg.svd(A, full_matrices=False), max_runs=3)


def _torch(A: Matrix) -> TimedSvd:
    tensor = torch.from_numpy(A)
    return _timed(lambda: torch.linalg.svd(tensor, full_matrices=False), max_runs=3)


def _lowrank(A: Matrix) -> TimedSvd:
    tensor = torch.from_numpy(A)
    torch.manual_seed(0)

    def decompose() -> tuple[torch.Tensor, ...]:
        U, s, V = torch.svd_lowrank(tensor, q=RANK)
        return U, s, V.T

    return _timed(decompose)


def _sklearn(A: Matrix) -> TimedSvd:
    return _timed(lambda: randomized_svd(A, RANK, random_state=0))


def _timed(decompose: Callable[[], tuple[Any, ...]], max_runs: int = 5) -> TimedSvd:
    """Return the best time of a few runs (of one, if it is long), and the factors of the last run."""
    last: list[tuple[Any, ...]] = []

    def run() -> None:
        last[:] = [decompose()]

    seconds = machine.best_seconds(run, max_runs)
    U, s, Vh = (np.asarray(factor) for factor in last[0])
    return TimedSvd(seconds, U[:, :RANK].copy(), s, Vh[:RANK].copy())


def _excess(A: Matrix, U: Any, s: Any, Vh: Any, best: float) -> float:
    """Return by how many percent the residual of the leading RANK components exceeds `best`."""
    B = np.asarray(U, np.float64)[:, :RANK] * np.asarray(s, np.float64)[:RANK]
    V = np.asarray(Vh, np.float64)[:RANK]
    squares = 0.0
    for row in range(0, len(A), ROWS):
        block = A[row : row + ROWS].astype(np.float64) - B[row : row + ROWS] @ V
        squares += float(np.vdot(block, block))
    return 100 * (math.sqrt(squares) / best - 1)


def _largest_error(values: Any, true_values: Floats) -> Cell:
    return f"{float(np.abs(values - true_values).max() / true_values[0]):.1e}"


def run(threads: int, *, quick: bool, notify: Callable[[str], None]) -> list[Table]:
    """Fill every table with the given number of threads."""
    with threadpool_limits(threads):
        return measure(QUICK_SIZE if quick else SIZE, notify=notify)


def main() -> None:
    """Print the tables for one size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=SIZE, help="rows and columns of the matrices")
    parser.add_argument("--threads", type=int, default=machine.cores())
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with threadpool_limits(options.threads):
        for table in measure(options.n, options.seed):
            print("\n" + table.markdown())


if __name__ == "__main__":
    main()
