"""Block Krylov: the leading singular triplets from a few thin products with A and A^T."""

from __future__ import annotations

import numpy as np

from eckart.arrays import Floats
from eckart.linalg.backend import DeviceArray, ops_for
from eckart.linalg.certificate import rank_bounds
from eckart.linalg.goal import Goal
from eckart.linalg.spectrum import Spectrum

PROBE = 16  # columns of the first sketch: enough to distinguish fast decay from slow
GLANCE = 32  # a search uses at least 1/32 of all columns before slow decay may end it
PROOF = 96  # a search may use this many columns at any rank to close the gap between the bounds


class BlockKrylov:
    """Block Golub-Kahan bidiagonalisation with full reorthogonalisation, one step at a time.

    Keeps orthonormal bases U (D, m) and V (D', n), both as rows, and T = U A V^T. After every step
    U A = T V, so the singular values of T are those of the projection U^T U A.

    Parameters
    ----------
    A : array (m, n), or an operator
        float32 or float64. An operator needs ``shape``, ``dtype``, ``T`` and ``@`` from both sides.
    total : float
        ||A||_F^2 in float64.
    seed : list of int
        Seed of the Gaussian start; the same seed gives the same bytes on the same machine.

    Notes
    -----
    A step with a block of b costs two products, 4mnb flops, and 4(m + n)bD for orthogonality. After
    t steps the space contains that of t - 1 power steps and all earlier ones, which is why it
    beats a randomised range finder of the same cost (Musco and Musco, 2015; Hallman, 2022). The
    residual is exact: ||A||_F^2 - ||T||_F^2. Singular values are lower bounds, by interlacing, so a
    rank is never under-reported.
    """

    def __init__(self, A: DeviceArray, total: float, seed: list[int]) -> None:
        self.A, self.total = A, total
        self.ops = ops_for(A)
        self.random = np.random.default_rng(seed)
        self.m, self.n = int(A.shape[0]), int(A.shape[1])
        self.U: DeviceArray = None
        self.V: DeviceArray = None
        self.T = np.zeros((0, 0))
        self.last = 0  # number of rows at the end of V that the next step multiplies
        self.exhausted = total == 0.0
        precision = np.finfo(self.ops.dtype(A)).eps
        self.noise = 8.0 * float(precision) * float(np.sqrt(total))

    @property
    def width(self) -> int:
        """Dimension of the space so far."""
        return 0 if self.U is None else int(self.U.shape[0])

    def step(self, block: int) -> None:
        """Widen the space.

        Parameters
        ----------
        block : int
            Number of dimensions to add; fewer are added if fewer are left.
        """
        block = min(block, min(self.m, self.n) - self.width)
        if self.exhausted or block <= 0:
            self.exhausted = True
            return
        if self.U is None:
            Y = self._gaussian(block, self.n) @ self.A.T  # (b, m)
        else:
            self._match(block)
            Y = self.V[-self.last :] @ self.A.T  # (b, m)
        Q, _, _ = self._orthonormal(Y, self.U)
        if not len(Q):
            self.exhausted = True  # A maps the last block of V into the space U
            return
        self.U = Q if self.U is None else self.ops.concatenate([self.U, Q], 0)
        Q, along, L = self._orthonormal(Q @ self.A, self.V)  # (b', n)
        old = self.T
        self.T = np.zeros((old.shape[0] + len(L), old.shape[1] + L.shape[1]))
        self.T[: old.shape[0], : old.shape[1]] = old
        self.T[old.shape[0] :, : old.shape[1]] = along
        self.T[old.shape[0] :, old.shape[1] :] = L
        if len(Q):
            self.V = Q if self.V is None else self.ops.concatenate([self.V, Q], 0)
        # Equal singular values end the space early; the next step then starts from random directions.
        self.last = len(Q)
        left = self.total - float((self.T**2).sum())
        complete = not len(Q) and left <= 1e-14 * self.total
        self.exhausted = complete or self.width == min(self.m, self.n)

    def spectrum(self) -> Spectrum:
        """Return the singular values found so far, with the exact energy of the rest."""
        if not self.width:
            return Spectrum([], 0.0, min(self.m, self.n))
        values = np.asarray(np.linalg.svd(self.T, compute_uv=False), np.float64)
        tail = max(self.total - float((values**2).sum()), 0.0)
        return Spectrum(values[: min(self.m, self.n)], tail, min(self.m, self.n))

    def triplets(self, rank: int) -> tuple[DeviceArray, Floats, DeviceArray]:
        """Return the leading ``rank`` singular triplets of the projection.

        Parameters
        ----------
        rank : int

        Returns
        -------
        U : array (m, r)
        s : ndarray (r,), float64
        Vh : array (r, n)
        """
        W, s, Zh = np.linalg.svd(self.T, full_matrices=False)
        like = self.ops.like
        U = like(np.ascontiguousarray(W[:, :rank].T), self.A) @ self.U  # (r, m)
        V = like(Zh[:rank], self.A) @ self.V  # (r, n)
        return U.T, s[:rank], V

    def _gaussian(self, rows: int, columns: int) -> DeviceArray:
        return self.ops.like(self.random.standard_normal((rows, columns), dtype=np.float32), self.A)

    def _match(self, block: int) -> None:
        """Resize the last block of V to ``block`` rows, adding random directions if it is narrower."""
        missing = block - self.last
        if missing < 0:
            self.last = block
        elif missing > 0:
            missing = min(missing, self.n - int(self.V.shape[0]))
            Q, _, _ = self._orthonormal(self._gaussian(missing, self.n), self.V)
            self.V = self.ops.concatenate([self.V, Q], 0)
            # U A lies in the span of the old rows of V, so its coordinates along the new rows are zero.
            self.T = np.pad(self.T, ((0, 0), (0, len(Q))))
            self.last += len(Q)

    def _orthonormal(self, Y: DeviceArray, basis: DeviceArray) -> tuple[DeviceArray, Floats, Floats]:
        """Split Y = along @ basis + L @ Q, with orthonormal rows in Q that are orthogonal to the basis.

        Projects and normalises twice: one pass leaves eps ||Y|| / ||rest|| of the basis in Q, two are
        sufficient. Directions that consist of rounding are dropped.
        """
        if basis is None:
            Q, L = self.ops.orthonormal_rows(Y, self.noise)
            return Q, np.zeros((len(L), 0)), L
        along, L = np.zeros((int(Y.shape[0]), int(basis.shape[0]))), np.eye(int(Y.shape[0]))
        for shortest in (self.noise, 0.1):  # in the second pass, rows that are not rounding have length 1
            part = Y @ basis.T
            along += L @ self.ops.host(part)
            Y, step = self.ops.orthonormal_rows(Y - part @ basis, shortest)
            L = L @ step
            if not len(Y):
                break
        return Y, along, L


def leading(krylov: BlockKrylov, rank: int, slack: float) -> Spectrum:
    """Widen the space until the energy of the leading components has nearly converged.

    Parameters
    ----------
    krylov : BlockKrylov
        Widened in place.
    rank : int
        Number of leading components.
    slack : float
        Stop when the energy that further steps would gain is below this share of the tail.

    Returns
    -------
    Spectrum
        The singular values of the whole space.

    Notes
    -----
    Steps add blocks of r columns: narrower blocks would converge in fewer columns, but thin products
    are slower per column.
    """
    block = max(8, -(-rank // 8) * 8)
    converged = Converged(slack)
    while True:
        krylov.step(block)
        spectrum = krylov.spectrum()
        enough = converged(spectrum, rank) and krylov.width >= rank
        if enough or krylov.exhausted:
            return spectrum


class Converged:
    """Detects that the energy of the leading components has nearly stopped growing.

    Parameters
    ----------
    slack : float
        Energy that further steps may still gain, as a share of the tail.

    Notes
    -----
    The gain of each step shrinks by a nearly constant ratio, so the gain of all further steps is estimated
    as a geometric series. This is a heuristic: with slack 0.004 the residual of rank 32 ends at most 0.3 %
    above the best on the benchmark's six spectra, from 1/i to Gaussian noise.
    """

    def __init__(self, slack: float) -> None:
        self.slack = slack
        self.rank = 0
        self.tops: list[float] = []

    def __call__(self, spectrum: Spectrum, rank: int) -> bool:
        """Record a step, and return whether the leading ``rank`` components have converged."""
        if rank != self.rank:
            self.rank, self.tops = rank, []
        self.tops.append(float((spectrum.values[:rank] ** 2).sum()))
        if len(self.tops) < 2:
            return False
        gains = np.maximum(np.diff([0.0, *self.tops]), 0.0)
        ratio = 0.5 if len(gains) < 3 else min(float(gains[-1]) / max(float(gains[-2]), 1e-300), 0.9)
        expected = float(gains[-1]) * ratio / (1 - ratio)
        left = max(spectrum.total - self.tops[-1], 1e-14 * spectrum.total)
        return expected <= self.slack * left


def reaching(krylov: BlockKrylov, goal: Goal, limit: int, slack: float) -> Spectrum | None:
    """Widen the space until a goal is reached and its rank is proven or settled.

    Parameters
    ----------
    krylov : BlockKrylov
        Widened in place.
    goal : Goal
    limit : int
        Rank above which the search is not worth its cost.
    slack : float
        Energy that the leading components may lack, as a share of the tail.

    Returns
    -------
    Spectrum or None
        The singular values of the whole space; None if the goal needs a rank above ``limit``.

    Notes
    -----
    After each step, the rank that the goal will need is predicted from the values found. The search stops
    as soon as that exceeds ``limit``. A rank counts as settled when widening the space by a third has not
    changed it. Once it is settled or proven, the search continues until the components themselves have
    converged, as in `leading`.
    """
    converged = Converged(slack)
    settled: tuple[int, int] | None = None  # the current rank, and the width at which it was first found
    spectrum = Spectrum([], krylov.total, min(krylov.m, krylov.n))
    while True:
        krylov.step(PROBE if not krylov.width else _next_block(spectrum, goal))
        spectrum = krylov.spectrum()
        rank, bounds = spectrum.rank_for(goal), rank_bounds(spectrum, goal, exact=False)
        if rank is not None and bounds is not None:
            if settled is None or rank != settled[0]:
                settled = (rank, krylov.width)
            wide = krylov.width >= max(settled[1] * 4 // 3, 2 * rank, PROOF)
            sure = bounds[0] == bounds[1] or wide
            if (converged(spectrum, rank) and sure) or krylov.exhausted:
                return spectrum
        elif krylov.exhausted:
            return None
        # Early values cannot distinguish slow decay from decay that has not begun. At first (see GLANCE),
        # the search stops only if even fast decay would exceed the limit.
        optimistic = krylov.width < min(krylov.m, krylov.n) // GLANCE
        if max(predicted_rank(spectrum, goal, optimistic), krylov.width // 3) > limit:
            return None


def predicted_rank(spectrum: Spectrum, goal: Goal, optimistic: bool = False) -> int:
    """Predict the rank that a goal needs, from the leading values and the exact total.

    Parameters
    ----------
    spectrum : Spectrum
        The values found so far.
    goal : Goal
    optimistic : bool
        Whether to assume geometric decay instead of a power law.

    Returns
    -------
    int

    Notes
    -----
    The values past the middle of the list are assumed to fall as a power of their index, or geometrically
    if ``optimistic``, at the one rate whose energies sum to the energy that is left. The second half of the
    list is not used, because Ritz values there are too low.
    """
    reached = spectrum.rank_for(goal)
    if reached is not None:
        return reached
    known = max(len(spectrum.values) // 2, 1)
    head = spectrum.values[:known]
    index = np.arange(known + 1, spectrum.size + 1)
    left = spectrum.total - float((head**2).sum())
    if not len(index) or head[-1] == 0:
        return spectrum.size
    if optimistic:
        falls = (left / (left + head[-1] ** 2)) ** (index - known)
    else:
        low, high = 0.0, 60.0
        for _ in range(50):
            power = (low + high) / 2
            spent = float(head[-1] ** 2 * ((index / known) ** -power).sum())
            low, high = (power, high) if spent > left else (low, power)
        falls = (index / known) ** -low
    rest = np.sqrt(falls * left / max(float(falls.sum()), 1e-300))
    guess = Spectrum(np.sort(np.concatenate([head, rest]))[::-1])
    return guess.rank_for(goal) or spectrum.size


def _next_block(spectrum: Spectrum, goal: Goal) -> int:
    """Choose the next block: half of the optimistic rank, a multiple of 8 between 32 and 128."""
    half = predicted_rank(spectrum, goal, optimistic=True) // 2
    return int(min(max(32, -(-half // 8) * 8), 128))
