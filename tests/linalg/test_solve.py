"""Pseudo-inverse, least squares, rank and condition compared with NumPy, and cases where NumPy is wrong."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from eckart.errors import MatrixError, UsageError
from eckart.linalg import cond, lstsq, matrix_rank, moore_penrose_conditions, orthogonality, pinv
from support.matrices import orthonormal, with_values

EPS = float(np.finfo(np.float64).eps)


def gaussian(*shape, dtype=np.float64, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


# Every shape, rank and dtype that NumPy documents. Ranks are unambiguous: each sigma is 0, or from 1 to 2.
TABLE = {
    "square": with_values(np.linspace(2, 1, 5), 5, 5),
    "tall": with_values(np.linspace(2, 1, 4), 9, 4),
    "very tall": with_values(np.linspace(2, 1, 4), 90, 4),
    "wide": with_values(np.linspace(2, 1, 4), 4, 9),
    "square of rank 2": with_values(np.array([2.0, 1.0]), 5, 5),
    "tall of rank 2": with_values(np.array([2.0, 1.0]), 9, 4),
    "wide of rank 2": with_values(np.array([2.0, 1.0]), 4, 9),
    "zero": np.zeros((3, 2)),
    "one number": np.array([[-2.5]]),
    "one row": np.array([[3.0, 0.0, 4.0]]),
    "one column": np.array([[3.0], [4.0]]),
    "float32": with_values(np.linspace(2, 1, 4), 9, 4).astype(np.float32),
    "integers": np.array([[4, 8, 12], [2, 4, 6], [3, 6, 9], [5, 10, 15]]),
    "booleans": np.array([[True, False], [True, True]]),
    "complex": gaussian(5, 3) + 1j * gaussian(5, 3, seed=1),
    "complex64": (gaussian(3, 5) + 1j * gaussian(3, 5, seed=1)).astype(np.complex64),
    "no rows": np.zeros((0, 3)),
    "no columns": np.zeros((3, 0)),
    "a stack": gaussian(2, 3, 4, 5),
    "a stack of one rank each": np.stack([np.diag([1.0, 1, 1]), np.diag([1.0, 1, 0]), np.zeros((3, 3))]),
    "an empty stack": np.zeros((0, 3, 2)),
    "a reversed view": gaussian(6, 4)[::-1, ::-1],
    "huge": with_values(np.linspace(2, 1, 4), 9, 4) * 1e200,
    "tiny": with_values(np.linspace(2, 1, 4), 9, 4) * 1e-200,
}
each = pytest.mark.parametrize("A", TABLE.values(), ids=TABLE.keys())


def allowed(*arrays):
    """Return 64 eps of the dtype, for matrices of condition 2 to 20 and at most 90 rows."""
    dtype = np.result_type(*arrays, np.float32)
    return 64 * float(np.finfo(dtype).eps)


@each
def test_pinv_equals_numpys(A):
    theirs = np.linalg.pinv(A * 1.0 if A.dtype.kind in "bi" else A, rtol=None)
    ours = pinv(A)
    assert ours.shape == theirs.shape
    assert ours.dtype == theirs.dtype
    size = float(np.abs(theirs).max(initial=0.0))
    assert np.abs(ours - theirs).max(initial=0.0) <= allowed(A) * size


@each
def test_matrix_rank_equals_numpys(A):
    theirs = np.linalg.matrix_rank(A)
    assert np.array_equal(matrix_rank(A), theirs)
    assert np.array_equal(matrix_rank(A, rtol=0.7), np.linalg.matrix_rank(A, rtol=0.7))
    assert np.array_equal(matrix_rank(A, tol=0.5), np.linalg.matrix_rank(A, tol=0.5))
    assert isinstance(matrix_rank(A), int) == (A.ndim == 2)


@pytest.mark.parametrize("columns", [None, 0, 1, 3])
@each
def test_lstsq_equals_numpys(A, columns):
    if A.ndim != 2:
        with pytest.raises(MatrixError, match="expected A"):
            lstsq(A, np.ones(A.shape[-2]))
        return
    b = gaussian(A.shape[0], *([] if columns is None else [columns]), seed=7)
    # NumPy's default rcond for float32 is eps of float64, so the same tolerance is passed to both.
    rtol = max(A.shape) * np.finfo(np.result_type(A, np.float32)).eps
    x, residuals, rank, s = np.linalg.lstsq(A, b, rcond=float(rtol))
    ours = lstsq(A, b)
    assert ours.x.shape == x.shape
    assert ours.x.dtype == x.dtype
    assert ours.rank == rank
    size = max(float(np.abs(x).max(initial=0.0)), 1e-300)
    assert np.abs(ours.x - x).max(initial=0.0) <= allowed(A, x) * size
    assert ours.s == pytest.approx(s, rel=0, abs=allowed(A) * float(s.max(initial=0.0)))
    wide = A.astype(np.result_type(A, np.float64))
    difference = b - wide @ x
    measured = np.linalg.norm(difference[:, None] if columns is None else difference, axis=0) ** 2
    assert ours.residuals.shape == measured.shape
    assert ours.residuals == pytest.approx(measured, rel=1e-5 if A.dtype == np.float32 else 1e-9, abs=1e-20)
    if len(residuals):
        assert ours.residuals == pytest.approx(residuals, rel=1e-9, abs=1e-20)


@each
def test_cond_equals_numpys(A):
    if 0 in A.shape:
        with pytest.raises(MatrixError, match="at least one"):
            cond(np.zeros((0, 3)))
        return
    theirs = np.linalg.cond(A.astype(np.result_type(A, np.float64)))
    ours = np.asarray(cond(A))
    singular = theirs > 1e15  # rounding decides how far above
    assert np.array_equal(singular, ours > 1e15)
    assert ours[~singular] == pytest.approx(theirs[~singular], rel=1e-12)


def test_result_unpacks_like_numpys():
    x, residuals, rank, s = lstsq([[1.0], [1.0]], [1.0, 3.0])
    assert (x.tolist(), rank) == (pytest.approx([2.0]), 1)
    assert residuals == pytest.approx([2.0])
    assert s == pytest.approx([np.sqrt(2)])


def test_singular_float32_matrix_is_recognised_unlike_in_numpy():
    columns = gaussian(50, 2, dtype=np.float32)
    A = np.column_stack([columns, columns.sum(axis=1)])  # float32: the sum is rounded
    b = gaussian(50, dtype=np.float32, seed=3)
    theirs, ours = np.linalg.lstsq(A, b)[0], lstsq(A, b)
    assert np.linalg.lstsq(A, b)[2] == 3
    assert ours.rank == 2
    assert np.abs(theirs).max() > 1e5
    assert np.abs(ours.x).max() < 1
    of_two = np.linalg.lstsq(columns.astype(np.float64), b)[1]
    assert ours.residuals == pytest.approx(of_two, rel=1e-5)  # the third column adds float32 rounding


def test_pinv_of_a_singular_float32_matrix_is_not_noise():
    A = with_values(np.array([2.0, 1.0]), 20, 20).astype(np.float32)
    assert np.linalg.norm(np.linalg.pinv(A), 2) > 1e5  # cut at 1e-15 sigma_1
    assert np.linalg.norm(pinv(A), 2) == pytest.approx(1.0, rel=1e-5)


def test_float16_is_accepted():
    A = with_values(np.linspace(2, 1, 4), 9, 4).astype(np.float16)
    assert pinv(A).dtype == np.float32
    assert pinv(A) == pytest.approx(np.linalg.pinv(A.astype(np.float64)), abs=1e-6)


def test_rtol_for_each_matrix_of_a_stack():
    stack = np.stack([np.diag([4.0, 1.0])] * 2)
    assert pinv(stack, rtol=[0.1, 0.5])[:, 1, 1].tolist() == [1.0, 0.0]
    assert matrix_rank(stack, rtol=[0.1, 0.5]).tolist() == [2, 1]


@pytest.mark.parametrize("name", [n for n, A in TABLE.items() if A.ndim == 2 and n not in ("huge", "tiny")])
def test_pinv_satisfies_the_four_conditions(name):
    A = TABLE[name]
    assert max(moore_penrose_conditions(A, pinv(A))) <= allowed(A)


def test_wrong_inverses_violate_the_right_condition():
    A = np.diag([2.0, 0.0])
    assert max(moore_penrose_conditions(A, np.diag([0.5, 0.0]))) == 0
    assert moore_penrose_conditions(A, np.diag([0.5, 1.0])).X_A_X > 0.5  # A X A = A alone is not enough
    assert moore_penrose_conditions(A, np.array([[0.5, 0.0], [1.0, 0.0]])).X_A_symmetric > 0.5
    assert moore_penrose_conditions(A, np.array([[0.5, 1.0], [0.0, 0.0]])).A_X_symmetric > 0.5
    with pytest.raises(MatrixError, match="X \\(n, m\\)"):
        moore_penrose_conditions(np.ones((2, 3)), np.ones((2, 3)))


def test_orthogonality_of_known_matrices():
    Q = orthonormal(40, 7, seed=3)
    assert orthogonality(Q) <= 16 * EPS
    assert orthogonality(Q * np.sqrt(1.25)) == pytest.approx(0.25, rel=1e-12)
    assert orthogonality(Q[:3]) >= 1 - 16 * EPS  # seven columns with three rows
    assert orthogonality(np.zeros((3, 0))) == 0


@given(A=arrays(np.float64, array_shapes(min_dims=2, max_dims=3, max_side=5), elements=st.integers(-3, 3)))
@settings(max_examples=60)
def test_small_matrices_of_integers(A):
    """Ties, zeros and repeated rows, which hand-made tables omit."""
    X = pinv(A)
    assert np.linalg.pinv(A, rtol=None) == pytest.approx(X, rel=0, abs=1e-9)
    assert np.array_equal(matrix_rank(A), np.linalg.matrix_rank(A))
    for M, Y in zip(A.reshape(-1, *A.shape[-2:]), X.reshape(-1, *X.shape[-2:]), strict=True):
        assert max(moore_penrose_conditions(M, Y)) < 1e-10


def test_qr_iteration_replaces_divide_and_conquer_if_that_fails(monkeypatch):
    A = gaussian(2, 4, 3)
    before = pinv(A)

    def does_not_converge(*_, **__):
        raise np.linalg.LinAlgError

    monkeypatch.setattr(np.linalg, "svd", does_not_converge)
    assert pinv(A) == pytest.approx(before, abs=1e-14)


REFUSED = [
    (lambda: pinv([1.0, 2.0]), MatrixError, ["`eckart.linalg.pinv(A)`", "(2,)"]),
    (lambda: pinv([[1.0, np.nan]]), MatrixError, ["1 of 2", "[0, 1]"]),
    (lambda: pinv([["a"]]), MatrixError, ["numbers"]),
    (lambda: pinv([[1.0], [2.0, 3.0]]), MatrixError, ["different lengths"]),
    (lambda: pinv([[object()]]), MatrixError, ["numbers"]),
    (lambda: pinv(np.eye(2), rtol=-1.0), UsageError, ["rtol"]),
    (lambda: lstsq(np.eye(2), np.ones(3)), MatrixError, ["(2, 2)", "(3,)"]),
    (lambda: lstsq(np.eye(2), [1.0, np.inf]), MatrixError, ["infinite", "[1]"]),
    (lambda: matrix_rank(np.eye(2), tol=1.0, rtol=1.0), UsageError, ["tol or rtol, got both"]),
    (lambda: matrix_rank([np.nan]), MatrixError, ["NaN"]),
    (lambda: orthogonality(np.ones(3)), MatrixError, ["(3,)"]),
    (lambda: orthogonality(np.eye(2) * 1e200), MatrixError, ["1e+200", "range"]),
    (lambda: pinv([[10**400]]), MatrixError, ["numbers"]),
    (lambda: pinv(np.zeros((2, 2), [("a", "f8")])), MatrixError, ["numbers"]),
    (lambda: pinv(np.eye(2), rtol="x"), UsageError, ["rtol"]),
    (lambda: pinv(np.eye(2), 0.1, rtol=0.1), UsageError, ["rcond or rtol, got both"]),
    (lambda: pinv(np.ones((2, 3)), hermitian=True), MatrixError, ["square", "(2, 3)"]),
    (lambda: pinv(np.ones((2, 3, 3)), rtol=[0.1] * 3), UsageError, ["rtol", "(3,)", "(2,)"]),
    (lambda: lstsq(np.eye(2), np.ones(2), rtol=[0.1, 0.2]), UsageError, ["rtol", "number"]),
    (lambda: lstsq(np.eye(2), np.ones(2), -2), UsageError, ["rcond", "-2"]),
    (lambda: lstsq(np.eye(2), np.ones(2), 0.1, rtol=0.1), UsageError, ["rcond or rtol, got both"]),
    (lambda: matrix_rank(np.eye(2), tol="x"), UsageError, ["tol"]),
    (lambda: matrix_rank(np.eye(2), tol=np.nan), UsageError, ["tol"]),
    (lambda: matrix_rank(np.ones((2, 2, 2)), tol=[1, 2, 3]), UsageError, ["tol", "(3,)"]),
    (lambda: matrix_rank(np.ones((2, 3)), hermitian=True), MatrixError, ["square"]),
]


@pytest.mark.parametrize(("call", "error", "parts"), REFUSED)
def test_invalid_arguments_are_refused(call, error, parts):
    with pytest.raises(error) as caught:
        call()
    for part in parts:
        assert part in str(caught.value)


SQUARES = {
    "definite": with_values(np.linspace(2, 1, 5), 5, 5),
    "rank 2": np.diag([3.0, -2.0, 0.0, 0.0]),
    "integers": np.array([[2, 1], [1, 2]]),
    "complex": gaussian(3, 3) + 1j * gaussian(3, 3, seed=1),
    "float32": gaussian(4, 4, dtype=np.float32),
    "a stack": gaussian(2, 3, 4, 4),
    "no rows": np.zeros((0, 0)),
    "one number": np.array([[-2.5]]),
}


@pytest.mark.parametrize("A", SQUARES.values(), ids=SQUARES.keys())
def test_hermitian_equals_numpys(A):
    """Only the lower triangle is read, as NumPy's eigh does."""
    H = A + np.swapaxes(A, -1, -2).conj()
    junk = np.triu(np.ones_like(H), 1)
    theirs = np.linalg.pinv(H * 1.0 if H.dtype.kind == "i" else H, rtol=None, hermitian=True)
    ours = pinv(H + junk, hermitian=True)
    assert ours.dtype == theirs.dtype
    assert np.abs(ours - theirs).max(initial=0.0) <= 64 * allowed(H) * np.abs(theirs).max(initial=0.0)
    ranks = matrix_rank(H + junk, hermitian=True)
    assert np.array_equal(ranks, np.linalg.matrix_rank(H, hermitian=True))
    assert isinstance(ranks, int) == (H.ndim == 2)


def test_numpys_argument_names_are_accepted():
    A, b = np.diag([4.0, 1.0, 1e-20]), np.ones(3)
    assert np.array_equal(pinv(A, 0.5), np.linalg.pinv(A, 0.5))
    assert np.array_equal(pinv(A, rcond=0.1), pinv(A, rtol=0.1))
    assert lstsq(A, b, 0.5).rank == lstsq(A, b, rcond=0.5).rank == np.linalg.lstsq(A, b, 0.5)[2] == 1
    assert lstsq(A, b, rcond=None).rank == 2
    # -1 is eps itself, without max(m, n).
    near = np.diag([1.0, 2 * EPS, 2 * EPS])
    for rcond, rank in ((-1, 3), (None, 1)):
        assert lstsq(near, b, rcond).rank == np.linalg.lstsq(near, b, rcond)[2] == rank


@pytest.mark.parametrize("unit", [1e300, 1e-300, 1e-310, 2.0**-1074])
def test_solutions_within_range_are_found_at_any_scale(unit):
    A, b = with_values(np.linspace(2, 1, 4), 9, 4), gaussian(9)
    small = unit < 1e-308  # denormal entries have few digits
    A, b = (np.rint(8 * A), np.rint(8 * b)) if small else (A, b)
    x = lstsq(A, b).x
    for scaled in (lstsq(A * unit, b * unit), lstsq(A, b * unit)):
        expected = x * (unit if scaled.x.max() < 1e-200 or scaled.x.max() > 1e200 else 1.0)
        assert scaled.x == pytest.approx(expected, rel=1e-12, abs=8 * 5e-324)
    assert np.isinf(lstsq(A, b * 1e300).residuals).all()  # their squares are out of range


def test_result_out_of_range_is_refused():
    for call in (pinv, lambda A: lstsq(A, np.ones(2, A.dtype))):
        for A in (np.eye(2) * 1e-310, np.eye(2, dtype=np.float32) * np.float32(1e-40)):
            with pytest.raises(MatrixError, match=f"out of {A.dtype}'s range"):
                call(A)


@pytest.mark.parametrize("unit", [1e300, 1e-300])
def test_four_conditions_at_any_scale(unit):
    A = TABLE["tall of rank 2"] * unit
    assert max(moore_penrose_conditions(A, pinv(A))) <= allowed(A)
    wrong = moore_penrose_conditions(A, 2 * pinv(A))
    assert wrong[:2] == pytest.approx((1, 1))
    assert moore_penrose_conditions(A, np.ones((4, 9)) / unit).A_X_symmetric > 0.1


def test_masked_entries_are_refused():
    A = np.ma.masked_equal([[1.0, -999.0], [2.0, 3.0]], -999.0)
    for call in (pinv, matrix_rank, cond, lambda A: lstsq(A, np.ones(2)), orthogonality):
        with pytest.raises(MatrixError, match="masked"):
            call(A)
    assert matrix_rank(np.ma.masked_array(np.eye(2))) == 2  # nothing is masked
