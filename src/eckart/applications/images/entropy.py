"""Entropy coding of integers with a range coder and adaptive frequency tables.

constriction's range coder writes the bits. This file adds the model: which table of frequencies a number is
coded with (its context), and how the tables adapt to the numbers coded before, which is why the file need not
contain them. Encoding and decoding share one code path: a function whose ``values`` argument is None decodes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from types import ModuleType
from typing import Protocol

import numpy as np

from eckart.arrays import Floats, Ints
from eckart.extras import missing_extra

DIRECT = 16  # each magnitude below this has its own symbol
MAGNITUDE_LIMIT = 1 << 21  # every magnitude is below this: no step is fine enough to reach it
SYMBOLS = DIRECT + 17  # above DIRECT, one symbol per octave, 2^4 to 2^20, followed by the lower bits
GAIN = 32  # the amount one symbol adds to its count
COUNT_LIMIT = 1 << 13  # counts are halved when the sum of a table exceeds this, to discount the past
# No symbol costs fewer bits than this, because every other symbol keeps a count of at least 1. The factor
# allows for the probabilities that the coder rounds to 24 bits.
LEAST_BITS = -0.99 * math.log2(1 - (SYMBOLS - 1) / COUNT_LIMIT)
BATCH = 1 << 16  # symbols that are passed to the coder at once; each takes the memory of a table


def constriction() -> ModuleType:
    """Import and return constriction; raises `MissingExtraError` if it is not installed."""
    try:
        import constriction as library
    except ImportError:
        raise missing_extra(
            "eckart.applications.images", "constriction, the entropy coder, is not installed", "images"
        ) from None
    assert isinstance(library, ModuleType)
    return library


class Coder(Protocol):
    """Encodes integers, or decodes them: then ``values`` is None. Both methods return the integers."""

    def symbols(self, tables: Floats, which: Ints, values: Ints | None) -> Ints:
        """Code symbols, each with the row of ``tables`` at its index in ``which``."""
        ...

    def raw(self, sizes: Ints, values: Ints | None) -> Ints:
        """Code integers that are uniform on [0, size)."""
        ...


class Encoder:
    """A `Coder` that writes bits."""

    def __init__(self) -> None:
        stream = constriction().stream
        self._coder = stream.queue.RangeEncoder()
        self._model = stream.model.Categorical(perfect=False)
        self._uniform = stream.model.Uniform()

    def symbols(self, tables: Floats, which: Ints, values: Ints | None) -> Ints:
        assert values is not None
        for part in _batches(len(which)):
            self._coder.encode(values[part].astype(np.int32), self._model, tables[which[part]])
        return values

    def raw(self, sizes: Ints, values: Ints | None) -> Ints:
        assert values is not None
        self._coder.encode(values.astype(np.int32), self._uniform, sizes.astype(np.int32))
        return values

    def bytes(self) -> bytes:
        """Return the encoded data as little-endian 32-bit words."""
        return bytes(self._coder.get_compressed().astype("<u4").tobytes())


class Decoder:
    """A `Coder` that reads bits."""

    def __init__(self, data: bytes) -> None:
        stream = constriction().stream
        self._coder = stream.queue.RangeDecoder(np.frombuffer(data, "<u4").astype(np.uint32))
        self._model = stream.model.Categorical(perfect=False)
        self._uniform = stream.model.Uniform()

    def symbols(self, tables: Floats, which: Ints, values: Ints | None) -> Ints:
        symbols = np.empty(len(which), np.int64)
        for part in _batches(len(which)):
            symbols[part] = self._coder.decode(self._model, tables[which[part]])
        return symbols

    def raw(self, sizes: Ints, values: Ints | None) -> Ints:
        return np.asarray(self._coder.decode(self._uniform, sizes.astype(np.int32)), np.int64)


def _batches(symbols: int) -> Iterator[slice]:
    for start in range(0, symbols, BATCH):
        yield slice(start, min(start + BATCH, symbols))


class BitCounter:
    """A `Coder` that writes nothing and counts the bits an encoder would write."""

    def __init__(self) -> None:
        self.bits = 0.0

    def symbols(self, tables: Floats, which: Ints, values: Ints | None) -> Ints:
        assert values is not None
        self.bits -= float(np.log2(tables[which, values]).sum())
        return values

    def raw(self, sizes: Ints, values: Ints | None) -> Ints:
        assert values is not None
        self.bits += float(np.log2(sizes).sum())
        return values


class Tables:
    """Adaptive frequencies of symbols, one table per context.

    The counts are integers, so the encoder and the decoder always have the same tables.

    Parameters
    ----------
    means : ndarray (contexts,)
        Expected magnitude in each context. The tables start as geometric distributions with these means.
    """

    def __init__(self, means: Floats) -> None:
        ratio = (means / (1 + means))[:, None]
        falling = np.cumprod(np.broadcast_to(ratio, (len(means), SYMBOLS)), axis=1)
        self.counts: Ints = 1 + np.floor(4 * GAIN * falling * (1 - ratio) / ratio).astype(np.int64)
        self.counts[:, DIRECT:] = 1

    def frequencies(self) -> Floats:
        """Return the tables as probabilities, (contexts, symbols)."""
        return np.asarray(self.counts / self.counts.sum(1, keepdims=True))

    def learn(self, contexts: Ints, symbols: Ints) -> None:
        """Add coded symbols to the counts of their contexts."""
        seen = np.bincount(contexts * SYMBOLS + symbols, minlength=self.counts.size)
        self.counts += GAIN * seen.reshape(self.counts.shape)
        full = np.flatnonzero(self.counts.sum(1) > COUNT_LIMIT)
        while len(full):
            self.counts[full] = (self.counts[full] + 1) >> 1
            full = full[self.counts[full].sum(1) > COUNT_LIMIT]


def to_symbols(values: Ints) -> Ints:
    """Return the symbol for each magnitude: the magnitude itself, or its octave."""
    magnitudes = np.abs(values)
    if not magnitudes.size or int(magnitudes.max()) < DIRECT:
        return magnitudes
    octave = np.frexp(magnitudes.astype(np.float64))[1].astype(np.int64) - 1
    return np.where(magnitudes < DIRECT, magnitudes, DIRECT + octave - 4)


def code(coder: Coder, tables: Tables, probabilities: Floats, contexts: Ints, values: Ints | None) -> Ints:
    """Encode or decode integers: a symbol for each, then the lower bits of large ones, then the signs.

    Parameters
    ----------
    coder : Coder
        The encoder or decoder.
    tables : Tables
        Adapted to the coded symbols.
    probabilities : ndarray (contexts, symbols)
        The frequencies of ``tables`` before these integers.
    contexts : ndarray (n,)
        The context of each integer.
    values : ndarray (n,), optional
        The integers to encode; None to decode.

    Returns
    -------
    ndarray (n,)
        The integers.
    """
    symbols = None if values is None else to_symbols(values)
    symbols = coder.symbols(probabilities, contexts, symbols)
    tables.learn(contexts, symbols)
    magnitudes = symbols.copy()
    large = symbols >= DIRECT
    if large.any():
        floor = np.int64(1) << (symbols[large] - DIRECT + 4)
        rest = None if values is None else np.abs(values[large]) - floor
        magnitudes[large] = floor + coder.raw(floor, rest)
    nonzero = magnitudes > 0
    if not nonzero.any():
        return magnitudes
    signs = None if values is None else (values[nonzero] < 0).astype(np.int64)
    signs = coder.raw(np.full(int(nonzero.sum()), 2), signs)
    magnitudes[nonzero] *= 1 - 2 * signs
    return magnitudes
