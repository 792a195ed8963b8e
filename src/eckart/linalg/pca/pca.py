"""Principal component analysis, by the SVD of the centred data."""

from __future__ import annotations

from typing import Self

import numpy as np
from numpy.typing import ArrayLike

from eckart.arrays import Array, Floats
from eckart.checks import is_whole_number
from eckart.errors import DataError, UsageError
from eckart.linalg.backend import check_energy, ops_for
from eckart.linalg.decompose import METHODS, Method, all_values, check_method, factor_matrix
from eckart.linalg.goal import Goal
from eckart.linalg.lowrank import LowRank
from eckart.linalg.pca.blocks import CentredBlock, centre, subtract_mean
from eckart.linalg.pca.estimator import Estimator, as_samples
from eckart.linalg.pca.threshold import noise_rank
from eckart.linalg.seeds import seed_for
from eckart.linalg.spectrum import Spectrum
from eckart.text import count

# Up to this many rows or columns "auto" computes all values exactly instead of searching for the leading
# ones: the Gram matrix of 1024 columns takes a tenth of a second.
EXACT = 1024

# Beyond that, the search for the leading components stops when the energy that it may still gain is this
# share of the tail. On spectra from 1/i to i^-0.5, singular values are then accurate to 2e-7 sigma_1 and
# components to 1e-3.
SLACK = 1e-6


class PCA(Estimator):
    """Principal component analysis: the directions of largest variance, as a scikit-learn estimator.

    Equivalent to ``sklearn.decomposition.PCA``.

    Parameters
    ----------
    n_components : int, float, "noise" or None
        How many components to keep. An int: that many. A float between 0 and 1: the least number that
        explains this share of the variance, found without a full SVD. "noise": those that stand out from
        white noise (see `eckart.linalg.noise_rank`). None: all, min(n_samples, n_features).
    whiten : bool
        Divide each component by its standard deviation in `transform`.
    method : {"auto", "lapack", "gram", "krylov"}
        The route: see `eckart.svd`. Up to 1024 samples or features "auto" is exact.
    seed : int
        Seed of the search in larger matrices; the same seed gives the same result.

    Attributes
    ----------
    components_ : ndarray (k, d)
        Orthonormal rows, the largest variance first. The entry of largest size in each is positive.
    explained_variance_ : ndarray (k,)
        sigma^2 / (n_samples - 1), the eigenvalues of the covariance.
    explained_variance_ratio_ : ndarray (k,)
        Their share of the total variance. The total is exact, however few components are kept.
    singular_values_ : ndarray (k,)
    mean_ : ndarray (d,), float64
    n_components_, n_samples_, n_features_in_ : int
    noise_variance_ : float
        Mean of the min(n, d) - k eigenvalues that are not kept; 0 if all are kept.
    feature_names_in_ : ndarray (d,)
        Set only if X is a data frame whose column names are all strings.

    Notes
    -----
    The singular vectors of the centred data are the eigenvectors of its covariance, but the covariance
    is not formed where that would lose digits, because it squares the condition. "gram" does square, in
    float64, and is accurate to 1e-6 sigma_1; "lapack" to rounding.

    The sign rule makes results comparable, but the sign is arbitrary if two entries of a component are
    almost equal in size. Components of equal variance are an arbitrary basis of their space.

    `partial_fit` accepts blocks of rows and is exact: after the last block the result is that of `fit`
    on all rows, to rounding. It stores d^2 numbers, and costs 2 n d^2 flops for n rows and one SVD of a
    d x d triangle per block. (scikit-learn's IncrementalPCA keeps k components between blocks and
    is approximate.) With a share or "noise", the number of components is chosen again after each block.

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

    learnt_attribute = "n_samples_"

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

    def fit(self, X: ArrayLike, y: object = None) -> Self:
        """Find the components of a table of samples.

        Parameters
        ----------
        X : array_like (n, d)
            At least 2 samples.
        y : ignored
            For compatibility with scikit-learn's pipelines.

        Returns
        -------
        PCA
            This estimator.

        Raises
        ------
        DataError
            If X is not a table of finite real numbers.
        UsageError
            If ``n_components``, ``method`` or ``seed`` is invalid.
        """
        table = self._samples(X, "fit", first=True, least=2)
        self._check_parameters(min(table.shape))
        self.__dict__.pop("_seen", None)
        with np.errstate(over="ignore", invalid="ignore"):  # `_learn` checks the energy
            origin, offset, centred = centre(table)
            mean = origin + offset
        if self.n_components is None and len(table) > 2 * table.shape[1]:
            centred = np.asarray(np.linalg.qr(centred, mode="r"))  # (d, d): U is not needed
        return self._learn(centred, table, mean, len(table))

    def partial_fit(self, X: ArrayLike, y: object = None) -> Self:
        """Add a block of samples to those of earlier calls, and update the components.

        Parameters
        ----------
        X : array_like (n, d)
            At least 2 samples in the first block, and 1 in later ones.
        y : ignored
            For compatibility with scikit-learn's pipelines.

        Returns
        -------
        PCA
            This estimator.

        Raises
        ------
        DataError
            If X is not a table of finite real numbers with as many columns as earlier blocks.
        UsageError
            If ``n_components``, ``method`` or ``seed`` is invalid.

        Notes
        -----
        `fit` discards the samples of earlier calls.
        """
        seen: CentredBlock | None = vars(self).get("_seen")
        table = self._samples(X, "partial_fit", first=seen is None, least=2 if seen is None else 1)
        self._check_parameters(table.shape[1])  # later blocks may add as many rows as there are columns
        with np.errstate(over="ignore", invalid="ignore"):
            block = CentredBlock.of(table)
            seen = block if seen is None else seen + block
            mean = seen.mean
        self._learn(seen.R, table, mean, seen.count)
        self._seen = seen
        return self

    def fit_transform(self, X: ArrayLike, y: object = None) -> Array:
        """Find the components of X and return its coordinates. Equivalent to ``fit(X).transform(X)``.

        Parameters
        ----------
        X : array_like (n, d)
            At least 2 samples.
        y : ignored
            For compatibility with scikit-learn's pipelines.

        Returns
        -------
        ndarray (n, k)
            Coordinates along the components.
        """
        return self.fit(X).transform(X)

    def transform(self, X: ArrayLike) -> Array:
        """Return the coordinates of samples along the components.

        Parameters
        ----------
        X : array_like (n, d)
            Samples.

        Returns
        -------
        ndarray (n, k)
            In the dtype of X, at least float32.

        Raises
        ------
        NotFittedError
            If `fit` has not been called.
        DataError
            If X is not a table of finite real numbers with d columns.
        """
        self._check_fitted("transform")
        table = self._samples(X, "transform", first=False)
        scores = subtract_mean(table, self.mean_) @ self.components_.T.astype(table.dtype)
        return np.asarray(scores / self._deviations(table.dtype) if self.whiten else scores)

    def inverse_transform(self, X: ArrayLike) -> Array:
        """Return the points with given coordinates along the components.

        Parameters
        ----------
        X : array_like (n, k)
            Coordinates, as `transform` returns them.

        Returns
        -------
        ndarray (n, d)
            For the coordinates of the training data, its best approximation of rank k.

        Raises
        ------
        NotFittedError
            If `fit` has not been called.
        DataError
            If X is not a table of finite real numbers with k columns.
        """
        self._check_fitted("inverse_transform")
        call = "PCA.inverse_transform(X)"
        scores = as_samples(X, call) if self.n_components_ else np.asarray(X)
        if scores.shape[1] != self.n_components_:
            raise DataError(
                call,
                f"expected {count(self.n_components_, 'column')}, one per component, got {scores.shape[1]}",
            )
        if self.whiten:
            scores = scores * self._deviations(scores.dtype)
        return np.asarray(subtract_mean(scores @ self.components_.astype(scores.dtype), -self.mean_))

    def score_samples(self, X: ArrayLike) -> Floats:
        """Return the log-likelihood of each sample under the probabilistic model of PCA.

        Parameters
        ----------
        X : array_like (n, d)
            Samples.

        Returns
        -------
        ndarray (n,), float64
            Natural logarithms of the density.

        Raises
        ------
        NotFittedError
            If `fit` has not been called.
        DataError
            If X is not a table of finite real numbers with d columns.
        UsageError
            If the model has no density, because the training data lie in a subspace.

        Notes
        -----
        The model is a Gaussian with the explained variances along the components and ``noise_variance_`` in
        all other directions. The d x d covariance is not formed: 4 n d k flops.
        """
        self._check_fitted("score_samples")
        table = self._samples(X, "score_samples", first=False).astype(np.float64)
        V, variances = self.components_.astype(np.float64), self.explained_variance_.astype(np.float64)
        k, d = V.shape
        # As in `matrix_rank`, singular values below rounding count as zero.
        rounding = (max(self.n_samples_, d) * float(np.finfo(self.components_.dtype).eps)) ** 2
        if k and (variances.min() <= rounding * variances[0] or (d > k and self.noise_variance_ == 0)):
            raise UsageError(
                "PCA.score_samples",
                "the training data lie in a subspace, so the model has no density",
                "Use fewer components",
            )
        centred = table - self.mean_
        scores = centred @ V.T  # (n, k)
        distance = (scores**2 / variances).sum(axis=1)
        volume = float(np.log(variances).sum()) + d * np.log(2 * np.pi)
        if d > k:
            distance += ((centred - scores @ V) ** 2).sum(axis=1) / self.noise_variance_
            volume += (d - k) * np.log(self.noise_variance_)
        return np.asarray(-0.5 * (distance + volume))

    def score(self, X: ArrayLike, y: object = None) -> float:
        """Return the mean log-likelihood of samples, which can compare numbers of components.

        Parameters
        ----------
        X : array_like (n, d)
            Samples.
        y : ignored
            For compatibility with scikit-learn's pipelines.

        Returns
        -------
        float
            Mean of `score_samples`.

        Raises
        ------
        NotFittedError, DataError, UsageError
            As for `score_samples`.
        """
        return float(self.score_samples(X).mean())

    def get_feature_names_out(self, input_features: object = None) -> Array:
        """Return the names of the columns that `transform` returns.

        Parameters
        ----------
        input_features : ignored
            For compatibility with scikit-learn's pipelines.

        Returns
        -------
        ndarray (k,) of str
            pca0, pca1, ...

        Raises
        ------
        NotFittedError
            If `fit` has not been called.
        """
        self._check_fitted("get_feature_names_out")
        return np.asarray([f"pca{i}" for i in range(self.n_components_)], dtype=object)

    @property
    def _n_features_out(self) -> int:
        return self.n_components_

    def _learn(self, centred: Array, table: Array, mean: Floats, n: int) -> Self:
        """Factor centred rows, or a matrix with the same right singular vectors, and set the attributes."""
        limit, dtype = min(n, centred.shape[1]), table.dtype
        total = ops_for(centred).energy(centred)
        check_energy(centred if np.isfinite(total) else table, total, "PCA.fit(X)")
        goal = self._goal(centred, n, total)
        if goal is None:
            s, Vh, tail = np.zeros(0), centred[:0], total
        else:
            f = self._factored(centred, goal, total)
            s, Vh, tail = f.s, f.Vh, f.tail
        k = len(s)
        V = _signed(Vh)
        if k < limit and self.n_components is None:  # the matrix may have fewer rows than there are samples
            s, V = _completed(s, V, limit)
            k = limit
        variances, total_variance = s**2 / (n - 1), (float((s**2).sum()) + tail) / (n - 1)
        dropped = limit - k
        self.components_ = V.astype(dtype)
        self.singular_values_ = s.astype(dtype)
        self.explained_variance_ = variances.astype(dtype)
        ratios = variances / total_variance if total_variance else np.zeros(k)
        self.explained_variance_ratio_ = ratios.astype(dtype)
        self.noise_variance_ = tail / (n - 1) / dropped if dropped else 0.0
        self.mean_ = mean
        self.n_components_, self.n_samples_ = k, n
        return self

    def _factored(self, centred: Array, goal: Goal, total: float) -> LowRank:
        """Factor by the route of `method`; refine a search once the number of components is known."""
        method: Method = self.method
        if method == "auto" and min(centred.shape) <= EXACT:
            method = "gram"
        seed = seed_for(self.seed)
        if goal.kind != "energy":
            return factor_matrix(centred, goal, total=total, method=method, seed=seed, slack=SLACK)
        first = factor_matrix(centred, goal, total=total, method=method, seed=seed)
        if first.method != "krylov":
            return first
        # The values of a search are lower bounds, so with better ones the rank may be lower.
        by_rank = Goal("rank", first.rank)
        refined = factor_matrix(centred, by_rank, total=total, method=method, seed=seed, slack=SLACK)
        keep = None if refined.spectrum is None else refined.spectrum.rank_for(goal)
        return refined.truncate(rank=keep) if keep else refined

    def _check_parameters(self, most: int) -> None:
        """Refuse invalid parameters before any computation; ``most`` bounds the number of components."""
        check_method(self.method, METHODS)
        seed_for(self.seed)
        requested = self.n_components
        call = f"PCA(n_components={requested!r})"
        if requested is None or requested == "noise":
            return
        if isinstance(requested, str):
            raise UsageError(call, "expected an int, a float between 0 and 1, 'noise' or None")
        if isinstance(requested, (float, np.floating)):
            if not 0 < requested < 1:
                raise UsageError(
                    call, "expected a float between 0 and 1", "Use an int for a number of components"
                )
        elif not is_whole_number(requested, 0, most):
            raise UsageError(call, f"expected an int from 0 to min(n_samples, n_features) = {most}")

    def _goal(self, centred: Array, n: int, total: float) -> Goal | None:
        """Return the goal that ``n_components`` sets for the factors; None for no component."""
        requested = self.n_components
        if requested is None:
            return Goal("full")
        if isinstance(requested, str):
            if total == 0:
                return None
            shape = (n - 1, centred.shape[1])
            rank = noise_rank(_values(centred, total, min(shape)), shape)
            return Goal("rank", rank) if rank else None
        if isinstance(requested, (float, np.floating)):
            return Goal("energy", float(requested))
        return Goal("rank", min(int(requested), min(centred.shape))) if requested else None

    def _deviations(self, dtype: np.dtype) -> Array:
        """Return the standard deviations for whitening; a zero becomes eps, as in scikit-learn."""
        deviations = np.sqrt(self.explained_variance_.astype(np.float64))
        return np.asarray(np.maximum(deviations, np.finfo(self.components_.dtype).eps), dtype)


def _signed(Vh: Array) -> Array:
    """Flip the sign of each row whose entry of largest size is negative."""
    if not len(Vh):
        return Vh
    largest = np.take_along_axis(Vh, np.abs(Vh).argmax(axis=1)[:, None], axis=1)
    return np.where(largest < 0, -Vh, Vh)


def _values(centred: Array, total: float, size: int) -> Spectrum:
    """Return the first ``size`` singular values. Centred data have one fewer than samples."""
    values = all_values(centred, total).values[:size]
    return Spectrum(np.concatenate([values, np.zeros(size - len(values))]))


def _completed(s: Floats, V: Array, rank: int) -> tuple[Floats, Array]:
    """Append directions of zero variance, orthonormal to the others, up to ``rank`` in total."""
    missing = rank - len(s)
    Q = np.linalg.qr(np.concatenate([V.T, np.eye(V.shape[1], dtype=V.dtype)], axis=1))[0]  # (d, d)
    return np.concatenate([s, np.zeros(missing)]), np.concatenate([V, _signed(Q.T[len(s) : rank])])
