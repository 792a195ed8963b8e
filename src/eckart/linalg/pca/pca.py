"""Principal component analysis, by the SVD of the centred data."""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from eckart.arrays import Array, Floats
from eckart.checks import is_whole_number
from eckart.errors import DataError, UsageError
from eckart.linalg.backend import check_energy, ops_for
from eckart.linalg.decompose import Method, factor_matrix
from eckart.linalg.goal import Goal
from eckart.linalg.lowrank import LowRank
from eckart.linalg.pca.blocks import CentredBlock, centre, less
from eckart.linalg.pca.estimator import Estimator, as_samples
from eckart.linalg.pca.threshold import noise_rank
from eckart.linalg.routes.krylov import seed_for
from eckart.linalg.spectrum import Spectrum

# Up to this many rows or columns every value is found exactly and "auto" does not search: the Gram
# matrix of 1024 takes a tenth of a second.
EXACT = 1024

# Beyond, the leading components are searched for until the energy still to be gained is this share of the
# tail: singular values right to 2e-7 sigma_1 and components to 1e-3, on the spectra 1/i to i^-0.5.
SLACK = 1e-6


class PCA(Estimator):
    """Directions of largest variance, in the manner of scikit-learn's estimators.

    Equivalent to ``sklearn.decomposition.PCA``.

    Parameters
    ----------
    n_components : int, float, "noise" or None
        How many components to keep. An int: that many. A float between 0 and 1: the least number that
        explains this share of the variance, found without a full SVD. "noise": those that stand above
        white noise (see `eckart.linalg.noise_rank`). None: all, min(n_samples, n_features).
    whiten : bool
        Divide each component by its standard deviation in `transform`.
    method : {"auto", "lapack", "gram", "krylov"}
        The route: see `eckart.svd`. Up to 1024 samples or features "auto" is exact.
    seed : int
        Seeds the search of larger matrices; the same seed gives the same result.

    Attributes
    ----------
    components_ : ndarray (k, d)
        Orthonormal rows, the largest variance first. In each the entry of largest size is positive.
    explained_variance_ : ndarray (k,)
        sigma^2 / (n_samples - 1): the eigenvalues of the covariance.
    explained_variance_ratio_ : ndarray (k,)
        Their share of the whole variance, which is known exactly however few are kept.
    singular_values_ : ndarray (k,)
    mean_ : ndarray (d,), float64
    n_components_, n_samples_, n_features_in_ : int
    noise_variance_ : float
        Mean of the min(n, d) - k eigenvalues that are left out; 0 if none is.
    feature_names_in_ : ndarray (d,)
        Only where X was a data frame whose columns are named by strings.

    Notes
    -----
    The singular vectors of the centred data are the eigenvectors of its covariance, but the covariance
    is never formed where rounding would show: it squares the condition. "gram" does square, in
    float64, and is right to 1e-6 sigma_1; "lapack" to rounding.

    The sign rule makes results comparable; it still turns over where two entries of a component are
    all but equal in size. Components of equal variance are any basis of their space.

    `partial_fit` takes blocks of rows and is exact: after the last block the result is that of `fit`
    on all rows, to rounding. It keeps d^2 numbers, and costs 2 n d^2 flops for n rows and one SVD of a
    d x d triangle for each block. (scikit-learn's IncrementalPCA keeps k components between blocks and
    is approximate.) A share or "noise" is asked anew after each block.

    References
    ----------
    Eckart and Young (1936). Tipping and Bishop (1999), Probabilistic principal component analysis, for
    `score`. Ross, Lim, Lin and Yang (2008) for blocks. Gavish and Donoho (2014) for "noise".

    Examples
    --------
    >>> X = np.array([[2.0, 0.0], [-2.0, 0.0], [0.0, 1.0], [0.0, -1.0]]) + 10
    >>> pca = PCA(n_components=0.8).fit(X)
    >>> pca.n_components_, pca.components_.tolist(), pca.explained_variance_ratio_.round(12).tolist()
    (1, [[1.0, 0.0]], [0.8])
    """

    components_: Array
    explained_variance_: Array
    explained_variance_ratio_: Array
    singular_values_: Array
    mean_: Array
    n_components_: int
    n_samples_: int
    noise_variance_: float

    def __init__(
        self,
        n_components: int | float | str | None = None,
        *,
        whiten: bool = False,
        method: Method = "auto",
        seed: int = 0,
    ) -> None:
        self.n_components = n_components
        self.whiten = whiten
        self.method = method
        self.seed = seed

    def fit(self, X: Any, y: Any = None) -> Self:
        """Find the components of X (n, d), n >= 2. ``y`` is ignored."""
        table = self._samples(X, "fit", first=True, least=2)
        self.__dict__.pop("_seen", None)
        with np.errstate(over="ignore", invalid="ignore"):  # `_learn` looks at the energy
            origin, offset, centred = centre(table)
            mean = origin + offset
        if self.n_components is None and len(table) > 2 * table.shape[1]:
            centred = np.asarray(np.linalg.qr(centred, mode="r"))  # (d, d): U is not needed
        return self._learn(centred, table, mean, len(table))

    def partial_fit(self, X: Any, y: Any = None) -> Self:
        """Add a block of rows (n, d) to those seen by earlier calls; `fit` forgets them."""
        seen: CentredBlock | None = vars(self).get("_seen")
        table = self._samples(X, "partial_fit", first=seen is None, least=2 if seen is None else 1)
        with np.errstate(over="ignore", invalid="ignore"):
            block = CentredBlock.of(table)
            seen = block if seen is None else seen + block
            mean = seen.mean
        self._learn(seen.R, table, mean, seen.count, in_blocks=True)
        self._seen = seen
        return self

    def fit_transform(self, X: Any, y: Any = None) -> Array:
        """Return ``fit(X).transform(X)``."""
        return self.fit(X).transform(X)

    def transform(self, X: Any) -> Array:
        """Return the coordinates (n, k) of X (n, d) along the components."""
        self._check_fitted("transform")
        table = self._samples(X, "transform", first=False)
        scores = less(table, self.mean_) @ self.components_.T.astype(table.dtype)
        return np.asarray(scores / self._deviations(table.dtype) if self.whiten else scores)

    def inverse_transform(self, X: Any) -> Array:
        """Return the points (n, d) whose coordinates are X (n, k): the best approximation of rank k."""
        self._check_fitted("inverse_transform")
        call = "PCA.inverse_transform(X)"
        scores = as_samples(X, call) if self.n_components_ else np.asarray(X)
        if scores.shape[1] != self.n_components_:
            raise DataError(
                call, f"X has {scores.shape[1]} columns, but there are {self.n_components_} components"
            )
        if self.whiten:
            scores = scores * self._deviations(scores.dtype)
        return np.asarray(less(scores @ self.components_.astype(scores.dtype), -self.mean_))

    def score_samples(self, X: Any) -> Floats:
        """Return the log-likelihood (n,) of each row under the probabilistic model.

        A Gaussian with the explained variances along the components and ``noise_variance_`` in every other
        direction; the d x d covariance is not formed: 4 n d k flops.
        """
        self._check_fitted("score_samples")
        table = self._samples(X, "score_samples", first=False).astype(np.float64)
        V, variances = self.components_.astype(np.float64), self.explained_variance_.astype(np.float64)
        k, d = V.shape
        # As `matrix_rank` would: a singular value that is rounding is none.
        rounding = (max(self.n_samples_, d) * float(np.finfo(self.components_.dtype).eps)) ** 2
        if k and (variances.min() <= rounding * variances[0] or (d > k and self.noise_variance_ == 0)):
            raise UsageError(
                "PCA.score_samples",
                "the data lie in a subspace, and the model has no density",
                "Keep fewer components",
            )
        centred = table - self.mean_
        scores = centred @ V.T  # (n, k)
        distance = (scores**2 / variances).sum(axis=1)
        volume = float(np.log(variances).sum()) + d * np.log(2 * np.pi)
        if d > k:
            distance += ((centred - scores @ V) ** 2).sum(axis=1) / self.noise_variance_
            volume += (d - k) * np.log(self.noise_variance_)
        return np.asarray(-0.5 * (distance + volume))

    def score(self, X: Any, y: Any = None) -> float:
        """Return the mean log-likelihood of the rows of X, to compare numbers of components by."""
        return float(self.score_samples(X).mean())

    def get_feature_names_out(self, input_features: Any = None) -> Array:
        """Return the names of the columns that `transform` gives: pca0, pca1, ..."""
        self._check_fitted("get_feature_names_out")
        return np.asarray([f"pca{i}" for i in range(self.n_components_)], dtype=object)

    @property
    def _n_features_out(self) -> int:
        return self.n_components_

    def _learn(self, centred: Array, table: Array, mean: Floats, n: int, in_blocks: bool = False) -> Self:
        """Factor centred rows, or a matrix with the same right side, and keep what was learnt."""
        limit, dtype = min(n, centred.shape[1]), table.dtype
        total = ops_for(centred).energy(centred)
        check_energy(centred if np.isfinite(total) else table, total, "PCA.fit(X)")
        goal = self._goal(centred, n, total, in_blocks)
        if goal is None:
            s, Vh, tail = np.zeros(0), centred[:0], total
        else:
            f = self._factored(centred, goal, total)
            s, Vh, tail = f.s, f.Vh, f.tail
        k = len(s)
        V = _signed(Vh)
        if k < limit and self.n_components is None:  # a triangle may have fewer rows than there are samples
            s, V = _completed(s, V, limit)
            k = limit
        variances, whole = s**2 / (n - 1), (float((s**2).sum()) + tail) / (n - 1)
        left = limit - k
        self.components_ = V.astype(dtype)
        self.singular_values_ = s.astype(dtype)
        self.explained_variance_ = variances.astype(dtype)
        self.explained_variance_ratio_ = (variances / whole if whole else np.zeros(k)).astype(dtype)
        self.noise_variance_ = tail / (n - 1) / left if left else 0.0
        self.mean_ = mean
        self.n_components_, self.n_samples_ = k, n
        return self

    def _factored(self, centred: Array, goal: Goal, total: float) -> LowRank:
        """Factor by the route that is asked for; refine a search once the number of components is known."""
        method: Method = self.method
        if method == "auto" and min(centred.shape) <= EXACT:
            method = "gram"
        seed = seed_for(self.seed)
        if goal.kind == "energy":
            found = factor_matrix(centred, goal, total=total, method=method, seed=seed)
            if found.method != "krylov":
                return found
            # The values found are lower bounds: with better ones the rank may be lower.
            goal, share = Goal("rank", found.rank), goal
            found = factor_matrix(centred, goal, total=total, method=method, seed=seed, slack=SLACK)
            keep = found.spectrum.rank_for(share) if found.spectrum is not None else None
            return found.truncate(rank=keep) if keep else found
        return factor_matrix(centred, goal, total=total, method=method, seed=seed, slack=SLACK)

    def _goal(self, centred: Array, n: int, total: float, in_blocks: bool) -> Goal | None:
        """Return what the factorisation is asked for; None for no component at all."""
        wish, limit = self.n_components, min(n, centred.shape[1])
        call = f"PCA(n_components={wish!r})"
        if wish is None:
            return Goal("full")
        if isinstance(wish, str):
            if wish != "noise":
                raise UsageError(call, "expected an int, a float between 0 and 1, 'noise' or None")
            if total == 0:
                return None
            rank = noise_rank(
                _values(centred, total, min(n - 1, centred.shape[1])), (n - 1, centred.shape[1])
            )
            return Goal("rank", rank) if rank else None
        if isinstance(wish, (float, np.floating)):
            if not 0 < wish < 1:
                raise UsageError(
                    call, "expected a float between 0 and 1", "Write an int for a number of components"
                )
            return Goal("energy", float(wish))
        if in_blocks:
            limit = max(limit, centred.shape[1])  # more rows may come
        if not is_whole_number(wish, 0, limit):
            raise UsageError(call, f"expected an int from 0 to min(n_samples, n_features) = {limit}")
        return Goal("rank", min(int(wish), min(centred.shape))) if wish else None

    def _deviations(self, dtype: Any) -> Array:
        """Return the standard deviations to whiten by; a zero becomes eps, as in scikit-learn."""
        deviations = np.sqrt(self.explained_variance_.astype(np.float64))
        return np.asarray(np.maximum(deviations, np.finfo(self.components_.dtype).eps), dtype)


def _signed(Vh: Array) -> Array:
    """Turn each row so that its entry of largest size is positive."""
    if not len(Vh):
        return Vh
    largest = np.take_along_axis(Vh, np.abs(Vh).argmax(axis=1)[:, None], axis=1)
    return np.where(largest < 0, -Vh, Vh)


def _values(centred: Array, total: float, size: int) -> Spectrum:
    """Return the singular values that centred data can have: one fewer than samples."""
    from eckart.linalg.decompose import all_values

    values = all_values(centred, total).values[:size]
    return Spectrum(np.concatenate([values, np.zeros(size - len(values))]))


def _completed(s: Floats, V: Array, rank: int) -> tuple[Floats, Array]:
    """Add directions of no variance, orthonormal to the rest, up to ``rank`` of them."""
    more = rank - len(s)
    Q = np.linalg.qr(np.concatenate([V.T, np.eye(V.shape[1], dtype=V.dtype)], axis=1))[0]  # (d, d)
    return np.concatenate([s, np.zeros(more)]), np.concatenate([V, _signed(Q.T[len(s) : rank])])
