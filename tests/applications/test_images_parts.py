"""The parts of the codec: quality, colour, blocks, the entropy coder, ranks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from eckart.applications.images import psnr, rank_images, ssim
from eckart.applications.images.blocks import (
    BASIS_UNIT,
    COSINE_UNIT,
    SIZES,
    Blocks,
    cosines,
    cut,
    join,
    rebuild,
)
from eckart.applications.images.colour import to_picture, to_planes
from eckart.applications.images.entropy import SYMBOLS, BitCounter, Decoder, Encoder, to_symbols
from eckart.applications.images.planes import PlaneCoder, PlaneTables, steps
from eckart.applications.images.ranks import float16_image
from eckart.applications.images.samples import sample
from eckart.errors import UsageError

# quality


def test_psnr_agrees_with_a_hand_calculation():
    a = np.array([[10, 20], [30, 40]], np.uint8)
    b = np.array([[11, 18], [30, 43]], np.uint8)  # squared errors 1, 4, 0, 9: mean 3.5
    assert psnr(a, b) == pytest.approx(10 * np.log10(65025 / 3.5), rel=1e-14)
    assert psnr(a, a) == float("inf")
    wide = a.astype(np.uint16)
    assert psnr(wide, b.astype(np.uint16)) == pytest.approx(10 * np.log10(65535**2 / 3.5), rel=1e-14)


def test_ssim_agrees_with_a_hand_calculation():
    # Flat pictures have no variance, so only the luminance term of the formula remains.
    a, b = np.full((12, 15), 100, np.uint8), np.full((12, 15), 110, np.uint8)
    c1 = (0.01 * 255) ** 2
    assert ssim(a, b) == pytest.approx((2 * 100 * 110 + c1) / (100**2 + 110**2 + c1), rel=1e-9)
    # A single window, weighted point by point as in the paper.
    random = np.random.default_rng(0)
    x, y = random.integers(0, 256, (2, 11, 11)).astype(np.uint8)
    d = np.arange(11) - 5
    w = np.exp(-(d[:, None] ** 2 + d[None, :] ** 2) / (2 * 1.5**2))
    w /= w.sum()
    mx, my = (w * x).sum(), (w * y).sum()
    vx, vy = (w * (x - mx) ** 2).sum(), (w * (y - my) ** 2).sum()
    both = (w * (x - mx) * (y - my)).sum()
    c2 = (0.03 * 255) ** 2
    by_hand = (2 * mx * my + c1) * (2 * both + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
    assert ssim(x, y) == pytest.approx(by_hand, rel=1e-9)  # E[x^2] - E[x]^2 loses some digits


def test_ssim_agrees_with_scikit_image():
    metrics = pytest.importorskip("skimage.metrics")
    x, y = sample("hills", 64)[..., 0], sample("still", 64)[..., 0]
    theirs = metrics.structural_similarity(
        x, y, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255, full=True
    )[1][5:-5, 5:-5].mean()
    assert ssim(x, y) == pytest.approx(theirs, rel=1e-6)


def test_ssim_is_none_for_small_pictures():
    assert ssim(np.zeros((10, 40), np.uint8), np.zeros((10, 40), np.uint8)) is None


@pytest.mark.parametrize("measure", [psnr, ssim])
def test_pictures_of_different_shape_or_dtype_are_refused(measure):
    a = np.zeros((12, 12), np.uint8)
    for b in (a[:5], a.astype(np.uint16)):
        with pytest.raises(UsageError, match="the same shape and dtype"):
            measure(a, b)
    with pytest.raises(UsageError, match="uint8"):
        measure(a.astype(float), a.astype(float))


@pytest.mark.parametrize("measure", [psnr, ssim])
@pytest.mark.parametrize("shape", [(0, 12), (12, 0), (12, 12, 0)])
def test_empty_pictures_are_refused(measure, shape):
    empty = np.zeros(shape, np.uint8)
    with pytest.raises(UsageError, match="the pictures are empty"):
        measure(empty, empty)


# colour


def test_every_colour_survives_a_round_trip():
    grid = np.arange(0, 256, 15, dtype=np.uint8)
    colours = np.stack(np.meshgrid(grid, grid, grid), -1).reshape(18, -1, 3)
    planes = [np.rint(plane * 64).astype(np.int64) for plane in to_planes(colours)]
    assert (to_picture(planes, 8, 6) == colours).all()


def test_grey_has_no_colour_difference():
    grey = np.repeat(np.arange(256, dtype=np.uint8)[:, None, None], 3, 2)
    y, cb, cr = to_planes(grey)
    assert np.abs(cb).max() < 1e-10 and np.abs(cr).max() < 1e-10
    assert np.abs(y[:, 0] - (np.arange(256) - 128)).max() < 1e-10


# blocks


@pytest.mark.parametrize("size", SIZES)
def test_no_cosine_is_near_a_half_integer(size):
    k, x = np.arange(size)[:, None], np.arange(size)[None, :]
    exact = (
        COSINE_UNIT * np.cos(np.pi * k * (2 * x + 1) / (2 * size)) * np.sqrt(np.where(k == 0, 1, 2) / size)
    )
    assert np.abs(np.abs(exact - np.floor(exact)) - 0.5).min() > 1e-3
    C = cosines(size) / COSINE_UNIT
    assert np.abs(C @ C.T - np.eye(size)).max() < size / COSINE_UNIT


@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from(SIZES))
def test_join_undoes_cut(m, n, size):
    plane = np.arange(m * n, dtype=float).reshape(m, n)
    assert (join(cut(plane, size), (m, n)) == plane).all()


@pytest.mark.parametrize("size", SIZES)
def test_rebuild_undoes_the_transform(size):
    plane = np.random.default_rng(0).normal(0, 40, (48, 32))
    blocks = Blocks(plane, size)
    basis = np.eye(size**2, dtype=np.int64) * BASIS_UNIT
    whole = np.rint(blocks.coordinates * 1024)
    back = join(rebuild(whole, basis, size, blocks.grid), plane.shape) / 64
    # Each cosine is off by 2^-14 at most, in two passes over `size` of them; the final rounding adds 2^-7.
    assert np.abs(back - plane).max() < 2 * 200 * size * 2.0**-14 + 2.0**-7


def test_the_order_of_summation_does_not_matter():
    """Sums of integers below 2^53 are exact in any order."""
    random = np.random.default_rng(1)
    coefficients = np.rint(random.normal(0, 1e8, (50, 64)))
    basis = random.integers(-BASIS_UNIT, BASIS_UNIT, (64, 64))
    shuffled = random.permutation(64)
    a = rebuild(coefficients, basis, 8, (5, 10))
    b = rebuild(coefficients[:, shuffled], basis[shuffled], 8, (5, 10))
    exact = coefficients.astype(np.int64).astype(object) @ basis.astype(object)
    assert (a == b).all()
    assert (coefficients @ basis == exact.astype(float)).all()


# entropy


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (7, 1), (2, 2), (13, 22), (65, 3)])
def test_steps_visit_every_point_once(shape):
    for depth in (1, 3, 6):
        seen = np.zeros(shape, int)
        for where, neighbours in steps(shape, depth):
            assert seen[where].size
            seen[where] += 1
            assert len(neighbours) in (0, 4)
        assert (seen == 1).all()


@settings(max_examples=30)
@given(
    arrays(
        np.int64,
        st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9)),
        elements=st.one_of(st.integers(-3, 3), st.integers(-(2**21) + 1, 2**21 - 1)),
    )
)
def test_integers_survive_a_round_trip(planes):
    def exact_integers(some, points, _probabilities, _contexts, guess):
        exact = planes[some, *points].ravel()
        return exact if guess is None else exact - guess

    # Prediction doubles the range of the numbers; their differences must stay below the largest symbol.
    planes = planes // 4
    counted, written = BitCounter(), Encoder()
    for coder in (counted, written):
        table = PlaneCoder(planes.shape[1:], PlaneTables())
        table.predicted(coder, exact_integers, 0)
        table.plain(coder, exact_integers, slice(0, len(planes)))
    data = written.bytes()
    # The range coder adds two words of 32 bits at the end, and rounds probabilities to 2^-24.
    assert counted.bits - 1 <= 8 * len(data) <= 1.01 * counted.bits + 72
    table, coder = PlaneCoder(planes.shape[1:], PlaneTables()), Decoder(data)
    assert (table.predicted(coder, None, 0) == planes[0]).all()
    assert (table.plain(coder, None, slice(0, len(planes))) == planes).all()


def test_magnitudes_map_to_symbols():
    assert to_symbols(np.array([0, -15, 16, 31, 32, 2**21 - 1])).tolist() == [0, 15, 16, 16, 17, SYMBOLS - 1]


# ranks


def test_rank_images_agree_with_numpy():
    """A 100 x 80 picture at rank 5 takes 905 numbers instead of 8,000, or 11.3 %."""
    picture = sample("hills", 100)[:, :80, 0]
    (five,) = rank_images(picture, [5])
    assert (five.numbers, round(five.share, 4)) == (905, 0.1131)
    U, s, Vh = np.linalg.svd(picture.astype(float))
    best = (U[:, :5] * s[:5]) @ Vh[:5]
    assert five.error == pytest.approx(np.linalg.norm(picture - best) / np.linalg.norm(picture), rel=1e-10)
    assert five.energy == pytest.approx((s[:5] ** 2).sum() / (s**2).sum(), rel=1e-12)
    # Two LAPACK builds may round a pixel near a half-integer differently.
    assert (five.picture != np.clip(np.rint(best), 0, 255)).mean() < 1e-3


def test_full_rank_reproduces_a_colour_picture():
    picture = sample("still", 40)
    low, full = rank_images(picture, [3, 1000])
    assert low.numbers == 3 * 3 * 81 and low.picture.shape == picture.shape
    assert full.rank == 40 and (full.picture == picture).all() and full.psnr == float("inf")
    assert full.error == pytest.approx(0, abs=1e-12) and full.share > 1


def test_invalid_ranks_are_refused():
    with pytest.raises(UsageError, match="at least one rank"):
        rank_images(sample("still", 16), [])
    with pytest.raises(UsageError, match="rank=0"):
        rank_images(sample("still", 16), [0])


def test_float16_image_uses_the_largest_rank_that_fits():
    picture = sample("still", 64)
    rounded, needed = float16_image(picture, 5000)
    assert needed == 2 * 3 * 6 * 128 <= 5000 < 2 * 3 * 7 * 128
    exact = rank_images(picture, [6])[0].picture
    # float16 has 11 bits, so a pixel changes by about 255 * 2^-12 = 0.06 and rarely rounds to another level.
    # 64.3 dB was measured: one pixel in 40 differs by one level.
    assert psnr(exact, rounded) > 60


def test_samples_are_reproducible():
    assert (sample("cloth", 32) == sample("cloth", 32)).all()
    assert (sample("cloth", 32) != sample("cloth", 32, seed=2)).any()
