"""Random shapes in broadcasting, indexing, reductions and einsum: reverse mode is forward mode transposed.

Both sides of <ct, J t> = <J' ct, t> are sums of at most a few hundred products, which round by about 1e-13.
The tolerances are far above this and far below the effect of a wrong entry.
"""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from eckart.autodiff import jvp, vjp, vmap

QUICK = settings(max_examples=60, derandomize=True)


def check_transpose(f, *xs, seed=0):
    """Assert that <ct, J t> = <J' ct, t> and that the value is that of NumPy; return the value."""
    rng = np.random.default_rng(seed)
    ts = [rng.standard_normal(x.shape) for x in xs]
    y, dy = jvp(f, xs, ts)
    np.testing.assert_array_equal(y, f(*xs))
    ct = rng.standard_normal(np.shape(y))
    cts = vjp(f, *xs)[1](ct)
    assert [c.shape for c in cts] == [x.shape for x in xs]
    left, right = np.sum(ct * dy), sum(np.sum(c * t) for c, t in zip(cts, ts, strict=True))
    np.testing.assert_allclose(left, right, atol=1e-9 * max(1, abs(left)))
    return y


def filled(shape, seed=1):
    return np.random.default_rng(seed).standard_normal(shape)


@QUICK
@given(hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=4, max_side=3))
def test_broadcasting_of_random_shapes(shapes):
    a, b = (filled(s, i) for i, s in enumerate(shapes.input_shapes))
    y = check_transpose(lambda a, b: a * b + np.sin(a - 2 * b), a, b)
    assert y.shape == shapes.result_shape


@QUICK
@given(st.data())
def test_random_basic_indices(data):
    shape = data.draw(hnp.array_shapes(min_dims=1, max_dims=4, max_side=4))
    index = data.draw(hnp.basic_indices(shape, allow_newaxis=True))
    check_transpose(lambda x: x[index] * 2.0, filled(shape))


@QUICK
@given(st.data())
def test_random_array_indices(data):
    shape = data.draw(hnp.array_shapes(min_dims=1, max_dims=4, max_side=4))
    picks = data.draw(hnp.integer_array_indices(shape, result_shape=hnp.array_shapes(max_dims=2, max_side=4)))
    keep = data.draw(st.lists(st.booleans(), min_size=len(shape), max_size=len(shape)))
    index = tuple(p if k else slice(None) for p, k in zip(picks, keep, strict=True))
    x = filled(shape)
    check_transpose(lambda x: x[index] * 2.0, x)
    many = np.stack([x, x + 1])
    np.testing.assert_array_equal(
        vmap(lambda x: x[index] * 2.0)(many), np.stack([a[index] * 2.0 for a in many])
    )


@QUICK
@given(hnp.array_shapes(min_dims=1, max_dims=4, max_side=3), st.data())
def test_reductions_over_random_axes(shape, data):
    axes = data.draw(st.one_of(st.none(), hnp.valid_tuple_axes(len(shape), min_size=1)))
    keep = data.draw(st.booleans())
    for fun in (np.sum, np.mean, np.max, np.prod):
        x = filled(shape)
        y, _ = jvp(lambda x, fun=fun: fun(x, axis=axes, keepdims=keep), (x,), (x,))
        np.testing.assert_allclose(y, fun(x, axis=axes, keepdims=keep), rtol=1e-12)
        rng = np.random.default_rng(5)
        t, ct = rng.standard_normal(x.shape), rng.standard_normal(np.shape(y))
        _, dy = jvp(lambda x, fun=fun: fun(x, axis=axes, keepdims=keep), (x,), (t,))
        (g,) = vjp(lambda x, fun=fun: fun(x, axis=axes, keepdims=keep), x)[1](ct)
        np.testing.assert_allclose(np.sum(ct * dy), np.sum(g * t), atol=1e-10)


@QUICK
@given(
    st.lists(
        st.text("abcd", min_size=1, max_size=3).filter(lambda t: len(set(t)) == len(t)),
        min_size=1,
        max_size=3,
    ),
    st.data(),
)
def test_random_einsum(terms, data):
    letters = sorted(set("".join(terms)))
    out = "".join(data.draw(st.permutations(letters)))[: data.draw(st.integers(0, len(letters)))]
    size = dict(zip("abcd", (2, 3, 1, 4), strict=True))
    spec = ",".join(terms) + "->" + out
    thin = data.draw(st.sampled_from([None, *range(len(terms))]))  # a term whose first axis has length 1
    xs = [filled([1 if i == thin and c == t[0] else size[c] for c in t], i) for i, t in enumerate(terms)]
    rng = np.random.default_rng(3)
    ts = [rng.standard_normal(x.shape) for x in xs]
    f = lambda *a: np.einsum(spec, *a)  # noqa: E731
    y, dy = jvp(f, xs, ts)
    np.testing.assert_allclose(y, f(*xs), rtol=1e-10, atol=1e-10)
    ct = rng.standard_normal(np.shape(y))
    right = sum(np.sum(c * t) for c, t in zip(vjp(f, *xs)[1](ct), ts, strict=True))
    np.testing.assert_allclose(np.sum(ct * dy), right, atol=1e-9 * max(1, abs(right)))


MOVING = {  # functions of an array, two of its axes and an integer that only move entries
    "reshape": lambda x, i, j, n: np.reshape(x, (-1, x.shape[i])),
    "ravel": lambda x, i, j, n: x.ravel(),
    "transpose": lambda x, i, j, n: np.transpose(x, np.roll(range(x.ndim), n)),
    "swapaxes": lambda x, i, j, n: x.swapaxes(i, -1 - j),
    "moveaxis": lambda x, i, j, n: np.moveaxis(x, i, j),
    "moveaxis of two": lambda x, i, j, n: np.moveaxis(x, (i, j), (j, i)) if i != j else x,
    "rollaxis": lambda x, i, j, n: np.rollaxis(x, i, j),
    "expand_dims": lambda x, i, j, n: (
        np.expand_dims(x, (i, -1 - j)) if i + j <= x.ndim else np.expand_dims(x, i)
    ),
    "squeeze": lambda x, i, j, n: np.squeeze(x),
    "atleast_3d": lambda x, i, j, n: np.atleast_3d(x),
    "flip": lambda x, i, j, n: np.flip(x, (i, j)) if i != j else np.flip(x),
    "roll": lambda x, i, j, n: np.roll(x, (n, 1), (i, j)),
    "repeat": lambda x, i, j, n: np.repeat(x, n, axis=i),
    "tile": lambda x, i, j, n: np.tile(x, (n, 2)),
    "delete": lambda x, i, j, n: np.delete(x, 0, i),
    "diagonal": lambda x, i, j, n: np.diagonal(x, n - 1, i, j) if i != j else x,
    "stack": lambda x, i, j, n: np.stack([x, 0 * x, x], i),
    "concatenate": lambda x, i, j, n: np.concatenate([x] * (n + 1), -1 - i),
    "vstack": lambda x, i, j, n: np.vstack([x, x]),
    "hstack": lambda x, i, j, n: np.hstack([x, x]),
    "dstack": lambda x, i, j, n: np.dstack([x, x]),
    "split": lambda x, i, j, n: np.array_split(x, n + 1, i)[n],
    "pad": lambda x, i, j, n: np.pad(x, n),
    "pad, wrap": lambda x, i, j, n: np.pad(x, n, "wrap"),
    "compress": lambda x, i, j, n: np.compress([True], x, axis=i),
    "fftshift": lambda x, i, j, n: np.fft.fftshift(x, i),
    "take": lambda x, i, j, n: np.take(x, [0, -1, 0], axis=i),
    "sort by keys": lambda x, i, j, n: np.take_along_axis(x, np.zeros((1,) * x.ndim, int), i),
}


@QUICK
@given(hnp.array_shapes(min_dims=1, max_dims=4, max_side=3), st.data())
def test_functions_that_move_entries_move_tangents_the_same_way(shape, data):
    i, j = (data.draw(st.integers(0, len(shape) - 1)) for _ in range(2))
    n, batch = data.draw(st.integers(0, 2)), np.stack([filled(shape, k) for k in range(2)])
    for name, function in MOVING.items():
        f = lambda x, function=function: function(x, i, j, n)  # noqa: E731
        x, t = batch
        np.testing.assert_array_equal(jvp(f, (x,), (t,))[1], f(t), err_msg=name)
        np.testing.assert_array_equal(vmap(f)(batch), np.stack([f(x), f(t)]), err_msg=name)
        check_transpose(f, x)
