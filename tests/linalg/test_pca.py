"""PCA passes scikit-learn's checks, and equals scikit-learn's numbers and the covariance's eigenvectors."""

import warnings
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import multivariate_normal

from eckart.errors import DataError, EckartError, MatrixError, NotFittedError, UsageError
from eckart.linalg import PCA, Spectrum, marchenko_pastur_median, noise_rank
from eckart.linalg.pca import CentredBlock
from support.matrices import orthonormal

sklearn_pca = pytest.importorskip("sklearn.decomposition").PCA

ESTIMATORS = [PCA(), PCA(n_components=1), PCA(0.9), PCA("noise"), PCA(whiten=True), PCA(method="lapack")]


def samples(n, d, dtype=np.float64, seed=0, decay=0.5):
    """Return rows around 3 with standard deviations 1, 2^-decay, 3^-decay, ... along random axes."""
    random = np.random.default_rng(seed)
    scores = random.standard_normal((n, d)) * np.arange(1, d + 1) ** -decay
    return (scores @ orthonormal(d, d, seed).T + 3).astype(dtype)


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=repr)
def test_scikit_learns_estimator_checks_pass(estimator):
    from sklearn.utils.estimator_checks import check_estimator

    with warnings.catch_warnings():
        # scikit-learn warns about every class that follows its conventions without inheriting from it.
        warnings.filterwarnings("ignore", message="Estimator PCA does not inherit from")
        results = check_estimator(estimator, on_skip=None, on_fail="raise")
    assert sum(r["status"] == "passed" for r in results) > 40


SHAPES = [(60, 8), (8, 60), (30, 30), (400, 20)]


@pytest.mark.parametrize("n_components", [None, 3, 0.8])
@pytest.mark.parametrize("whiten", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_numbers_equal_those_of_scikit_learn(shape, whiten, n_components):
    X = samples(*shape)
    ours = PCA(n_components, whiten=whiten).fit(X)
    theirs = sklearn_pca(n_components, whiten=whiten, svd_solver="full").fit(X)
    assert ours.n_components_ == theirs.n_components_
    for name in ("singular_values_", "explained_variance_", "explained_variance_ratio_", "mean_"):
        assert getattr(ours, name) == pytest.approx(getattr(theirs, name), rel=1e-9, abs=1e-7), name
    assert ours.noise_variance_ == pytest.approx(theirs.noise_variance_, rel=1e-9, abs=1e-12)
    real = slice(None, min(ours.n_components_, shape[0] - 1, shape[1]))  # centring takes one direction
    assert ours.components_[real] == pytest.approx(theirs.components_[real], abs=1e-8)
    Z = ours.transform(X)[:, real]
    assert pytest.approx(theirs.transform(X)[:, real], abs=1e-7) == Z
    assert ours.inverse_transform(ours.transform(X)) == pytest.approx(
        theirs.inverse_transform(theirs.transform(X)), abs=1e-8
    )
    if n_components is not None:
        # Whitening should affect only `transform`, but it changes scikit-learn's covariance.
        plain = sklearn_pca(n_components, svd_solver="full").fit(X)
        assert ours.score(X) == pytest.approx(plain.score(X), rel=1e-8)
    assert np.array_equal(ours.get_feature_names_out(), theirs.get_feature_names_out())


@pytest.mark.parametrize("n_components", [2, 5])
def test_likelihood_is_that_of_a_gaussian(n_components):
    X = samples(200, 5)
    pca = PCA(n_components).fit(X)
    values = np.full(5, pca.noise_variance_)
    values[:n_components] = pca.explained_variance_
    axes = PCA().fit(X).components_
    by_scipy = multivariate_normal(X.mean(axis=0), (axes.T * values) @ axes).logpdf(X)
    assert pca.score_samples(X) == pytest.approx(by_scipy, rel=1e-10)


def test_components_are_eigenvectors_of_the_covariance():
    X = samples(200, 5)
    values, vectors = np.linalg.eigh(np.cov(X.T))
    pca = PCA().fit(X)
    assert pca.explained_variance_ == pytest.approx(values[::-1], rel=1e-12)
    overlap = np.abs(pca.components_ @ vectors[:, ::-1])
    assert overlap == pytest.approx(np.eye(5), abs=1e-12)


def test_given_variances_are_recovered():
    D = np.diag([3.142, 2.718, 1.0])
    X = np.vstack([D, -D]) + np.array([10.0, 20.0, 30.0])
    pca = PCA().fit(X)
    assert pca.mean_ == pytest.approx([10, 20, 30])
    assert pca.components_ == pytest.approx(np.eye(3), abs=1e-14)
    assert pca.explained_variance_ == pytest.approx(np.array([3.142, 2.718, 1.0]) ** 2 * 2 / 5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_components", [None, 4, 0.9, "noise"])
def test_blocks_of_rows_give_the_result_of_all_rows(n_components, dtype):
    X = samples(300, 12, dtype)
    whole = PCA(n_components).fit(X)
    parts = PCA(n_components)
    for rows in np.split(X, [2, 3, 50, 51, 200]):
        parts.partial_fit(rows)
    assert parts.n_samples_ == 300
    assert parts.n_components_ == whole.n_components_
    near = 1e-4 if dtype == np.float32 else 1e-10
    for name in ("components_", "explained_variance_", "explained_variance_ratio_", "mean_"):
        assert getattr(parts, name) == pytest.approx(getattr(whole, name), abs=near), name
        assert getattr(parts, name).dtype == (np.float64 if name == "mean_" else dtype)
    assert parts.noise_variance_ == pytest.approx(whole.noise_variance_, rel=near)
    again = parts.fit(X[:20]).partial_fit(X[20:40])  # `fit` discards earlier rows
    assert again.n_samples_ == 20


def shifted(dtype, mean):
    """Return rows with standard deviations 1 to 0.01 around a mean that is large in comparison."""
    Z = np.random.default_rng(0).standard_normal((500, 6)) * np.array([1, 0.5, 0.2, 0.1, 0.05, 0.01])
    return (Z + mean).astype(dtype)


@pytest.mark.parametrize(("dtype", "mean"), [(np.float32, 1e4), (np.float32, 1e6), (np.float64, 1e8)])
def test_large_mean_does_not_affect_the_variance(dtype, mean):
    X = shifted(dtype, mean)
    wide = X.astype(np.longdouble)  # the same rows, with their mean to 19 digits
    true = np.linalg.svd((wide - wide.mean(axis=0)).astype(np.float64), compute_uv=False)
    fitted = [PCA(n, method=method).fit(X) for n, method in ((None, "auto"), (6, "gram"), (6, "krylov"))]
    parts = PCA()
    for rows in np.array_split(X, 7):
        parts.partial_fit(rows)
    for pca in (*fitted, parts):
        # In float32, each entry of the centred rows is rounded exactly once.
        assert pca.singular_values_ == pytest.approx(true, abs=4 * float(np.finfo(dtype).eps) * true[0])
        scores = pca.transform(X)
        assert scores.dtype == dtype
        assert np.abs(scores.mean(axis=0, dtype=np.float64)).max() < 1e-6 * true[0]
        assert pca.inverse_transform(scores) == pytest.approx(X, rel=4 * float(np.finfo(dtype).eps))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_constant_columns_have_zero_variance(dtype):
    X = np.full((10, 3), 0.1, dtype)  # ten times 0.1 sums to 0.9999999999999999
    for fitted in (PCA().fit(X), PCA().partial_fit(X[:3]).partial_fit(X[3:])):
        assert not fitted.explained_variance_.any() and not fitted.explained_variance_ratio_.any()
        assert np.array_equal(fitted.mean_, X[0])
    assert PCA("noise").fit(X).n_components_ == 0
    X[:, 1] = np.arange(10)
    assert PCA().fit(X).explained_variance_ratio_.tolist() == [1.0, 0.0, 0.0]


def test_tensors_and_views_are_accepted():
    torch = pytest.importorskip("torch")
    X = samples(20, 3, np.float32)
    assert PCA(2).fit(torch.tensor(X)).components_ == pytest.approx(PCA(2).fit(X).components_)
    assert PCA(2).fit(torch.tensor(X).bfloat16()).components_.dtype == np.float32
    assert PCA(2).fit(np.asfortranarray(X)[::-1]).components_ == pytest.approx(
        PCA(2).fit(X).components_, abs=1e-5
    )


def test_blocks_with_fewer_rows_than_columns():
    X = samples(9, 40)
    parts = PCA(3).partial_fit(X[:4]).partial_fit(X[4:])
    assert parts.components_ == pytest.approx(PCA(3).fit(X).components_, abs=1e-10)


def test_blocks_join_in_any_order():
    X = samples(100, 6)
    a, b, c = (CentredBlock.of(part) for part in np.split(X, [10, 11]))
    for joined in ((a + b) + c, a + (b + c), c + (a + b)):
        assert joined.count == 100
        assert joined.mean == pytest.approx(X.mean(axis=0), rel=1e-13)
        assert pytest.approx(99 * np.cov(X.T), abs=1e-11) == joined.R.T @ joined.R


@pytest.mark.parametrize("n_components", [10, 0.5])
def test_search_in_large_data_is_accurate(n_components):
    X = samples(1100, 1050, np.float32)
    exact = np.linalg.svd((X - X.mean(axis=0, dtype=np.float64)), compute_uv=False)
    pca = PCA(n_components).fit(X)
    k = pca.n_components_
    if n_components == 0.5:
        energy = np.cumsum(exact**2) / (exact**2).sum()
        assert k == int(np.argmax(energy >= 0.5)) + 1
    # The search stops at 1e-6 of the tail; the largest error measured is 2e-7 sigma_1.
    assert pca.singular_values_ == pytest.approx(exact[:k], rel=0, abs=1e-5 * exact[0])
    assert pca.explained_variance_ratio_.sum() == pytest.approx(
        (exact[:k] ** 2).sum() / (exact**2).sum(), abs=1e-5
    )


@pytest.mark.parametrize(("n", "d"), [(300, 80), (80, 300), (200, 200)])
@pytest.mark.parametrize("rank", [0, 1, 5])
def test_noise_is_separated_from_signal(n, d, rank):
    random = np.random.default_rng(n + rank)
    signal = 4 * random.standard_normal((n, rank)) @ random.standard_normal((rank, d)) if rank else 0.0
    pca = PCA("noise").fit(signal + 0.7 * random.standard_normal((n, d)) + 5)
    assert pca.n_components_ == rank
    assert pca.transform(np.ones((2, d))).shape == (2, rank)
    assert pca.inverse_transform(np.ones((2, rank))).shape == (2, d)


@pytest.mark.parametrize("beta", [1e-3, 0.1, 0.5, 0.9, 1.0])
def test_median_of_the_marchenko_pastur_law(beta):
    low, high = (1 - np.sqrt(beta)) ** 2, (1 + np.sqrt(beta)) ** 2

    def density(x):
        return np.sqrt((high - x) * (x - low)) / (2 * np.pi * beta * x)

    below = quad(density, low, marchenko_pastur_median(beta), limit=200)[0]
    assert below == pytest.approx(0.5, abs=1e-5)


def test_threshold_of_a_square_matrix_is_2_858_medians():
    # Gavish and Donoho (2014), table IV: omega(1) = 2.8582.
    for factor, kept in ((2.8580, 0), (2.8584, 1)):
        assert noise_rank(Spectrum(np.r_[factor, np.ones(8)]), (9, 9)) == kept
    with pytest.raises(UsageError, match="all singular values"):
        noise_rank(Spectrum([1.0], tail=1.0, size=3), (3, 3))


def test_signs_do_not_depend_on_the_route():
    X = samples(90, 70)
    components = [
        PCA(5, method=m, seed=s).fit(X).components_ for m in ("lapack", "gram", "krylov") for s in (0, 1)
    ]
    for other in components[1:]:
        assert other == pytest.approx(components[0], abs=5e-3)  # a flipped sign would differ by 2


def test_scikit_learns_tools_accept_the_estimator():
    from sklearn.base import clone
    from sklearn.linear_model import Ridge
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    X = samples(60, 6)
    y = (X - 3) @ np.arange(6.0)
    search = GridSearchCV(
        make_pipeline(StandardScaler(), PCA(seed=1), Ridge()), {"pca__n_components": [1, 6]}, cv=3
    ).fit(X, y)
    assert search.best_params_ == {"pca__n_components": 6}
    assert clone(PCA(0.5, whiten=True)).get_params() == PCA(0.5, whiten=True).get_params()
    assert repr(PCA(0.5, whiten=True)) == "PCA(n_components=0.5, whiten=True)"


class Frame(SimpleNamespace):
    """The part of a data frame that PCA uses."""

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.rows, dtype)


def test_column_names_are_kept_and_compared():
    X = samples(10, 2)
    pca = PCA(1).fit(Frame(rows=X, columns=["height", "weight"]))
    assert pca.feature_names_in_.tolist() == ["height", "weight"]
    with pytest.raises(DataError, match="feature names should match"):
        pca.transform(Frame(rows=X, columns=["weight", "height"]))
    assert not hasattr(pca.fit(X), "feature_names_in_")


@pytest.mark.parametrize("parameters", [{"n_components": 5}, {"method": "fast"}, {"seed": -1}], ids=str)
def test_parameters_are_checked_before_the_data_are_centred(parameters, monkeypatch):
    pca = PCA(**parameters)
    monkeypatch.setattr("eckart.linalg.pca.pca.centre", None)
    monkeypatch.setattr("eckart.linalg.pca.pca.CentredBlock", None)
    for fit in (pca.fit, pca.partial_fit):
        with pytest.raises(UsageError):
            fit(samples(10, 3))
        with pytest.raises(NotFittedError):
            pca.transform(samples(10, 3))


REFUSED = [
    (lambda: PCA().transform([[1.0]]), NotFittedError, "Call fit first"),
    (lambda: PCA(5).fit(samples(10, 3)), UsageError, "from 0 to min"),
    (lambda: PCA(1.0).fit(samples(10, 3)), UsageError, "between 0 and 1"),
    (lambda: PCA(True).fit(samples(10, 3)), UsageError, "expected an int"),
    (lambda: PCA("mle").fit(samples(10, 3)), UsageError, "'noise'"),
    (lambda: PCA(method="fast").fit(samples(10, 3)), UsageError, "method='fast'"),
    (lambda: PCA().set_params(rank=3), UsageError, "rank"),
    (lambda: PCA().fit(np.ones((1, 3))), DataError, "minimum of 2"),
    (lambda: PCA().fit([[1.0, np.nan], [1.0, 2.0]]), DataError, r"\[0, 1\]"),
    (lambda: PCA().fit([["a"], ["b"]]), DataError, "numbers"),
    (lambda: PCA().fit([["1"], ["2"]]), DataError, "numbers"),
    (lambda: PCA().fit(np.zeros((3, 2), "M8[D]")), DataError, "numbers"),
    (lambda: PCA().fit([[10**400], [1]]), DataError, "numbers"),
    (lambda: PCA().fit(np.ma.masked_equal([[1.0], [2.0], [3.0]], 2)), DataError, "masked"),
    (lambda: PCA().fit([[1.7e308], [1.6e308]]), MatrixError, "range"),
    (lambda: PCA(1, seed=-1).fit(samples(10, 3)), UsageError, "seed=-1"),
    (
        lambda: PCA(1).fit(samples(9, 3)).inverse_transform(np.ones((2, 2))),
        DataError,
        "expected 1 column, one per component, got 2",
    ),
    (
        lambda: PCA(2).fit(np.outer(np.arange(5.0), [1, 2, 3])).score_samples([[1, 2, 3]]),
        UsageError,
        "subspace",
    ),
]


@pytest.mark.parametrize(("call", "error", "message"), REFUSED)
def test_invalid_arguments_are_refused(call, error, message):
    with pytest.raises(error, match=message) as caught:
        call()
    assert isinstance(caught.value, EckartError)
