"""Every public function of NumPy on a traced array works as in NumPy, or is refused with the user's line."""

import numpy as np
import pytest
import scipy.special as sp
from numpy.testing.overrides import get_overridable_numpy_array_functions, get_overridable_numpy_ufuncs

from autodiff.test_rules import DIFFERENCES, ROUNDING, close, differences, direction, pair
from eckart.autodiff import grad, jvp, vjp, vmap
from eckart.autodiff.errors import AutodiffError
from eckart.autodiff.tree import flatten

R = np.random.default_rng(0)
M = R.standard_normal((3, 4))
S = R.standard_normal((4, 4)) + 3 * np.eye(4)
HOLES = np.where(M > 1, np.nan, 0.0)  # contains one NaN
P = np.polynomial.polynomial
la, fft, em = np.linalg, np.fft, np.emath


def spd(x):
    return x @ x.T + np.eye(len(x))


CALLS = {  # for x = M, 3 x 4 (in np.linalg: S, 4 x 4); other functions are called with x as the only argument
    "allclose": [lambda x: np.allclose(x, x)],
    "append": [lambda x: np.append(x, x, 0)],
    "apply_along_axis": [lambda x: np.apply_along_axis(lambda r: r**2, 1, x)],
    "apply_over_axes": [lambda x: np.apply_over_axes(np.sum, x, [0])],
    "argpartition": [lambda x: np.argpartition(x, 1)],
    "array_equal": [lambda x: np.array_equal(x, x)],
    "array_equiv": [lambda x: np.array_equiv(x, x)],
    "array_split": [lambda x: np.array_split(x, 3, axis=1)[1], lambda x: np.array_split(x, 5)[4]],
    "around": [lambda x: np.around(x, 1)],
    "astype": [lambda x: np.astype(x, np.float64) ** 2],
    "average": [lambda x: np.average(x, axis=0, weights=np.arange(3))],
    "bincount": [
        lambda x: np.bincount([0, 1, 1, 3], weights=x[0]),
        lambda x: np.bincount([0, 1], x[0, :2], minlength=5),
    ],
    "block": [lambda x: np.block([[x, x], [x, x]])],
    "broadcast_arrays": [lambda x: np.broadcast_arrays(x, x[0])[1] ** 2],
    "broadcast_to": [lambda x: np.broadcast_to(x, (2, 3, 4)) ** 2],
    "choose": [lambda x: np.choose(np.array([0, 1, 2, 1]), [x[0], x[1], x[2] ** 2])],
    "clip": [
        lambda x: np.clip(x, -0.5, 0.5) * x,
        lambda x: np.clip(x, max=0.5) * x,
        lambda x: x.clip(-0.5) * x,
    ],
    "compress": [lambda x: np.compress([True, False, True], x, 0) ** 2],
    "concatenate": [
        lambda x: np.concatenate([x, x]) ** 2,
        lambda x: np.concatenate((x, np.zeros((1, 4))), 0),
    ],
    "convolve": [lambda x: np.convolve(x[0], x[1, :2]), lambda x: np.convolve(x[0], x[1, :2], "valid")],
    "copyto": [lambda x: np.copyto(np.zeros((3, 4)), x)],
    "corrcoef": [
        np.corrcoef,
        lambda x: np.corrcoef(x[0], x[1]),
        lambda x: np.corrcoef(x, rowvar=False)[:2, 2],
    ],
    "correlate": [
        lambda x: np.correlate(x[0], x[1, :2]),
        lambda x: np.correlate(x[0], x[1, :2], "full"),
        lambda x: np.correlate(x[0, :2], x[1], "same"),
    ],
    "cov": [
        np.cov,
        lambda x: np.cov(x[0], x[1]),
        lambda x: np.cov(x, rowvar=False, bias=True),
        lambda x: np.cov(x[0]),
        lambda x: np.cov(x, aweights=np.arange(1, 5.0), fweights=[1, 2, 1, 3]),
    ],
    "cross": [lambda x: np.cross(x[0, :3], x[1, :3]), lambda x: np.cross(x, x[::-1] ** 2, axis=0)],
    "cumulative_prod": [lambda x: np.cumulative_prod(x, axis=0)],
    "cumulative_sum": [lambda x: np.cumulative_sum(x, axis=1) ** 2, lambda x: np.cumulative_sum(x[0])],
    "delete": [lambda x: np.delete(x, 1, 0) ** 2, lambda x: np.delete(x, [0, 1]) ** 2],
    "diag": [lambda x: np.diag(x) ** 2, lambda x: np.diag(x[0]) ** 2],
    "diag_indices_from": [lambda x: np.diag_indices_from(x[:, :3])[0]],
    "diff": [
        np.diff,
        lambda x: np.diff(x, prepend=0.0) ** 2,
        lambda x: np.diff(x, axis=0, append=x[:1]) ** 2,
    ],
    "digitize": [lambda x: np.digitize(x, [0, 1])],
    "dot": [lambda x: np.dot(x, x.T)],
    "dsplit": [lambda x: np.dsplit(x[:, None], 2)[0] ** 2],
    "dstack": [lambda x: np.dstack([x, x]) ** 2, lambda x: np.dstack([x[0], x[1]]) ** 2],
    "ediff1d": [np.ediff1d, lambda x: np.ediff1d(x, to_begin=1.0, to_end=x[:2]) ** 2],
    "einsum": [lambda x: np.einsum("ij,ij->i", x, x)],
    "einsum_path": [lambda x: np.einsum_path("ij,jk->ik", x, x.T)[0]],
    "expand_dims": [lambda x: np.expand_dims(x, 1) ** 2],
    "extract": [lambda x: np.extract(M > 0, x) ** 2],
    "fft.fft2": [fft.fft2, lambda x: fft.fft2(x, s=(2, 6))],
    "fft.fftn": [fft.fftn, lambda x: fft.fftn(x, axes=(0,), norm="ortho")],
    "fft.irfftn": [fft.irfftn, lambda x: fft.irfftn(x, s=(3, 5), axes=(0, 1))],
    "fft.rfftn": [fft.rfftn, lambda x: fft.rfftn(x, s=(2, 5), axes=(1, 0), norm="forward")],
    "fft.hfft": [fft.hfft, lambda x: fft.hfft(x, 5, norm="ortho")],
    "fill_diagonal": [lambda x: np.fill_diagonal(x, 0.0)],
    "full_like": [lambda x: np.full_like(x, 3.0)],
    "geomspace": [
        lambda x: np.geomspace(x[0, 0] ** 2 + 1, 5.0, 4),
        lambda x: np.geomspace(-1.0, -2 - x[0, 0] ** 2, 3),
    ],
    "gradient": [
        lambda x: np.gradient(x[0]) ** 2,
        lambda x: np.gradient(x)[1] ** 2,
        lambda x: np.gradient(x, axis=0),
        lambda x: np.gradient(x, 0.5, axis=1, edge_order=2),
        lambda x: np.gradient(x, 2.0, np.array([0.0, 1, 3, 4])),
        lambda x: np.gradient(x[0], np.cumsum(x[1] ** 2)),
    ],
    "histogram": [lambda x: np.histogram(x, 3)[0]],
    "histogram2d": [lambda x: np.histogram2d(x[0], x[1])[0]],
    "histogramdd": [lambda x: np.histogramdd(x)[0]],
    "hsplit": [lambda x: np.hsplit(x, 2)[0] ** 2],
    "insert": [lambda x: np.insert(x, 1, 5.0, axis=0) ** 2],
    "interp": [lambda x: np.interp(x[0], np.arange(4.0) - 2, x[1])],
    "intersect1d": [lambda x: np.intersect1d(x, x)],
    "isclose": [lambda x: np.isclose(x, 0.0)],
    "isin": [lambda x: np.isin(x, [1.0])],
    "ix_": [lambda x: np.ix_(x[0], x[1])[0]],
    "lib.scimath.arccos": [lambda x: em.arccos(x / 9)],
    "lib.scimath.arcsin": [lambda x: em.arcsin(x / 9)],
    "lib.scimath.arctanh": [lambda x: em.arctanh(x / 9)],
    "lib.scimath.logn": [lambda x: em.logn(2, x**2 + 1)],
    "lib.scimath.power": [lambda x: em.power(x, 2)],
    "lib.stride_tricks.sliding_window_view": [
        lambda x: np.lib.stride_tricks.sliding_window_view(x, 2, 1) ** 2
    ],
    "linalg.cholesky": [lambda x: la.cholesky(spd(x))],
    "linalg.cond": [la.cond, lambda x: la.cond(x, "fro")],
    "linalg.cross": [lambda x: la.cross(x[:, :3], x[::-1, :3])],
    "linalg.eig": [lambda x: np.abs(la.eig(x)[0])],
    "linalg.eigh": [lambda x: la.eigh(x + x.T)[0]],
    "linalg.eigvalsh": [lambda x: la.eigvalsh(x + x.T)],
    "linalg.lstsq": [lambda x: la.lstsq(x[:, :2], x[:, 2])[0], lambda x: la.lstsq(x[:, :2], x)[1]],
    "linalg.matmul": [lambda x: la.matmul(x, x.T)],
    "linalg.matrix_power": [lambda x: la.matrix_power(x, 3)],
    "linalg.multi_dot": [lambda x: la.multi_dot([x, x.T, x]), lambda x: la.multi_dot([x[0], x, x[1]])],
    "linalg.norm": [la.norm, lambda x: la.norm(x, 1, axis=0, keepdims=True)],
    "linalg.outer": [lambda x: la.outer(x[0], x[1])],
    "linalg.pinv": [la.pinv, lambda x: la.pinv(x[:, :2]), lambda x: la.pinv(x + x.T, hermitian=True)],
    "linalg.qr": [lambda x: la.qr(x)[1], lambda x: la.qr(x[:, :2])[0]],
    "linalg.slogdet": [lambda x: la.slogdet(x)[1]],
    "linalg.solve": [lambda x: la.solve(x, x[:, 3]), lambda x: la.solve(x, x**2)],
    "linalg.svd": [lambda x: la.svd(x, full_matrices=False)[1]],
    "linalg.tensordot": [lambda x: la.tensordot(x, x.T, axes=1)],
    "linalg.tensorinv": [lambda x: la.tensorinv(np.reshape(x, (4, 2, 2)), ind=1)],
    "linalg.tensorsolve": [
        lambda x: la.tensorsolve(np.reshape(x, (2, 2, 4)), x[:2, :2]),
        lambda x: la.tensorsolve(np.reshape(x, (2, 4, 2)), x[0], axes=(0,)),
    ],
    "linalg.vecdot": [lambda x: la.vecdot(x, x, axis=0)],
    "linspace": [
        lambda x: np.linspace(x[0, 0], x[1, 1], 5) ** 2,
        lambda x: np.linspace(x[0], 2.0, 3, endpoint=False),
        lambda x: np.linspace(0, x[0], 3, axis=1, retstep=True)[0],
    ],
    "logspace": [lambda x: np.logspace(x[0, 0], 2.0, 4)],
    "may_share_memory": [lambda x: np.may_share_memory(x, x)],
    "meshgrid": [
        lambda x: np.meshgrid(x[0], x[1])[0] ** 2,
        lambda x: np.meshgrid(x[0], x[1, :2], indexing="ij")[1] ** 2,
        lambda x: np.meshgrid(x[0], x[1], sparse=True)[1] ** 2,
    ],
    "moveaxis": [lambda x: np.moveaxis(x, 0, 1) ** 2],
    "nanpercentile": [lambda x: np.nanpercentile(x, 30)],
    "nanquantile": [lambda x: np.nanquantile(x, 0.3)],
    "nan_to_num": [np.nan_to_num, lambda x: np.nan_to_num(x + HOLES, nan=2.0) ** 2],
    **{
        name: [lambda x, name=name: getattr(np, name)(x + HOLES, axis=0), getattr(np, name)]
        for name in (
            "nansum",
            "nanmean",
            "nanmax",
            "nanmin",
            "nanprod",
            "nanvar",
            "nanstd",
            "nancumsum",
            "nancumprod",
        )
    },
    "outer": [lambda x: np.outer(x[0], x)],
    "pad": [
        lambda x: np.pad(x, ((1, 2), (0, 1)), constant_values=((1, 2), (3, 4))) ** 2,
        lambda x: np.pad(x, 1, mode="edge") ** 2,
        lambda x: np.pad(x, 1, "reflect") ** 2,
        lambda x: np.pad(x, (2, 1), "wrap") ** 2,
        lambda x: np.pad(x, 2, "symmetric"),
    ],
    "partition": [lambda x: np.partition(x, 1)[:, 1]],
    "percentile": [lambda x: np.percentile(x, 30), lambda x: np.percentile(x, [30, 60], axis=1)],
    "piecewise": [lambda x: np.piecewise(x, [M < 0], [lambda x: -x, lambda x: x])],
    "place": [lambda x: np.place(x, M > 0, [1.0])],
    "poly": [lambda x: np.poly(x[0])],
    "polyadd": [lambda x: np.polyadd(x[0], x[1, :2])],
    "polyder": [lambda x: np.polyder(x[0], 2)],
    "polydiv": [lambda x: np.polydiv(x[0], x[1, :2])[0]],
    "polyfit": [
        lambda x: np.polyfit(np.arange(4.0), x[0], 2),
        lambda x: np.polyfit(x[0], x[1], 1, w=x[2] ** 2),
    ],
    "polyint": [lambda x: np.polyint(x[0]), lambda x: np.polyint(x[0], 2, k=[1.0, 2.0])],
    "polymul": [lambda x: np.polymul(x[0], x[1, :2])],
    "polynomial.polynomial.polygrid2d": [lambda x: P.polygrid2d(x[0], x[1], M)],
    "polynomial.polynomial.polyval2d": [lambda x: P.polyval2d(x[0], x[1], M)],
    "polysub": [lambda x: np.polysub(x[0], x[1, :2])],
    "polyval": [lambda x: np.polyval(x[0], x[1]), lambda x: np.polyval([1.0, 2, 3], x)],
    "put": [lambda x: np.put(x, [0], [1.0])],
    "put_along_axis": [lambda x: np.put_along_axis(x, np.zeros((3, 1), int), 1.0, 1)],
    "putmask": [lambda x: np.putmask(x, M > 0, 1.0)],
    "quantile": [
        lambda x: np.quantile(x, 0.3, axis=0, keepdims=True),
        lambda x: np.quantile(x[0], np.array([0.1, 0.5])),
        *[
            lambda x, m=m: np.quantile(x, 0.3, axis=1, method=m)
            for m in ("nearest", "lower", "midpoint", "hazen", "weibull", "inverted_cdf", "median_unbiased")
        ],
    ],
    "median": [np.median, lambda x: np.median(x, axis=(0, 1), keepdims=True), lambda x: np.median(x, axis=0)],
    "repeat": [
        lambda x: np.repeat(x, 2, 0) ** 2,
        lambda x: np.repeat(x, [1, 2, 3], axis=0) ** 2,
        lambda x: x.repeat(2),
    ],
    "reshape": [lambda x: np.reshape(x, (2, 6)) ** 2],
    "resize": [lambda x: np.resize(x, (5, 4)) ** 2],
    "result_type": [lambda x: np.zeros(2, np.result_type(x, np.float32))],
    "common_type": [lambda x: np.zeros(2, np.common_type(x))],
    "roll": [lambda x: np.roll(x, 1) ** 2, lambda x: np.roll(x, (1, 2), (0, 1)) ** 2],
    "rollaxis": [lambda x: np.rollaxis(x, 1) ** 2],
    "roots": [
        lambda x: np.abs(np.roots(x[0])),
        lambda x: np.abs(np.roots(np.concatenate([[0.0], x[0], [0.0, 0.0]]))),
    ],
    "searchsorted": [lambda x: np.searchsorted([0.0, 1], x)],
    "select": [lambda x: np.select([M > 0, M < -1], [x**2, x], default=0.5)],
    "setdiff1d": [lambda x: np.setdiff1d(x, [1.0])],
    "setxor1d": [lambda x: np.setxor1d(x, [1.0])],
    "shares_memory": [lambda x: np.shares_memory(x, x)],
    "split": [
        lambda x: np.split(x, 2, axis=1)[0],
        lambda x: np.split(x, [1, 3], axis=1)[1],
        lambda x: np.split(x, indices_or_sections=3)[1],
    ],
    "stack": [lambda x: np.stack([x, x], -1) ** 2],
    **{
        name: [lambda x, name=name: getattr(np, name)([x, x]) ** 2]
        for name in ("vstack", "hstack", "column_stack")
    },
    "sum": [np.sum, lambda x: np.sum(a=x), lambda x: x.sum(-1)],
    "swapaxes": [lambda x: np.swapaxes(x, 0, 1) ** 2],
    "take": [
        lambda x: np.take(x, [1, 2], axis=1) ** 2,
        *[lambda x, m=m: np.take(x, [1, 9, -7], mode=m) for m in ("clip", "wrap")],
    ],
    "take_along_axis": [lambda x: np.take_along_axis(x, np.zeros((3, 1), int), 1) ** 2],
    "tensordot": [lambda x: np.tensordot(x, x, axes=([1], [1]))],
    "tile": [lambda x: np.tile(x, 2) ** 2, lambda x: np.tile(x, (2, 1, 3))],
    "tril_indices_from": [lambda x: np.tril_indices_from(x)[0]],
    "trim_zeros": [lambda x: np.trim_zeros(x[0]) ** 2],
    "unique": [
        np.unique,
        lambda x: np.unique(x, return_counts=True, return_index=True)[0],
        lambda x: np.unique(x, axis=0),
    ],
    "union1d": [lambda x: np.union1d(x, [1.0])],
    "unwrap": [lambda x: np.unwrap(3 * x), lambda x: np.unwrap(3 * x, axis=0, period=4.0)],
    "vander": [lambda x: np.vander(x[0]), lambda x: np.vander(x[0], 3, increasing=True)],
    "vdot": [lambda x: np.vdot(x, x)],
    "vsplit": [lambda x: np.vsplit(x, 3)[0] ** 2],
    "where": [lambda x: np.where(x > 0, x, x**2), lambda x: np.where(x > 0)[0]],
    "kron": [lambda x: np.kron(x, x)],
    "inner": [lambda x: np.inner(x, x)],
    "empty_like": [lambda x: 0 * np.nan_to_num(np.empty_like(x))],
}

REFUSED = {
    "bincount",
    "choose",
    "meshgrid",
    "apply_along_axis",
    "apply_over_axes",
    "copyto",
    "einsum_path",
    "fill_diagonal",
    "fix",
    "histogram",
    "histogram2d",
    "histogram_bin_edges",
    "histogramdd",
    "insert",
    "intersect1d",
    "ix_",
    "ediff1d",
    "geomspace",
    "logspace",
    "poly",
    "polyadd",
    "polyder",
    "polyint",
    "polymul",
    "polysub",
    "may_share_memory",
    "nanmedian",
    "nanpercentile",
    "nanquantile",
    "piecewise",
    "place",
    "polydiv",
    "put",
    "put_along_axis",
    "putmask",
    "real_if_close",
    "setdiff1d",
    "setxor1d",
    "shares_memory",
    "sort_complex",
    "trim_zeros",
    "union1d",
    "unique_all",
    "unique_counts",
    "unique_inverse",
    "unique_values",
    "polynomial.polynomial.polygrid2d",
    "polynomial.polynomial.polyval2d",
    *[
        f"lib.scimath.{name}"
        for name in ("arccos", "arcsin", "arctanh", "log", "log10", "log2", "logn", "power", "sqrt")
    ],
    "frexp",
    "nextafter",
}
# Functions of strings, dates, records, files, integers or dtypes, and those that create arrays.
WITHOUT_FLOATS = {
    "busday_count",
    "busday_offset",
    "is_busday",
    "datetime_as_string",
    "genfromtxt",
    "loadtxt",
    "fromfile",
    "fromiter",
    "fromstring",
    "frombuffer",
    "fromfunction",
    "save",
    "savez",
    "savez_compressed",
    "savetxt",
    "packbits",
    "unpackbits",
    "ravel_multi_index",
    "unravel_index",
    "can_cast",
    "min_scalar_type",
    "array2string",
    "array_repr",
    "array_str",
    "empty",
    "zeros",
    "ones",
    "full",
    "eye",
    "identity",
    "tri",
    "arange",
    "array",
    "asarray",
    "asanyarray",
    "ascontiguousarray",
    "asfortranarray",
    "require",
    "isnat",
    "gcd",
    "lcm",
    "bitwise_and",
    "bitwise_or",
    "bitwise_xor",
    "bitwise_count",
    "invert",
    "left_shift",
    "right_shift",
    "in1d",
}


def name_of(function):
    module = (getattr(function, "__module__", "") or "numpy").removeprefix("numpy").lstrip(".")
    return f"{module}.{function.__name__}".lstrip(".")


FUNCTIONS = {name_of(f): f for f in get_overridable_numpy_array_functions()}
TABLE = {
    f"{name} {i}" if i else name: (name, call, S if name.startswith("linalg.") else M)
    for name, f in sorted(FUNCTIONS.items())
    if not name.startswith(("strings.", "char.", "lib.recfunctions.")) and name not in WITHOUT_FLOATS
    for i, call in enumerate(CALLS.get(name, [f]))
}
UFUNCS = {
    u.__name__: u
    for u in get_overridable_numpy_ufuncs()
    if hasattr(np, u.__name__)
    and u.__name__ not in WITHOUT_FLOATS
    and u.__name__ != "clip"
    and u.signature is None
}


def flat(f, x):
    """Return all results of ``f`` in one vector."""
    parts = [np.ravel(y) for y in flatten(f(x))[0]]
    return np.concatenate(parts) if len(parts) > 1 else parts[0]


def check(f, x):
    """Assert that ``f`` returns what NumPy returns, and that both modes are right.

    Values may differ by rounding, because some rules compute in another order: the largest measured
    difference is 6e-16. `autodiff.test_rules` explains the other tolerances.
    """
    t = direction(np.random.default_rng(1), x)
    want = flatten(f(x))[0]
    outs, dots = jvp(f, (x,), (t,))
    for y, dy, w in zip(flatten(outs)[0], flatten(dots)[0], want, strict=True):
        np.testing.assert_allclose(y, w, rtol=1e-12, atol=1e-12)
        assert np.asarray(y).dtype == np.asarray(w).dtype and np.shape(y) == np.shape(w)
        if np.asarray(w).dtype.kind not in "fc":
            assert not np.any(dy)
    if all(np.asarray(w).dtype.kind in "fc" for w in want):
        dy = jvp(lambda x: flat(f, x), (x,), (t,))[1]
        close(dy, differences(lambda x: flat(f, x), (x,), (t,)), DIFFERENCES)
        y, pullback = vjp(lambda x: flat(f, x), x)
        ct = direction(np.random.default_rng(2), y)
        assert pair(ct, dy) == pytest.approx(pair(pullback(ct)[0], t), rel=ROUNDING, abs=ROUNDING)


def refused(name, f, x):
    with pytest.raises(AutodiffError, match=r"test_numpy\.py:\d+ \(") as error:
        grad(lambda x: np.sum(f(x)))(x)
    assert name.rpartition(".")[2] in str(error.value) and "of shape (" in str(error.value)


@pytest.mark.parametrize("case", TABLE)
def test_function_works_as_in_numpy_or_is_refused(case):
    name, call, x = TABLE[case]
    if name in REFUSED:
        refused(name, lambda x: call(x), x.copy())
        return
    check(call, x)
    narrow = x.astype(np.float32)
    for y, w in zip(flatten(jvp(call, (narrow,), (narrow,))[0])[0], flatten(call(narrow))[0], strict=True):
        assert np.asarray(y).dtype == np.asarray(w).dtype


@pytest.mark.parametrize("name", UFUNCS)
def test_ufunc_works_as_in_numpy_or_is_refused(name):
    u = UFUNCS[name]
    x = np.array([0.3, 0.7, 1.6]) / (3 if name.startswith("arc") else 1) + (name == "arccosh")
    call = u if u.nin == 1 else lambda x: u(x, x[::-1] * 1.3 + 0.1)
    if name == "ldexp":
        call = lambda x: u(x, np.array([1, 2, 3]))  # noqa: E731
    refused(name, lambda x: call(x), x) if name in REFUSED else check(call, x)


def test_tables_name_only_existing_functions():
    newer = {"polynomial.polynomial.polygrid2d", "polynomial.polynomial.polyval2d"}  # not in NumPy 2.2
    assert set(CALLS) <= set(FUNCTIONS) | newer
    assert set(REFUSED) <= set(FUNCTIONS) | set(UFUNCS) | newer


OPTIONS = {
    "where": lambda x: np.sum(x, where=M > 0),
    "initial": lambda x: np.max(x, initial=0.0),
    "left": lambda x: np.interp(x[0], np.arange(4.0), x[1], left=0.0),
    "returned": lambda x: np.average(x, returned=True)[0],
    "mode='mean'": lambda x: np.pad(x, 1, mode="mean"),
    "'linear_ramp'": lambda x: np.pad(x, 1, mode="linear_ramp"),
    "'odd'": lambda x: np.pad(x, 1, mode="reflect", reflect_type="odd"),
    "cov": lambda x: np.polyfit(x[0], x[1], 1, cov=True)[0],
    "include_initial": lambda x: np.cumulative_sum(x[0], include_initial=True),
    "order": lambda x: np.ravel(x, order="F"),
}


@pytest.mark.parametrize("option", OPTIONS)
def test_error_names_an_option_without_a_rule(option):
    f = OPTIONS[option]
    f(M)  # NumPy accepts the option
    with pytest.raises(AutodiffError, match=r"test_numpy\.py:\d+") as error:
        grad(lambda x: np.sum(f(x)))(M)
    assert option in str(error.value)


def test_masks_can_be_combined_under_vmap():
    x = np.array([-2.0, -0.5, 0.5, 2.0])
    f = lambda x: np.where((x > -1) & ~(x > 1) | (x < -1) ^ (x < -3), x**2, 0.0)  # noqa: E731
    np.testing.assert_array_equal(vmap(grad(f))(x), [-4.0, -1.0, 1.0, 0.0])


def test_conjugate_can_be_called_as_a_method():
    z = np.array([1 + 2j, 3 - 1j])
    np.testing.assert_array_equal(vjp(lambda z: z.conj() * z, z)[0], z.conj() * z)
    np.testing.assert_array_equal(vjp(lambda z: z.conjugate(), z)[0], z.conj())


SPECIAL = [
    "erfcx",
    "erfi",
    "erfcinv",
    "ndtri",
    "dawsn",
    "exp1",
    "expi",
    "log1p",
    "expm1",
    "exp10",
    "cosm1",
    "loggamma",
    "j0",
    "j1",
    "y0",
    "y1",
    "i0",
    "i1",
    "k0",
    "k1",
    "i0e",
    "i1e",
    "erf",
    "erfc",
    "erfinv",
    "ndtr",
    "log_ndtr",
    "gamma",
    "gammaln",
    "psi",
    "expit",
    "logit",
    "log_expit",
    "entr",
]
SPECIAL_2 = ["xlog1py", "xlogy", "rel_entr", "kl_div", "huber", "pseudo_huber", "beta", "betaln"]
WITH_AN_ORDER = ["jv", "yv", "iv", "kv", "ive", "gammainc", "gammaincc"]


@pytest.mark.parametrize("name", [*SPECIAL, *SPECIAL_2, *WITH_AN_ORDER])
def test_special_function_to_second_order(name):
    u, x = getattr(sp, name), np.array([0.3, 0.55, 0.8])
    if name in WITH_AN_ORDER:
        call = lambda x: u(2, x)  # noqa: E731
        with pytest.raises(AutodiffError, match="order"):
            grad(lambda n: u(n, 0.5))(2.0)
    else:
        call = u if name in SPECIAL else lambda x: u(x, x[::-1] + 0.2)
    check(call, x)
    check(grad(lambda x: np.sum(call(x))), x)


def test_sinc_and_i0_are_exact_at_0():
    d = grad(np.sinc)
    assert [
        float(f(0.0)) for f in (np.sinc, d, grad(d), grad(grad(d)), grad(grad(grad(d))))
    ] == pytest.approx([1, 0, -(np.pi**2) / 3, 0, np.pi**4 / 5])
    assert float(grad(np.i0)(0.0)) == 0 and float(grad(grad(np.i0))(0.0)) == 0.5
