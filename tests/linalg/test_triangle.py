"""Triangles of tall matrices compared with NumPy's, for each way to compute them and for any dtype."""

import ml_dtypes
import numpy as np
import pytest

from eckart.linalg.routes import triangle as module
from eckart.linalg.routes.tall import BLOCK_ENTRIES, Tall
from eckart.linalg.routes.triangle import inverse_root, triangle
from support.matrices import orthonormal, with_values

EPS = float(np.finfo(np.float64).eps)


def full(F):
    """Return R of F = Q R, the triangle with its columns scaled back."""
    R, exponents, live = triangle(Tall([F]))
    return np.ldexp(R, exponents) * live


def graded(condition, m=300, r=12):
    return with_values(np.logspace(0, -np.log10(condition), r), m, r, 3)


MATRICES = {
    "well": graded(10.0),
    "one pass at most": graded(300.0),
    "two passes": graded(1e4),
    "two passes at most": graded(1e5),
    "condition 1e8": graded(1e8),
    "condition 1e14": graded(1e14),
    "orthogonal columns of all sizes": orthonormal(300, 5, 0) * np.array([1e12, 1.0, 1e-12, 1e-100, 1e100]),
    "zero columns": orthonormal(300, 5, 0) * np.array([1.0, 0.0, 2.0, 0.0, 3.0]),
    "a column twice": np.repeat(orthonormal(300, 3, 0), 2, axis=1),
    "all zero": np.zeros((300, 4)),
    "short": graded(10.0, 8, 8),
    "wide": np.random.default_rng(0).standard_normal((3, 9)),
    "squares overflow": graded(10.0) * 1e170,
    "squares vanish": graded(10.0) * 1e-170,
    "many blocks": np.random.default_rng(0).standard_normal((3 * BLOCK_ENTRIES // 7 + 5, 7)),
}


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("name", MATRICES)
def test_triangle_has_the_gram_matrix_of_the_matrix(name, order):
    F = np.asarray(MATRICES[name], order=order)
    R = full(F)
    # Each pair of columns is accurate to rounding of their lengths, because columns are scaled separately.
    lengths = np.array([np.linalg.norm(F[:, i] / (abs(F[:, i]).max() or 1)) for i in range(F.shape[1])])
    lengths *= abs(F).max(axis=0)
    unit = np.where(lengths > 0, lengths, 1.0)
    np.testing.assert_allclose(
        (R / unit).T @ (R / unit), (F / unit).T @ (F / unit), rtol=0, atol=50 * EPS * np.sqrt(len(F))
    )


@pytest.mark.parametrize("name", sorted(MATRICES.keys() - {"all zero"}))
def test_triangle_has_the_singular_values_of_the_matrix(name):
    F = MATRICES[name]
    unit = 2.0 ** np.floor(np.log2(abs(F).max()))
    ours = np.linalg.svd(full(F) / unit, compute_uv=False)
    theirs = np.linalg.svd(F / unit, compute_uv=False)
    # The relative error of one pass is eps ||R^-1||^2, at most 2e-10 for the smallest value.
    np.testing.assert_allclose(ours, theirs[: len(ours)], rtol=1e-9, atol=200 * EPS * theirs[0])


@pytest.mark.parametrize(
    "name, householder",
    [
        ("well", False),
        ("two passes", False),
        ("orthogonal columns of all sizes", False),
        ("zero columns", False),
        ("squares overflow", False),
        ("condition 1e14", True),
        ("a column twice", True),
        ("wide", True),
    ],
)
def test_householder_is_used_only_where_needed(name, householder, monkeypatch):
    called = []
    real = np.linalg.qr
    monkeypatch.setattr(module.np.linalg, "qr", lambda *a, **k: called.append(1) or real(*a, **k))
    triangle(Tall([MATRICES[name]]))
    assert bool(called) is householder


def test_parts_of_any_dtype_side_by_side():
    random = np.random.default_rng(0)
    parts = [
        random.standard_normal((500, 3)).astype(ml_dtypes.bfloat16),
        random.standard_normal((2, 500)).astype(np.float16).T,
        random.standard_normal((500, 4)),
        random.standard_normal((500, 1)).astype(np.float32),
    ]
    F = np.concatenate([part.astype(np.float64) for part in parts], axis=1)
    tall, W = Tall(parts), random.standard_normal((10, 4))
    assert tall.shape == F.shape and np.array_equal(tall.whole(), F)
    np.testing.assert_allclose(tall.gram(), F.T @ F, rtol=0, atol=1e-12 * 500)
    np.testing.assert_allclose(tall @ W, F @ W, rtol=0, atol=1e-12 * 10)


@pytest.mark.parametrize("name", ["well", "orthogonal columns of all sizes", "zero columns"])
def test_inverse_root_gives_an_orthonormal_basis(name):
    F = MATRICES[name]
    W = inverse_root(Tall([F]).gram())
    Q = F @ W
    assert Q.shape[1] == np.count_nonzero(F.any(axis=0))
    np.testing.assert_allclose(Q.T @ Q, np.eye(Q.shape[1]), rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", ["a column twice", "condition 1e14", "squares overflow"])
def test_inverse_root_is_none_for_dependent_columns_and_overflow(name):
    assert inverse_root(Tall([MATRICES[name]]).gram()) is None
