"""Integers to bits and back: one loop for both ways, over adaptive tables and a range coder.

The bits are made by constriction's range coder. What this file adds is the model: which table of
frequencies a number is coded with (`contexts`), and how the tables learn from what was coded before, so that
none of them has to be sent.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from eckart.errors import MissingExtraError

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

EXACT = 16  # magnitudes below this are symbols of their own
LARGEST = 1 << 21  # no magnitude reaches this: steps are never that fine
SYMBOLS = EXACT + 17  # then one symbol to an octave, 2^4 to 2^20, and the rest of the bits as they are
GAIN = 32  # what one symbol adds to its count
MOST = 1 << 13  # counts are halved when a table's sum passes this: the past is forgotten


def constriction() -> Any:
    """Return the library, or say which extra to install."""
    try:
        import constriction as library
    except ImportError:
        raise MissingExtraError(
            "eckart.applications.images", "constriction, which codes the bits, is not installed",
            "Run pip install 'eckart[images]'",
        ) from None  # fmt: skip
    return library


class Coder(Protocol):
    """What takes symbols with their tables, or gives them back."""

    def symbols(self, tables: Floats, which: Ints, values: Ints | None) -> Ints: ...
    def raw(self, sizes: Ints, values: Ints | None) -> Ints: ...


class Encoder:
    """Writes bits."""

    def __init__(self) -> None:
        stream = constriction().stream
        self._coder = stream.queue.RangeEncoder()
        self._model = stream.model.Categorical(perfect=False)
        self._uniform = stream.model.Uniform()

    def symbols(self, tables: Floats, which: Ints, values: Ints | None) -> Ints:
        assert values is not None
        self._coder.encode(values.astype(np.int32), self._model, tables[which])
        return values

    def raw(self, sizes: Ints, values: Ints | None) -> Ints:
        assert values is not None
        self._coder.encode(values.astype(np.int32), self._uniform, sizes.astype(np.int32))
        return values

    def bytes(self) -> bytes:
        """Return what was written, in little-endian words."""
        return bytes(self._coder.get_compressed().astype("<u4").tobytes())


class Decoder:
    """Reads bits."""

    def __init__(self, data: bytes) -> None:
        stream = constriction().stream
        self._coder = stream.queue.RangeDecoder(np.frombuffer(data, "<u4").astype(np.uint32))
        self._model = stream.model.Categorical(perfect=False)
        self._uniform = stream.model.Uniform()

    def symbols(self, tables: Floats, which: Ints, values: Ints | None) -> Ints:
        return np.asarray(self._coder.decode(self._model, tables[which]), np.int64)

    def raw(self, sizes: Ints, values: Ints | None) -> Ints:
        return np.asarray(self._coder.decode(self._uniform, sizes.astype(np.int32)), np.int64)


class Counter:
    """Writes nothing and counts the bits it would have written."""

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
    """Frequencies of symbols, one table to a context, which learn as symbols pass.

    Integers throughout, so that both ends learn the same.
    """

    def __init__(self, means: Floats) -> None:
        ratio = (means / (1 + means))[:, None]  # a geometric distribution of this mean to begin with
        falling = np.cumprod(np.broadcast_to(ratio, (len(means), SYMBOLS)), axis=1)
        self.counts: Ints = 1 + np.floor(4 * GAIN * falling * (1 - ratio) / ratio).astype(np.int64)
        self.counts[:, EXACT:] = 1

    def frequencies(self) -> Floats:
        """Return the tables as probabilities, (contexts, symbols)."""
        return np.asarray(self.counts / self.counts.sum(1, keepdims=True))

    def learn(self, contexts: Ints, symbols: Ints) -> None:
        """Count what was coded."""
        seen = np.bincount(contexts * SYMBOLS + symbols, minlength=self.counts.size)
        self.counts += GAIN * seen.reshape(self.counts.shape)
        full = np.flatnonzero(self.counts.sum(1) > MOST)
        while len(full):
            self.counts[full] = (self.counts[full] + 1) >> 1
            full = full[self.counts[full].sum(1) > MOST]


def to_symbols(values: Ints) -> Ints:
    """Return the symbol of each magnitude: itself, or its octave."""
    magnitudes = np.abs(values)
    if not magnitudes.size or int(magnitudes.max()) < EXACT:
        return magnitudes
    octave = np.frexp(magnitudes.astype(np.float64))[1].astype(np.int64) - 1
    return np.where(magnitudes < EXACT, magnitudes, EXACT + octave - 4)


def code(coder: Coder, tables: Tables, probabilities: Floats, contexts: Ints, values: Ints | None) -> Ints:
    """Send integers, or receive them: a symbol each, then what symbols leave open, then signs."""
    symbols = None if values is None else to_symbols(values)
    symbols = coder.symbols(probabilities, contexts, symbols)
    tables.learn(contexts, symbols)
    magnitudes = symbols.copy()
    large = symbols >= EXACT
    if large.any():
        floor = np.int64(1) << (symbols[large] - EXACT + 4)
        rest = None if values is None else np.abs(values[large]) - floor
        magnitudes[large] = floor + coder.raw(floor, rest)
    some = magnitudes > 0
    if not some.any():
        return magnitudes
    signs = None if values is None else (values[some] < 0).astype(np.int64)
    signs = coder.raw(np.full(int(some.sum()), 2), signs)
    magnitudes[some] *= 1 - 2 * signs
    return magnitudes
