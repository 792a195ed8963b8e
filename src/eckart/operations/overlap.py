"""Overlap between several adapters' updates of the same module: angles and cosines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from eckart.adapter.adapter import Adapter, Module
from eckart.arrays import Array, Floats
from eckart.linalg.routes.tall import Tall
from eckart.linalg.routes.triangle import inverse_root
from eckart.parallel import map_unordered


@dataclass(frozen=True)
class Overlap:
    """The overlap of two adapters' updates of one module.

    Parameters
    ----------
    name : str
        The module.
    first, second : int
        Positions of the two adapters.
    left, right : float
        Mean cos^2 of the principal angles between the column spaces of the two updates (what they write to),
        and between their row spaces (what they read from). It is 1 if one space contains the other and 0 if
        they are orthogonal. For two random spaces of dimension r in d dimensions it is about r / d.
    cosine : float
        Cosine of the two updates as vectors, <D_1, D_2> / (|D_1| |D_2|).
    """

    name: str
    first: int
    second: int
    left: float
    right: float
    cosine: float


def overlaps(adapters: Sequence[Adapter], workers: int | None = None) -> list[Overlap]:
    """Measure how far adapters overlap, for every pair of adapters and every module that both update.

    Parameters
    ----------
    adapters : sequence of Adapter
        Two or more adapters of one base.
    workers : int, optional
        Modules in work at once; one per core by default.

    Returns
    -------
    list of Overlap
        Ordered by adapters, then by modules.

    Notes
    -----
    With orthonormal bases Q of the factors, the cosines of the principal angles are the singular values of
    Q_1^T Q_2 (Bjorck and Golub, 1973, equation 6), and the sum of their squares is the squared Frobenius norm
    of Q_1^T Q_2. The mean is over as many angles as the smaller space has dimensions. With Q = F W,
    Q_1^T Q_2 = W_1^T (F_1^T F_2) W_2, so one Gram matrix of all factors side by side serves every pair of
    adapters: (m + n)(sum of ranks)^2 flops a module, in float64. Only factors with dependent columns need an
    SVD.
    """
    names = dict.fromkeys(name for adapter in adapters for name in adapter.modules)
    shared = [name for name in names if sum(name in adapter.modules for adapter in adapters) > 1]

    def work(name: str) -> list[Overlap]:
        of_module = _of_module(name, adapters)
        for adapter in adapters:
            adapter.release()
        return of_module

    measured = [overlap for of_module in map_unordered(work, shared, workers) for overlap in of_module]
    position = {name: i for i, name in enumerate(names)}
    return sorted(measured, key=lambda overlap: (overlap.second, overlap.first, position[overlap.name]))


def _of_module(name: str, adapters: Sequence[Adapter]) -> list[Overlap]:
    """Return the overlaps of every pair of adapters that update a module."""
    places = [place for place, adapter in enumerate(adapters) if name in adapter.modules]
    kind = adapters[places[0]].modules[name].kind
    modules = [adapters[place].modules[name].as_kind(kind) for place in places]
    left, right = _Spaces([m.left for m in modules]), _Spaces([m.right.T for m in modules])
    inner = _inner_products(modules, left, right)
    return [
        Overlap(name, places[i], places[j], left.shared(i, j), right.shared(i, j), _cosine(inner, i, j))
        for j in range(len(modules))
        for i in range(j)
    ]


def _inner_products(modules: Sequence[Module], left: _Spaces, right: _Spaces) -> Floats:
    """Return the inner products <D_i, D_j> of all updates."""
    count = len(modules)
    products = np.empty((count, count))
    for i in range(count):
        for j in range(count):
            pair = left.gram(i, j) * right.gram(i, j)
            products[i, j] = modules[i].scale * modules[j].scale * pair.sum()
    return products


def _cosine(inner: Floats, i: int, j: int) -> float:
    """Return the cosine of two updates; 0 if one of them is zero."""
    norms = np.sqrt(inner[i, i]) * np.sqrt(inner[j, j])
    return float(np.clip(inner[i, j] / norms, -1, 1)) if norms > 0 else 0.0


class _Spaces:
    """The column spaces of several factors (m, r_i), by the Gram matrix of all their columns."""

    def __init__(self, factors: Sequence[Array]) -> None:
        self.edges = np.cumsum([0, *(factor.shape[1] for factor in factors)])
        self.whole = Tall(factors).gram()
        roots = [inverse_root(self.gram(i, i)) for i in range(len(factors))]
        self.bases, self.base_edges = self.whole, self.edges
        if any(root is None for root in roots):
            spans = [_basis(f) if root is None else f for f, root in zip(factors, roots, strict=True)]
            self.base_edges = np.cumsum([0, *(span.shape[1] for span in spans)])
            self.bases = Tall(spans).gram()
            roots = [np.eye(s.shape[1]) if w is None else w for s, w in zip(spans, roots, strict=True)]
        self.roots = [root for root in roots if root is not None]

    def gram(self, i: int, j: int) -> Floats:
        """Return F_i^T F_j."""
        return self.whole[self.edges[i] : self.edges[i + 1], self.edges[j] : self.edges[j + 1]]

    def shared(self, i: int, j: int) -> float:
        """Return the mean cos^2 of the principal angles between two column spaces."""
        edges = self.base_edges
        between = self.bases[edges[i] : edges[i + 1], edges[j] : edges[j + 1]]
        cosines = self.roots[i].T @ between @ self.roots[j]
        dimensions = min(cosines.shape)
        return float(min((cosines**2).sum() / dimensions, 1.0)) if dimensions else 0.0


def _basis(factor: Array) -> Floats:
    """Return an orthonormal basis of dependent columns, (m, rank)."""
    U, s, _ = np.linalg.svd(Tall([factor]).whole(), full_matrices=False)
    if not s.size or not s[0]:
        return np.asarray(U[:, :0])
    return np.asarray(U[:, s > s[0] * np.finfo(np.float64).eps * max(factor.shape)])
