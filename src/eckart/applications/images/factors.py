"""A plane whole, as the factors of its truncated SVD: where rows resemble rows, nothing is smaller."""

from __future__ import annotations

import numpy as np

from eckart.applications.images.entropy import LARGEST, Floats, Ints
from eckart.applications.images.layers import FACTORS, STEP_UNIT, Layer, Session
from eckart.applications.images.planes import PlaneCoder
from eckart.applications.images.quantise import BIT, Chooser
from eckart.errors import ImageError
from eckart.linalg import LowRank, svd

WEIGHT_FRACTION = 30  # weights are whole multiples of 2^-30
PIXEL_SHIFT = 24  # from there to the 2^-6 of decoded planes
HALF = 20  # bits of each half of a weight
EXACT_BELOW = float(1 << 52)  # sums below this are exact in float64
SAMPLE = 96  # rows and columns looked at before a whole plane is factored
MOST = 64  # ranks over this are for blocks


def leading(plane: Floats, error: float) -> LowRank | None:
    """Return the leading factors of a plane, or None where blocks are sure to be better.

    Parameters
    ----------
    plane : ndarray (m, n)
    error : float
        Mean squared error that is aimed at.

    Notes
    -----
    A matrix is no nearer to rank r than its rows and columns are: if a sample of them leaves more than
    ``error`` at a sixteenth of its rank, so does, very likely, the plane.
    """
    rows = plane[:: max(1, len(plane) // SAMPLE), :: max(1, plane.shape[1] // SAMPLE)]
    values = np.linalg.svd(rows, compute_uv=False)
    if float((values[max(1, len(values) // 16) :] ** 2).sum()) > error * rows.size or not plane.any():
        return None
    return svd(plane, rank=min(MOST, *plane.shape))


def predicted_cost(factors: LowRank, step: int) -> float:
    """Return about what factors will cost in error + BIT step^2 bits, without coding them."""
    width = step / STEP_UNIT
    gain = factors.s**2
    return factors.tail + float(np.minimum(gain, BIT * width**2 * _bits(factors, width)).sum())


def _bits(factors: LowRank, width: float) -> Floats:
    """Return about how many bits each term takes, its vectors' entries being Gaussian."""
    s = factors.s
    return np.asarray(sum(0.5 * side * np.log2(1 + 6 * s**2 / (side * width**2)) for side in factors.shape))


def send_factors(session: Session, plane: Floats, factors: LowRank, step: int) -> tuple[Layer, float] | None:
    """Send a plane as factors; return its layer and the squared error it leaves, or None if it cannot be.

    Notes
    -----
    With u and v of length 1, sigma u v^T = (sigma u / step) (step^2 / sigma) (sigma v / step)^T, and an error
    of one unit in an entry of either vector is a squared error of step^2 in the plane: the same price as in
    blocks. The rows are fitted anew, by least squares, to the columns as they were rounded.
    """
    width = step / STEP_UNIT
    s = factors.s
    bits = _bits(factors, width)
    rank = int(np.count_nonzero((s**2 > BIT * width**2 * bits) & (s > width)))
    if not rank:
        return None
    weights = np.rint(np.minimum(width**2 / s[:rank] * (1 << WEIGHT_FRACTION), EXACT_BELOW)).astype(np.int64)
    right = factors.Vh[:rank] * (s[:rank, None] / width)
    if weights.min() < 64 or weights.max() >= 1 << 2 * HALF or np.abs(right).max() >= LARGEST / 2:
        return None
    _send_weights(session, weights)
    Q = _vectors(session, right, rank)
    scaled = weights[:, None] / (1 << WEIGHT_FRACTION) * Q  # (rank, n)
    left = np.asarray(np.linalg.lstsq(scaled @ scaled.T, scaled @ plane.T, rcond=None)[0], np.float64)
    if np.abs(left).max() >= LARGEST / 2:
        return None
    P = _vectors(session, left, rank)
    if not _fits(P, weights, Q):
        return None
    found = P.T @ scaled
    return Layer(FACTORS, 0, rank, step, (0, 0)), float(((found - plane) ** 2).sum())


def receive_factors(session: Session, layer: Layer, shape: tuple[int, int]) -> Ints:
    """Return the plane, in units of 2^-6, exactly: see `blocks.rebuild`."""
    halves = session.coder.raw(np.full(2 * layer.rank, 1 << HALF), None)
    weights = (halves[::2] << HALF) + halves[1::2]
    Q = _vectors(session, None, layer.rank, shape[1])
    P = _vectors(session, None, layer.rank, shape[0])
    if not _fits(P, weights, Q):
        raise ImageError("factors", "numbers are out of range")
    total = (P * weights[:, None]).T.astype(np.float64) @ Q.astype(np.float64)
    return np.floor(total / (1 << PIXEL_SHIFT) + 0.5).astype(np.int64)


def _send_weights(session: Session, weights: Ints) -> None:
    halves = np.stack([weights >> HALF, weights & ((1 << HALF) - 1)], 1).ravel()
    session.coder.raw(np.full(len(halves), 1 << HALF), halves)


def _vectors(session: Session, targets: Floats | None, rank: int, length: int = 0) -> Ints:
    """Send or receive vectors; smooth ones by prediction, which a bit says."""
    length = length if targets is None else targets.shape[1]
    coder = PlaneCoder((1, length), session.factors)
    choose = None if targets is None else Chooser(targets[:, None, :])
    found = np.empty((rank, length), np.int64)
    for k in range(rank):
        smooth = None
        if targets is not None:
            bend = np.abs(np.diff(targets[k], 2)).sum()
            smooth = np.array([int(bend < 0.5 * np.abs(targets[k]).sum())])
        smooth = session.coder.raw(np.array([2]), smooth)
        if smooth[0]:
            found[k] = coder.predicted(session.coder, choose, k)[0]
        else:
            found[k] = coder.plain(session.coder, choose, slice(k, k + 1))[0, 0]
    return found


def _fits(P: Ints, weights: Ints, Q: Ints) -> bool:
    """Whether no sum of products can reach 2^52."""
    largest = np.abs(P).max(1).astype(np.float64) * weights * np.abs(Q).max(1)
    return float(largest.sum()) < EXACT_BELOW
