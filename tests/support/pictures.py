"""The pictures for the tests of images: every kind, shape and bit depth that a user may have."""

from __future__ import annotations

import numpy as np

from eckart.applications.images.samples import SAMPLES, sample


def grey(name: str, size: int = 96) -> np.ndarray:
    """Return the green channel of a sample."""
    return np.ascontiguousarray(sample(name, size)[..., 1])


def alpha(picture: np.ndarray) -> np.ndarray:
    """Return a picture with a soft disc as its alpha channel."""
    m, n = picture.shape[:2]
    y, x = np.mgrid[0:m, 0:n]
    disc = np.clip(255 * (1.5 - 3 * np.hypot(y / m - 0.5, x / n - 0.5)), 0, 255).astype(picture.dtype)
    planes = picture if picture.ndim == 3 else picture[..., None]
    return np.concatenate([planes, disc[..., None]], -1)


def wide(picture: np.ndarray) -> np.ndarray:
    """Return a picture in 16 bits whose low bits are not a copy of the high ones."""
    y = np.arange(picture.shape[0])[:, None]
    extra = (37 * y) % 257
    base = picture.astype(np.int64) * 256 + (extra if picture.ndim == 2 else extra[..., None])
    return np.clip(base, 0, 65535).astype(np.uint16)


PICTURES: dict[str, np.ndarray] = {
    **{name: sample(name, 64) for name in SAMPLES},
    "grey": grey("still"),
    "grey, third axis": grey("still", 40)[..., None],
    "grey and alpha": alpha(grey("hills", 64)),
    "colour and alpha": alpha(sample("still", 48)),
    "16 bits grey": wide(grey("hills", 64)),
    "16 bits colour": wide(sample("still", 48)),
    "not a multiple of any block": sample("hills", 96)[:37, :83],
    "one pixel": np.array([[[200, 10, 90]]], np.uint8),
    "one grey pixel": np.array([[7]], np.uint8),
    "one row": grey("hills")[40:41],
    "one column": sample("hills", 96)[:, 30:31],
    "two rows": grey("hills")[40:42],
    "black": np.zeros((40, 50), np.uint8),
    "white": np.full((33, 17, 3), 255, np.uint8),
    "noise": np.random.default_rng(3).integers(0, 256, (24, 20, 3)).astype(np.uint8),
    "checks": (255 * (np.indices((50, 60)).sum(0) % 2)).astype(np.uint8),
    "strided": sample("still", 96)[::2, ::-3],
}
