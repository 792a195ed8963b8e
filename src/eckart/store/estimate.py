"""The cost of a pass, estimated from the headers alone."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from eckart.checkpoint.dtypes import DTYPES
from eckart.store.sources import ALL_KINDS, LORA_KINDS, Source, Sources
from eckart.strictjson import JsonObject

RANKS = (8, 16, 32, 64, 128)


@dataclass(frozen=True)
class Estimate:
    """Cost of a pass, and the sizes of the adapters that can be made from it.

    Parameters
    ----------
    tensors, matrices : int
        Number of tensors in both checkpoints, and of those that can be factored. Each expert counts.
    parameters : int
        Number of entries of the tuned checkpoint that are compared.
    bytes_read : int
        Bytes to read from both checkpoints.
    flops_leading, flops_whole : float
        Operations for rank 32, and for every singular value, as the equivalent in float32 products.
    seconds_leading, seconds_whole : float
        The time that these take on this machine, at the rate that `estimate` measured.
    peak_bytes : int
        Memory for every singular value of the largest matrix.
    adapter_bytes : dict of str to int
        Size by rank, without embedding tables, in the tuned checkpoint's dtype.
    """

    tensors: int
    matrices: int
    parameters: int
    bytes_read: int
    flops_leading: float
    flops_whole: float
    seconds_leading: float
    seconds_whole: float
    peak_bytes: int
    adapter_bytes: dict[str, int]

    def to_json(self) -> JsonObject:
        """Return the estimate as plain data."""
        return asdict(self)


def estimate(sources: Sources) -> Estimate:
    """Estimate a pass from the headers, without reading any tensor.

    Parameters
    ----------
    sources : PairSources or SingleSources
        The checkpoints.

    Returns
    -------
    Estimate
        The cost of a pass on this machine.
    """
    matrices = sources.matrices(ALL_KINDS)
    leading = whole = 0.0
    peak = 0
    for s in matrices:
        m, n = max(s.shape), min(s.shape)
        columns = min(120, n)  # three steps of 40
        leading += 4.0 * m * n * columns
        # As in linalg.decompose: float64 products count double, the tridiagonal reduction fourfold.
        whole += 2.0 * m * n * n + 16 / 3 * n**3 + 1024.0 * n * (m + n)
        peak = max(peak, 4 * m * n + s.nbytes + 2 * 8 * n * n)
    rate = _product_rate()
    return Estimate(
        tensors=len(sources.tensors),
        matrices=len(matrices),
        parameters=sum(s.tuned.size for s in sources.tensors),
        bytes_read=sum(s.nbytes for s in sources.tensors),
        flops_leading=leading,
        flops_whole=whole,
        seconds_leading=leading / rate,
        seconds_whole=whole / rate,
        peak_bytes=peak,
        adapter_bytes={str(rank): _adapter_bytes(sources.matrices(LORA_KINDS), rank) for rank in RANKS},
    )


def _adapter_bytes(matrices: Sequence[Source], rank: int) -> int:
    """Return the size of both factors of every matrix; factors of float8 weights are bfloat16."""
    return sum(min(rank, *s.shape) * sum(s.shape) * max(DTYPES[s.tuned.dtype].itemsize, 2) for s in matrices)


def _product_rate() -> float:
    """Measure the rate of thin float32 products, which dominate a pass, in flops per second."""
    size, width = 1536, 40
    A = np.ones((size, size), np.float32)
    X = np.ones((size, width), np.float32)
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        A @ X
        best = min(best, time.perf_counter() - start)
    return 2.0 * size * size * width / best
