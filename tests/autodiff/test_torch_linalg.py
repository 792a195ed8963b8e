"""Linear algebra agrees with torch on random real and complex matrices and stacks of all shapes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eckart.autodiff import grad, hessian
from eckart.autodiff import scipy as asp

torch = pytest.importorskip("torch")
la, tl = np.linalg, torch.linalg


class Library:
    """A library of arrays, with the functions that NumPy and torch name differently."""

    def __init__(self, lib, linalg, real, adjoint, eye, exp):
        self.lib, self.la, self.adjoint, self.eye, self.exp = lib, linalg, adjoint, eye, exp
        self.real = real

    def total(self, x):
        return self.real(x).sum()


NP = Library(np, la, np.real, lambda a: np.conj(np.swapaxes(a, -1, -2)), np.eye, np.exp)
TORCH = Library(torch, tl, torch.real, lambda a: a.mH, lambda n: torch.eye(n, dtype=torch.float64), torch.exp)


def spectral(p, values, vectors, w, fun, inverse):
    return p.total(w * ((vectors * fun(values)[..., None, :]) @ inverse))


def rotated(p, a, w):
    u, s, v = p.la.svd(a, full_matrices=False)
    return spectral(p, s, u, w, lambda s: p.exp(-s), v)


def eig_function(p, a, w):
    values, vectors = p.la.eig(a)
    return spectral(p, values, vectors, w, lambda x: p.exp(-x * p.lib.conj(x)), p.la.inv(vectors))


def eigh_function(p, a, w):
    values, vectors = p.la.eigh(a + p.adjoint(a))
    return spectral(p, values, vectors, w, p.lib.sin, p.adjoint(vectors))


SQUARE = {
    "inv": lambda p, a, w: p.total(p.la.inv(a) * w),
    "det": lambda p, a, w: p.total(p.la.det(a) * w[..., 0, 0]),
    "slogdet": lambda p, a, w: p.total(p.la.slogdet(a)[1] + p.la.slogdet(a)[0] * w[..., 0, 0]),
    "solve": lambda p, a, w: p.total(p.la.solve(a, w) * w),
    "matrix_power": lambda p, a, w: p.total(p.la.matrix_power(a, -2) * w),
    "cholesky": lambda p, a, w: p.total(w * p.la.cholesky(a @ p.adjoint(a) + p.eye(a.shape[-1]))),
    "eigvals": lambda p, a, w: p.total(p.lib.abs(p.la.eigvals(a)) ** 3),
    "eig": eig_function,
    "eig vectors": lambda p, a, w: p.total(p.lib.abs(p.la.eig(a)[1]) ** 4 * w.real),
    "eigh": eigh_function,
    "eigh vectors": lambda p, a, w: p.total(p.lib.abs(p.la.eigh(a + p.adjoint(a))[1]) ** 4 * w.real),
    "eigvalsh": lambda p, a, w: p.total(w.real[..., 0] * p.la.eigvalsh(a + p.adjoint(a))),
    "expm": lambda p, a, w: p.total(w * (asp.expm(a) if p is NP else torch.linalg.matrix_exp(a))),
}
ANY = {
    "svd": rotated,
    "svdvals": lambda p, a, w: p.total(p.la.svdvals(a) ** 3 * w.real[..., 0, :1]),
    "svd vectors": lambda p, a, w: p.total(
        p.lib.abs(p.la.svd(a, full_matrices=False)[2]) ** 4 * w.real[..., :1, :]
    ),
    "pinv": lambda p, a, w: p.total(p.la.pinv(a) * p.adjoint(w)),
    "nuclear": lambda p, a, w: p.total(p.la.matrix_norm(a, ord="nuc")),
    "spectral norm": lambda p, a, w: p.total(p.la.matrix_norm(a, ord=2)),
    "norm 1": lambda p, a, w: p.total(p.la.matrix_norm(a, ord=1)),
    "cond": lambda p, a, w: p.total(p.la.cond(a)),
    "qr": lambda p, a, w: p.total(p.lib.abs(p.la.qr(a)[0]) ** 4) + p.total(p.lib.abs(p.la.qr(a)[1]) ** 2),
}


@settings(max_examples=200, derandomize=True)
@given(
    st.sampled_from([*SQUARE, *ANY]),
    st.integers(0, 10**6),
    st.booleans(),
    st.integers(1, 5),
    st.integers(1, 5),
    st.sampled_from([(), (2,), (2, 1)]),
)
def test_gradients_and_hessians_agree_with_torch(name, seed, of_complex, m, n, stack):
    f, rng = {**SQUARE, **ANY}[name], np.random.default_rng(seed)
    shape = (*stack, m, m if name in SQUARE else n)
    a, w = rng.standard_normal((2, *shape)) + (1j * rng.standard_normal((2, *shape)) if of_complex else 0)
    x = torch.tensor(a, requires_grad=True)
    (want,) = torch.autograd.grad(f(TORCH, x, torch.tensor(w)), x)
    got, want = grad(lambda a: f(NP, a, w))(a), np.conj(want.numpy())  # torch returns the conjugate
    assert np.abs(got - want).max() <= 1e-8 * max(1, np.abs(want).max())
    if not of_complex and a.size <= 9:
        H = torch.autograd.functional.hessian(lambda x: f(TORCH, x, torch.tensor(w)), torch.tensor(a)).numpy()
        assert np.abs(hessian(lambda a: f(NP, a, w))(a) - H).max() <= 1e-6 * max(1, np.abs(H).max())
