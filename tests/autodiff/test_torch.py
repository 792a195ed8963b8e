"""Gradients and Hessians agree with torch, on a table of functions written for both."""

import numpy as np
import pytest

from eckart.autodiff import grad, hessian

torch = pytest.importorskip("torch")

R = np.random.default_rng(12)
A, B, C = R.standard_normal((3, 4, 4))
P, X, V = A @ A.T + 4 * np.eye(4), R.standard_normal((5, 3)), R.standard_normal(6)
Z = A + 1j * B


def both(np_f, torch_f):
    return np_f, torch_f


tl = torch.linalg
TABLE = {
    "softmax": (
        lambda x: np.sum(np.exp(x) / np.sum(np.exp(x)) * np.arange(6)),
        lambda x: (torch.softmax(x, 0) * torch.arange(6)).sum(),
        V,
    ),
    "gelu": (
        lambda x: np.sum(0.5 * x * (1 + np.tanh(0.8 * (x + 0.04 * x**3)))),
        lambda x: (0.5 * x * (1 + torch.tanh(0.8 * (x + 0.04 * x**3)))).sum(),
        V,
    ),
    "sort": (
        lambda x: np.sort(x) @ np.arange(6.0),
        lambda x: torch.sort(x)[0] @ torch.arange(6.0, dtype=torch.float64),
        V,
    ),
    "cumprod": (lambda x: np.sum(np.cumprod(x) ** 2), lambda x: (torch.cumprod(x, 0) ** 2).sum(), V),
    "logsumexp": (lambda x: np.log(np.sum(np.exp(x))) ** 2, lambda x: torch.logsumexp(x, 0) ** 2, V),
    "std": (lambda x: np.std(x, ddof=1) * np.var(x), lambda x: torch.std(x) * torch.var(x, correction=0), V),
    "norm 3": (lambda x: np.linalg.norm(x, 3), lambda x: tl.vector_norm(x, 3), V),
    "fft": (
        lambda x: np.sum(np.abs(np.fft.fft(x)) ** 3),
        lambda x: (torch.abs(torch.fft.fft(x)) ** 3).sum(),
        V,
    ),
    "det": (np.linalg.det, tl.det, A),
    "slogdet": (lambda a: np.linalg.slogdet(a)[1], lambda a: tl.slogdet(a)[1], A),
    "inv": (lambda a: np.sum(np.linalg.inv(a) * B), lambda a: (tl.inv(a) * torch.tensor(B)).sum(), A),
    "solve": (
        lambda a: np.sum(np.linalg.solve(a, B) ** 2),
        lambda a: (tl.solve(a, torch.tensor(B)) ** 2).sum(),
        P,
    ),
    "cholesky": (
        lambda a: np.sum(np.linalg.cholesky(a) * B),
        lambda a: (tl.cholesky(a) * torch.tensor(B)).sum(),
        P,
    ),
    "qr": (
        lambda a: np.sum(np.linalg.qr(a)[0] * X) + np.sum(np.linalg.qr(a)[1] ** 3),
        lambda a: (tl.qr(a)[0] * torch.tensor(X)).sum() + (tl.qr(a)[1] ** 3).sum(),
        X[::-1].copy(),
    ),
    "svd": (
        lambda a: np.sum(
            np.linalg.svd(a, full_matrices=False)[0] ** 4 * np.linalg.svd(a, full_matrices=False)[1]
        ),
        lambda a: (tl.svd(a, full_matrices=False)[0] ** 4 * tl.svd(a, full_matrices=False)[1]).sum(),
        X,
    ),
    "eigh": (
        lambda a: np.sum(np.linalg.eigh((a + a.T) / 2)[1] ** 4 * B),
        lambda a: (tl.eigh((a + a.T) / 2)[1] ** 4 * torch.tensor(B)).sum(),
        A,
    ),
    "eigvals": (
        lambda a: np.sum(np.abs(np.linalg.eigvals(a)) ** 3),
        lambda a: (torch.abs(tl.eigvals(a)) ** 3).sum(),
        A,
    ),
    "pinv": (lambda a: np.sum(np.linalg.pinv(a) ** 3), lambda a: (tl.pinv(a) ** 3).sum(), X),
    "nuclear": (lambda a: np.linalg.norm(a, "nuc"), lambda a: tl.matrix_norm(a, "nuc"), X),
    "spectral": (lambda a: np.linalg.norm(a, 2), lambda a: tl.matrix_norm(a, 2), X),
    "kron": (lambda a: np.sum(np.kron(a, B) ** 3), lambda a: (torch.kron(a, torch.tensor(B)) ** 3).sum(), A),
    "einsum": (lambda a: np.einsum("ij,jk,ki->", a, a, a), lambda a: torch.einsum("ij,jk,ki->", a, a, a), A),
    "matrix_power": (
        lambda a: np.trace(np.linalg.matrix_power(a, 5)),
        lambda a: torch.trace(tl.matrix_power(a, 5)),
        A,
    ),
}


@pytest.mark.parametrize("name", TABLE)
def test_gradients_and_hessians_agree_with_torch(name):
    f, g, x = TABLE[name]
    t = torch.tensor(x, requires_grad=True)
    (want,) = torch.autograd.grad(g(t), t)
    np.testing.assert_allclose(grad(f)(x), want.numpy(), rtol=1e-9, atol=1e-9)
    H = torch.autograd.functional.hessian(g, torch.tensor(x)).numpy()
    np.testing.assert_allclose(hessian(f)(x), H, rtol=1e-7, atol=1e-7 * np.abs(H).max())


COMPLEX = {
    "abs": (lambda z: np.sum(np.abs(z) ** 3), lambda z: (torch.abs(z) ** 3).sum()),
    "inv": (lambda z: np.sum(np.abs(np.linalg.inv(z)) ** 2), lambda z: (torch.abs(tl.inv(z)) ** 2).sum()),
    "svd": (lambda z: np.linalg.norm(z, "nuc"), lambda z: tl.matrix_norm(z, "nuc")),
    "det": (lambda z: np.real(np.linalg.det(z) ** 2), lambda z: torch.real(tl.det(z) ** 2)),
    "angle": (lambda z: np.sum(np.angle(z)), lambda z: torch.angle(z).sum()),
}


@pytest.mark.parametrize("name", COMPLEX)
def test_complex_gradients_are_conjugates_of_those_of_torch(name):
    f, g = COMPLEX[name]
    t = torch.tensor(Z, requires_grad=True)
    (want,) = torch.autograd.grad(g(t), t)
    np.testing.assert_allclose(grad(f)(Z), np.conj(want.numpy()), rtol=1e-9, atol=1e-10)


def test_gradient_of_a_network_agrees_with_torch():
    W1, W2, b = R.standard_normal((3, 8)), R.standard_normal((8, 2)), R.standard_normal(8)
    y = R.standard_normal((5, 2))

    def loss(p):
        return np.mean((np.tanh(X @ p[0] + p[1]) @ p[2] - y) ** 2)

    ours = grad(loss)((W1, b, W2))
    ts = [torch.tensor(w, requires_grad=True) for w in (W1, b, W2)]
    out = ((torch.tanh(torch.tensor(X) @ ts[0] + ts[1]) @ ts[2] - torch.tensor(y)) ** 2).mean()
    for got, want in zip(ours, torch.autograd.grad(out, ts), strict=True):
        np.testing.assert_allclose(got, want.numpy(), rtol=1e-10)
