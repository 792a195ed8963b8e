"""`eckart.svd` and `eckart.spectrum` in one process, against SciPy, PyTorch and scikit-learn."""

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
LEVEL, SPIKES = 20.0, 20  # the flat spectrum: so many values of 20, the others 1
ROWS = 512  # rows of the residual that are held at once, in float64

Matrix = NDArray[np.float32]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Case:
    """A matrix and its singular values; of a random one they are not known before a full SVD."""

    name: str
    A: Matrix
    values: Floats | None


class Found(NamedTuple):
    """Factors and the seconds that they took."""

    seconds: float
    U: NDArray[Any]
    s: NDArray[Any]
    Vh: NDArray[Any]


Full = list[tuple[str, Found]]  # the full SVDs by name, which both questions are compared with


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
        f"flat + {SPIKES} spikes": np.where(i <= SPIKES, LEVEL, 1.0),
    }.items():
        yield Case(name, (left * values.astype(np.float32)) @ right.T, values)
    yield Case("Gaussian", random.standard_normal((n, n), dtype=np.float32), None)


def measure(n: int, seed: int = 0, say: Callable[[str], None] = print) -> list[Table]:
    """Run every row at size n x n."""
    rank = Table(
        f"`svd(A, rank={RANK})`, {n} x {n} float32",
        "Ratio: the rival's seconds over ours. Excess: residual above that of the best rank-"
        f"{RANK} matrix, ||A - U S Vh||_F recomputed here in float64, in per cent. The full SVDs "
        "are cut afterwards. `svd_lowrank` searches with no more columns than it returns. Seconds "
        "are the best of a few runs, the median of ours beside them.",
    )
    proof = Table(
        f"Residual of `svd(A, rank={RANK})`",
        "Ours alone: per cent of residual above the best possible.",
    )
    energy = Table(
        f"`svd(A, energy={ENERGY})`, {n} x {n} float32",
        "Rivals have no such question: their side is the full SVD that one needs to answer it. "
        "Least: the least rank that holds the energy, from the spectrum that was built (from "
        "SciPy's values for the Gaussian). Bounds: what our answer proves of it.",
    )
    values = Table(f"`spectrum(A)`: every singular value, no vectors, {n} x {n} float32")
    _warm_up()
    for case in cases(n, seed):
        say(f"svd: {case.name}")
        full = [
            ("scipy.linalg.svd", _scipy(case.A)),
            ("torch.linalg.svd", _torch(case.A)),
        ]
        known = full[0][1].s.astype(np.float64) if case.values is None else case.values
        _rank_rows(case, known, full, rank, proof)
        _energy_rows(case, known, full, energy)
        if case.name == "i^-0.3":
            _values_rows(case, known, full, values)
    return [rank, proof, energy, values]


def _warm_up() -> None:
    """Call everything once on something small: imports and thread pools are not what is timed."""
    A = np.random.default_rng(0).standard_normal((300, 300), dtype=np.float32)
    for work in (_scipy, _torch, _lowrank, _sklearn):
        work(A)
    scipy.linalg.svdvals(A)
    torch.linalg.svdvals(torch.from_numpy(A))
    eckart.svd(A, rank=RANK)
    eckart.svd(A, energy=ENERGY)
    eckart.spectrum(A)


def _rank_rows(case: Case, known: Floats, full: Full, table: Table, proof: Table) -> None:
    best = math.sqrt(float((known[RANK:] ** 2).sum()))
    f = eckart.svd(case.A, rank=RANK)
    times = machine.all_seconds(lambda: eckart.svd(case.A, rank=RANK))
    ours = min(times)
    excess = _excess(case.A, f.U, f.s, f.Vh, best)
    cells = limit(excess, targets.RANK_EXCESS, "%")
    proof.rows.append({**cells, "spectrum": case.name, "route": f.method})
    rivals: list[tuple[str, Found, float | None]]
    rivals = [(name, found, targets.RANK_OVER_FULL.get(case.name)) for name, found in full]
    rivals += [  # beside them, for their residuals as much as for their seconds
        (f"torch.svd_lowrank(q={RANK})", _lowrank(case.A), None),
        ("sklearn randomized_svd", _sklearn(case.A), None),
    ]
    for name, found, target in rivals:
        table.rows.append(
            {
                **ratio(found.seconds, ours, target),
                "spectrum": case.name,
                "rival": name,
                "ours, s": ours,
                "rival, s": found.seconds,
                "our median, s": statistics.median(times),
                "our excess, %": excess,
                "rival's excess, %": _excess(case.A, found.U, found.s, found.Vh, best),
            }
        )


def _energy_rows(case: Case, known: Floats, full: Full, table: Table) -> None:
    f = eckart.svd(case.A, energy=ENERGY)
    times = machine.all_seconds(lambda: eckart.svd(case.A, energy=ENERGY))
    ours = min(times)
    held = np.cumsum(known**2)
    least = int(np.searchsorted(held, ENERGY * held[-1])) + 1
    for name, found in full:
        table.rows.append(
            {
                **ratio(
                    found.seconds,
                    ours,
                    targets.ENERGY_OVER_FULL.get(case.name, targets.NEVER_SLOWER),
                ),
                "spectrum": case.name,
                "rival": name,
                "ours, s": ours,
                "rival, s": found.seconds,
                "our median, s": statistics.median(times),
                "rank": f.rank,
                "least": least,
                "bounds": None if f.rank_bounds is None else "{} to {}".format(*f.rank_bounds),
                "route": f.method,
            }
        )


def _values_rows(case: Case, known: Floats, full: Full, table: Table) -> None:
    found = eckart.spectrum(case.A).values
    ours = machine.best_seconds(lambda: eckart.spectrum(case.A), most=3)
    error = "Error: the largest difference from the values that were built, over sigma_1."
    table.note = f"On {case.name}. {error}"
    tensor = torch.from_numpy(case.A)
    rivals: list[tuple[str, Callable[[], Any]]] = [
        ("scipy.linalg.svdvals", lambda: scipy.linalg.svdvals(case.A)),
        ("torch.linalg.svdvals", lambda: torch.linalg.svdvals(tensor).numpy()),
    ]
    for name, svd in full:
        table.rows.append(
            {
                **ratio(svd.seconds, ours, targets.VALUES_OVER_FULL),
                "spectrum": case.name,
                "rival": f"{name}, full",
                "ours, s": ours,
                "rival, s": svd.seconds,
                "our error": _largest(found, known),
                "rival's error": _largest(svd.s, known),
            }
        )
    for name, values_of in rivals:
        seconds = machine.best_seconds(values_of, most=3)
        theirs = values_of()
        table.rows.append(
            {
                **ratio(seconds, ours, None),
                "spectrum": case.name,
                "rival": name,
                "ours, s": ours,
                "rival, s": seconds,
                "our error": _largest(found, known),
                "rival's error": _largest(theirs, known),
            }
        )


def _scipy(A: Matrix) -> Found:
    return _timed(lambda: scipy.linalg.svd(A, full_matrices=False), most=3)


def _torch(A: Matrix) -> Found:
    tensor = torch.from_numpy(A)
    return _timed(lambda: torch.linalg.svd(tensor, full_matrices=False), most=3)


def _lowrank(A: Matrix) -> Found:
    tensor = torch.from_numpy(A)
    torch.manual_seed(0)

    def work() -> tuple[torch.Tensor, ...]:
        U, s, V = torch.svd_lowrank(tensor, q=RANK)
        return U, s, V.T

    return _timed(work)


def _sklearn(A: Matrix) -> Found:
    return _timed(lambda: randomized_svd(A, RANK, random_state=0))


def _timed(work: Callable[[], tuple[Any, ...]], most: int = 5) -> Found:
    """Return the best time of a few runs (of one, where it is long) and the last run's factors."""
    kept: list[tuple[Any, ...]] = []

    def keep() -> None:
        kept[:] = [work()]

    seconds = machine.best_seconds(keep, most=most)
    U, s, Vh = (np.asarray(factor) for factor in kept[0])
    return Found(seconds, U[:, :RANK].copy(), s, Vh[:RANK].copy())


def _excess(A: Matrix, U: Any, s: Any, Vh: Any, best: float) -> float:
    """Return the residual of the leading RANK components above ``best``, in per cent."""
    B = np.asarray(U, np.float64)[:, :RANK] * np.asarray(s, np.float64)[:RANK]
    V = np.asarray(Vh, np.float64)[:RANK]
    left = 0.0
    for row in range(0, len(A), ROWS):
        block = A[row : row + ROWS].astype(np.float64) - B[row : row + ROWS] @ V
        left += float(np.vdot(block, block))
    return 100 * (math.sqrt(left) / best - 1)


def _largest(found: Any, known: Floats) -> Cell:
    return f"{float(np.abs(found - known).max() / known[0]):.1e}"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=4096)
    parser.add_argument("--threads", type=int, default=machine.cores())
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    with threadpool_limits(args.threads):
        for table in measure(args.n, args.seed):
            print("\n" + table.markdown())


if __name__ == "__main__":
    main()
