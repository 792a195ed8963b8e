"""The spectral norm is between its bounds for every matrix of the table, with both proofs."""

import ml_dtypes
import numpy as np
import pytest

from eckart.errors import MatrixError, UsageError
from eckart.linalg import spectral_norm, spectral_normalise
from support.matrices import CASES, with_values

EPS = float(np.finfo(np.float64).eps)


@pytest.mark.parametrize(("proof", "tolerance"), [("cholesky", 1e-3), ("cholesky", 1e-6), ("random", 0.3)])
@pytest.mark.parametrize("case", CASES, ids=repr)
def test_norm_is_between_the_bounds(case, proof, tolerance):
    norm = spectral_norm(case.A, proof=proof, tolerance=tolerance)
    true = float(case.values[0])  # of the matrix over its unit, by LAPACK, accurate to a few eps
    assert norm.lower / case.unit <= true * (1 + 8 * EPS * np.sqrt(max(case.A.shape)))
    assert norm.upper / case.unit >= true * (1 - 8 * EPS * np.sqrt(max(case.A.shape)))
    assert norm.gap <= tolerance
    assert norm.value == norm.lower


def test_proof_holds_when_many_values_are_nearly_as_large():
    """sigma_1 is barely larger than 299 other singular values."""
    A = with_values(np.r_[1.02, np.ones(299)], 300, 300, 4)
    for seed in range(5):
        norm = spectral_norm(A, tolerance=1e-3, seed=seed)
        assert norm.proof == "cholesky"
        assert norm.lower <= 1.02 * (1 + 1e-13) and norm.upper >= 1.02 * (1 - 1e-13)


def test_proof_finds_a_value_that_the_iteration_misses(monkeypatch):
    """The start lacks the first direction, so the iteration converges to sigma_2 and Cholesky fails."""
    from eckart.linalg.routes.krylov import BlockKrylov

    A = np.diag(np.r_[2.0, np.linspace(1.0, 0.1, 49)])
    gaussian = BlockKrylov._gaussian

    def without_first_direction(self, rows, columns):
        start = gaussian(self, rows, columns)
        start[:, 0] = 0.0
        return start

    monkeypatch.setattr(BlockKrylov, "_gaussian", without_first_direction)
    norm = spectral_norm(A, tolerance=1e-3)
    assert norm.proof == "svd"
    assert norm.lower <= 2.0 <= norm.upper


def sigma_1_to_18_digits(A):
    """Power iteration in long double, from the first singular vector in float64."""
    wide = A.astype(np.longdouble)
    v = np.linalg.svd(A.astype(np.float64))[2][0].astype(np.longdouble)
    for _ in range(4):
        v = wide.T @ (wide @ v)
        v /= np.sqrt(v @ v)
    return np.sqrt(((wide @ v) ** 2).sum())


@pytest.mark.parametrize(("proof", "tolerance"), [("cholesky", 1e-3), ("cholesky", 1e-8), ("random", 0.5)])
@pytest.mark.parametrize("kind", ["outer", "one column", "orthonormal", "gaussian"])
def test_bounds_hold_despite_rounding(kind, proof, tolerance):
    """For outer products sigma_1 = ||A||_F, which limits the random bound and leaves no room for rounding."""
    for seed in range(12):
        random = np.random.default_rng(seed)
        gaussian = random.standard_normal(random.integers(2, 90, 2))
        matrices = {
            "outer": np.outer(gaussian[:, 0], gaussian[0]),
            "one column": gaussian[:, :1],
            "gaussian": gaussian,
            "orthonormal": np.linalg.qr(gaussian)[0],
        }
        A = matrices[kind]
        norm, true = spectral_norm(A, proof=proof, tolerance=tolerance), sigma_1_to_18_digits(A)
        assert norm.lower <= true <= norm.upper


def test_random_bound_fails_no_more_often_than_stated():
    A = with_values(1 - np.linspace(0, 1, 100) ** 2, 100, 100, 1)
    failure = 0.2
    wrong = sum(
        spectral_norm(A, proof="random", tolerance=0.5, failure=failure, seed=i).upper < 1 for i in range(200)
    )
    assert wrong <= 60  # at most 40 are expected; 60 is 3.5 standard deviations more


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("bound", [1.0, 0.3])
def test_normalised_matrix_is_within_the_bound(dtype, bound):
    W = (np.random.default_rng(0).standard_normal((60, 90)) * 5).astype(dtype)
    normalised = spectral_normalise(W, bound)
    assert bound / (1 + 1e-3) <= np.linalg.norm(normalised.astype(np.float64), 2) <= bound
    direction = np.vdot(normalised.astype(np.float64), W.astype(np.float64))
    assert direction == pytest.approx(
        np.linalg.norm(normalised) * np.linalg.norm(W.astype(np.float64)), rel=1e-6
    )


def test_torch_tensors_stay_torch_tensors():
    torch = pytest.importorskip("torch")
    W = torch.randn(40, 30, generator=torch.Generator().manual_seed(0))
    normalised = spectral_normalise(W)
    assert isinstance(normalised, torch.Tensor) and normalised.dtype == torch.float32
    assert 0.999 <= float(torch.linalg.matrix_norm(normalised.double(), 2)) <= 1.0


def test_zero_matrix_has_norm_zero():
    norm = spectral_norm(np.zeros((3, 4)))
    assert (norm.lower, norm.upper, norm.gap) == (0.0, 0.0, 0.0)
    assert not spectral_normalise(np.zeros((3, 4))).any()


REFUSED = [
    (lambda: spectral_norm(np.eye(2), tolerance=0), UsageError, "tolerance=0"),
    (lambda: spectral_norm(np.eye(2), tolerance=1e-12), UsageError, "1e-9"),
    (lambda: spectral_norm(np.eye(2), failure=1.5), UsageError, "failure=1.5"),
    (lambda: spectral_norm(np.eye(2), proof="guess"), UsageError, "'guess'"),
    (lambda: spectral_norm([[np.nan]]), MatrixError, "NaN"),
    (lambda: spectral_norm(np.eye(2), seed=-1), UsageError, "seed=-1"),
    (lambda: spectral_norm(np.eye(2) * 1e200), MatrixError, r"spectral_norm\(A\).*range"),
    (lambda: spectral_normalise(np.eye(2) * 1e200), MatrixError, r"spectral_normalise\(W\).*range"),
    (lambda: spectral_normalise(np.eye(2), 0.0), UsageError, "bound=0.0"),
    (lambda: spectral_normalise(np.eye(2, dtype=np.float32), tolerance=1e-7), MatrixError, "rounding"),
]


@pytest.mark.parametrize(("call", "error", "message"), REFUSED)
def test_invalid_arguments_are_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
