"""Generated pictures for measurements, which anyone can reproduce."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from eckart.arrays import Floats


def sample(name: str, size: int = 256, seed: int = 1) -> NDArray[np.uint8]:
    """Return a generated picture.

    Parameters
    ----------
    name : {"hills", "still", "cloth", "page", "glow"}
        ``hills``: fractal mountains under a sky, with sensor noise. ``still``: shaded balls on a textured
        table, with shadows and sharp edges. ``cloth``: slanted threads under uneven light. ``page``: dark
        strokes on paper and a chart in flat colours. ``glow``: smooth light that is a sum of a few products
        of rows and columns, which real pictures rarely are.
    size : int
        Rows and columns.
    seed : int
        Random seed; each seed gives another picture of the same kind.

    Returns
    -------
    ndarray (size, size, 3), uint8
        The picture in R, G, B.

    Notes
    -----
    These are not photographs. Their spectra fall as those of photographs do (amplitude proportional to 1/f),
    which is what a transform codec exploits, but they lack the variety of real scenes.

    Examples
    --------
    >>> sample("hills", 64).shape
    (64, 64, 3)
    """
    light = SAMPLES[name](size, np.random.default_rng(seed))
    return np.clip(np.rint(255 * light), 0, 255).astype(np.uint8)


def _axes(size: int) -> tuple[Floats, Floats]:
    line = (np.arange(size) + 0.5) / size
    return line[:, None] * np.ones(size), np.ones((size, 1)) * line


def _fractal(size: int, slope: float, random: np.random.Generator) -> Floats:
    """Return noise with an amplitude of frequency to the power -``slope``, mean 0 and deviation 1."""
    f = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None, :])
    f[0, 0] = 1.0
    wave = np.fft.rfft2(random.standard_normal((size, size))) / f**slope
    wave[0, 0] = 0.0
    field = np.fft.irfft2(wave, (size, size))
    return np.asarray(field / field.std())


def _mix(mask: Floats, a: Floats, b: Floats) -> Floats:
    return mask[..., None] * a + (1 - mask[..., None]) * b


def _step(x: Floats, size: int) -> Floats:
    """Return a soft edge, about a pixel wide."""
    return 1 / (1 + np.exp(-np.clip(2.5 * size * x, -60, 60)))


def _hills(size: int, random: np.random.Generator) -> Floats:
    y, _ = _axes(size)
    cloud = _fractal(size, 1.6, random)[..., None]
    picture = np.stack([0.45 + 0.35 * y, 0.6 + 0.25 * y, 0.85 + 0.05 * y], -1) + 0.05 * cloud
    for depth in range(4):
        ridge = np.cumsum(random.standard_normal(size))
        ridge = 0.25 + 0.15 * depth + 0.06 * (ridge - ridge.mean()) / ridge.std()
        ground = 0.12 * _fractal(size, 1.1, random) + 0.08 * _fractal(size, 1.6, random)
        haze = 0.75 - 0.2 * depth
        colour = np.array([0.30, 0.38 + 0.03 * depth, 0.20]) * (1 + ground[..., None])
        colour = haze * np.array([0.62, 0.70, 0.80]) + (1 - haze) * 1.3 * colour
        picture = _mix(_step(y - ridge[None, :], size), colour, picture)
    return picture + 0.008 * random.standard_normal((size, size, 3))


def _still(size: int, random: np.random.Generator) -> Floats:
    y, x = _axes(size)
    wood = _fractal(size, 1.2, random) + np.sin(60 * y + 4 * _fractal(size, 2.0, random))
    table = np.array([0.55, 0.40, 0.26]) * (1 + 0.12 * wood[..., None])
    wall = (
        np.array([0.72, 0.70, 0.66]) * (1.1 - 0.5 * x[..., None])
        + 0.01 * _fractal(size, 1, random)[..., None]
    )
    picture = _mix(_step(y - 0.45, size), table, wall)
    for _ in range(6):
        cy, cx, r = 0.4 + 0.4 * random.random(), 0.1 + 0.8 * random.random(), 0.06 + 0.12 * random.random()
        shade = np.exp(-(((y - cy - 0.9 * r) / (0.5 * r)) ** 2) - ((x - cx - 0.4 * r) / (1.4 * r)) ** 2)
        picture = picture * (1 - 0.55 * shade[..., None])
        dy, dx = (y - cy) / r, (x - cx) / r
        dz = np.sqrt(np.clip(1 - dy**2 - dx**2, 0, None))
        facing = np.clip(-0.5 * dy - 0.5 * dx + 0.7 * dz, 0, 1)
        skin = 1 + 0.1 * _fractal(size, 1.2, random)
        ball = random.random(3) * (0.15 + 0.85 * facing * skin)[..., None] + (facing**40)[..., None]
        picture = _mix(_step(r - np.hypot(y - cy, x - cx), size), ball, picture)
    return picture + 0.006 * random.standard_normal((size, size, 3))


def _cloth(size: int, random: np.random.Generator) -> Floats:
    y, x = _axes(size)
    bend = 0.02 * _fractal(size, 2.2, random)
    along, across = x + 0.6 * y + bend, y - 0.6 * x + bend
    turns = size / 7
    threads = np.maximum(np.sin(2 * np.pi * turns * along), np.sin(2 * np.pi * turns * across) - 0.3)
    light = 0.75 + 0.15 * _fractal(size, 2.2, random) + 0.04 * _fractal(size, 0.7, random)
    colour = np.where(np.sin(2 * np.pi * 5 * along)[..., None] > 0.4, [0.62, 0.2, 0.22], [0.25, 0.3, 0.5])
    return colour * (light * (1 + 0.25 * threads))[..., None]


def _page(size: int, random: np.random.Generator) -> Floats:
    y, x = _axes(size)
    paper = 0.94 - 0.05 * x + 0.004 * random.standard_normal((size, size))
    picture = paper[..., None] * np.array([1.0, 0.99, 0.95])
    unit = 8.0 / size
    for line in range(size // 20):
        top = (20 * line + 8) / size
        for letter in range(int(0.8 / unit)):
            if random.random() < 0.15 or (0.35 < top < 0.75 and letter * unit > 0.35):
                continue
            ink = np.full((size, size), -1.0)
            left = 0.08 + letter * unit
            rows = slice(int(top * size) - 1, int(top * size) + 12)
            columns = slice(max(int(left * size) - 1, 0), int(left * size) + 10)
            ys, xs = y[rows, columns] - top, x[rows, columns] - left
            for _ in range(3):
                a, b = random.random(2) * [10, 6] / size, random.random(2) * [10, 6] / size
                d = b - a
                t = np.clip(((ys - a[0]) * d[0] + (xs - a[1]) * d[1]) / (d @ d + 1e-9), 0, 1)
                near = 0.7 / size - np.hypot(ys - a[0] - t * d[0], xs - a[1] - t * d[1])
                ink[rows, columns] = np.maximum(ink[rows, columns], near)
            picture[rows, columns] = _mix(
                _step(ink[rows, columns], size), np.array([0.1, 0.1, 0.14]), picture[rows, columns]
            )
    for i in range(5):
        inside = np.minimum(
            np.minimum(x - 0.45 - 0.09 * i, 0.52 + 0.09 * i - x), np.minimum(0.72 - y, y - 0.66 + 0.05 * i)
        )
        picture = _mix(
            _step(inside, size),
            np.array(
                [[0.8, 0.2, 0.1], [0.1, 0.5, 0.7], [0.95, 0.75, 0.1], [0.2, 0.6, 0.3], [0.4, 0.2, 0.6]][i]
            ),
            picture,
        )
    return np.asarray(picture)


def _glow(size: int, random: np.random.Generator) -> Floats:
    y, x = _axes(size)
    a, b = random.random((3, 2)), random.random((3, 2))
    return np.stack(
        [
            0.5
            + 0.3 * np.sin(3 * y + 6 * p[0]) * np.cos(3 * x + 6 * q[0])
            + 0.15 * np.cos(9 * y + p[1]) * np.sin(7 * x + q[1])
            for p, q in zip(a, b, strict=True)
        ],
        -1,
    )


SAMPLES: dict[str, Callable[[int, np.random.Generator], Floats]] = {
    "hills": _hills,
    "still": _still,
    "cloth": _cloth,
    "page": _page,
    "glow": _glow,
}
