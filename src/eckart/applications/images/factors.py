"""Coding of a plane as the factors of its truncated SVD, the smallest form where rows resemble each other."""

from __future__ import annotations

import numpy as np

from eckart.applications.images.entropy import MAGNITUDE_LIMIT
from eckart.applications.images.layers import STEP_UNIT, Layer, LayerKind, Session
from eckart.applications.images.planes import PlaneCoder
from eckart.applications.images.quantise import BIT_PRICE, RateDistortionChooser
from eckart.arrays import Floats, Ints
from eckart.errors import ImageError
from eckart.linalg import LowRank, svd

WEIGHT_FRACTION = 30  # weights are integer multiples of 2^-30
PIXEL_SHIFT = 24  # from 2^-30 to the 2^-6 of decoded planes
HALF_BITS = 20  # bits of each half of a weight
EXACT_BELOW = float(1 << 52)  # sums below this are exact in float64
SAMPLE_SIDE = 96  # rows and columns sampled before a whole plane is factored
MAX_FACTOR_RANK = 64  # above this rank, blocks are smaller


def leading(plane: Floats, error: float) -> LowRank | None:
    """Return the leading factors of a plane, or None where blocks are almost certainly smaller.

    Parameters
    ----------
    plane : ndarray (m, n)
        The plane.
    error : float
        Target for the mean squared error.

    Notes
    -----
    A matrix is at least as far from rank r as any of its submatrices. If a sample of its rows and columns has
    a mean squared error above ``error`` at a sixteenth of its full rank, so, very likely, has the plane.
    """
    sample = plane[:: max(1, len(plane) // SAMPLE_SIDE), :: max(1, plane.shape[1] // SAMPLE_SIDE)]
    values = np.linalg.svd(sample, compute_uv=False)
    sample_error = float((values[max(1, len(values) // 16) :] ** 2).sum())
    if sample_error > error * sample.size or not plane.any():
        return None
    return svd(plane, rank=min(MAX_FACTOR_RANK, *plane.shape))


def predicted_cost(factors: LowRank, step: int) -> float:
    """Return the approximate cost of factors, error + BIT_PRICE step^2 bits, without coding them."""
    width = step / STEP_UNIT
    gain = factors.s**2
    return factors.tail + float(np.minimum(gain, BIT_PRICE * width**2 * _bits(factors, width)).sum())


def _bits(factors: LowRank, width: float) -> Floats:
    """Return the approximate number of bits for each term, assuming Gaussian entries."""
    s = factors.s
    return np.asarray(sum(0.5 * side * np.log2(1 + 6 * s**2 / (side * width**2)) for side in factors.shape))


def encode_factors(
    session: Session, plane: Floats, factors: LowRank, step: int
) -> tuple[Layer, float] | None:
    """Encode a plane as factors. Return its header entry and squared error, or None where they do not fit.

    Notes
    -----
    With u and v of length 1, sigma u v^T = (sigma u / step) (step^2 / sigma) (sigma v / step)^T. An error of
    one unit in an entry of either vector is then a squared error of step^2 in the plane, the same price as in
    blocks. The left vectors are fitted again, by least squares, to the rounded right vectors.
    """
    width = step / STEP_UNIT
    s = factors.s
    bits = _bits(factors, width)
    rank = int(np.count_nonzero((s**2 > BIT_PRICE * width**2 * bits) & (s > width)))
    if not rank:
        return None
    weights = np.rint(np.minimum(width**2 / s[:rank] * (1 << WEIGHT_FRACTION), EXACT_BELOW)).astype(np.int64)
    right = factors.Vh[:rank] * (s[:rank, None] / width)
    if (
        weights.min() < 64
        or weights.max() >= 1 << 2 * HALF_BITS
        or np.abs(right).max() >= MAGNITUDE_LIMIT / 2
    ):
        return None
    _encode_weights(session, weights)
    Q = _vectors(session, right, rank)
    scaled = weights[:, None] / (1 << WEIGHT_FRACTION) * Q  # (rank, n)
    left = np.asarray(np.linalg.lstsq(scaled @ scaled.T, scaled @ plane.T, rcond=None)[0], np.float64)
    if np.abs(left).max() >= MAGNITUDE_LIMIT / 2:
        return None
    P = _vectors(session, left, rank)
    if not _fits(P, weights, Q):
        return None
    error = float(((P.T @ scaled - plane) ** 2).sum())
    return Layer(LayerKind.FACTORS, 0, rank, step, (0, 0)), error


def decode_factors(session: Session, layer: Layer, shape: tuple[int, int]) -> Ints:
    """Decode a plane of factors, in units of 2^-6; exact for the reason given in `blocks.rebuild`."""
    halves = session.coder.raw(np.full(2 * layer.rank, 1 << HALF_BITS), None)
    weights = (halves[::2] << HALF_BITS) + halves[1::2]
    Q = _vectors(session, None, layer.rank, shape[1])
    P = _vectors(session, None, layer.rank, shape[0])
    if not _fits(P, weights, Q):
        raise ImageError("factors", "the numbers are out of range")
    total = (P * weights[:, None]).T.astype(np.float64) @ Q.astype(np.float64)
    return np.floor(total / (1 << PIXEL_SHIFT) + 0.5).astype(np.int64)


def _encode_weights(session: Session, weights: Ints) -> None:
    halves = np.stack([weights >> HALF_BITS, weights & ((1 << HALF_BITS) - 1)], 1).ravel()
    session.coder.raw(np.full(len(halves), 1 << HALF_BITS), halves)


def _vectors(session: Session, targets: Floats | None, rank: int, length: int = 0) -> Ints:
    """Encode or decode vectors. One bit each says whether the vector is smooth and coded by prediction."""
    length = length if targets is None else targets.shape[1]
    coder = PlaneCoder((1, length), session.factors)
    choose = None if targets is None else RateDistortionChooser(targets[:, None, :])
    vectors = np.empty((rank, length), np.int64)
    for k in range(rank):
        smooth = None
        if targets is not None:
            curvature = np.abs(np.diff(targets[k], 2)).sum()
            smooth = np.array([int(curvature < 0.5 * np.abs(targets[k]).sum())])
        smooth = session.coder.raw(np.array([2]), smooth)
        if smooth[0]:
            vectors[k] = coder.predicted(session.coder, choose, k)[0]
        else:
            vectors[k] = coder.plain(session.coder, choose, slice(k, k + 1))[0, 0]
    return vectors


def _fits(P: Ints, weights: Ints, Q: Ints) -> bool:
    """Whether every sum of products stays below 2^52."""
    largest = np.abs(P).max(1).astype(np.float64) * weights * np.abs(Q).max(1)
    return float(largest.sum()) < EXACT_BELOW
