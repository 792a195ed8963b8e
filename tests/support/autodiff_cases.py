"""One table of functions and arguments that the property tests of `eckart.autodiff` run over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.special as sp

from eckart import autodiff as ad
from eckart.autodiff import scipy as asp


@dataclass(frozen=True)
class Case:
    """A function and arguments at which it is twice differentiable; ``float32`` also tests it in float32."""

    name: str
    f: Callable[..., Any]
    args: tuple[Any, ...]
    float32: bool = True

    def __repr__(self) -> str:
        return self.name


def arrays(seed: int, *shapes: tuple[int, ...]) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    return tuple(rng.standard_normal(s) for s in shapes)


def complex_arrays(seed: int, *shapes: tuple[int, ...]) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    return tuple(rng.standard_normal(s) + 1j * rng.standard_normal(s) for s in shapes)


def sym(a: Any) -> Any:
    return (a + np.conj(np.swapaxes(a, -1, -2))) / 2


def spd(a: Any) -> Any:
    n = a.shape[-1]
    return a @ np.conj(np.swapaxes(a, -1, -2)) + n * np.eye(n)


V, M, W, T3 = arrays(1, (4,), (3, 4), (4, 3), (2, 3, 4))
S, S2 = arrays(2, (4, 4), (4, 4))
STACK = arrays(3, (2, 3, 3))[0]
TALL, WIDE = arrays(4, (5, 3), (3, 5))
POS = np.abs(M) + 0.5
CZ, CS, CT = complex_arrays(5, (3, 4), (3, 3), (4, 3))
ONE = np.float64(0.7)
IDX = np.array([0, 2, 2, 1])
MASK = np.array([True, False, True])


def elementwise() -> list[Case]:
    unary = {
        "sin": M,
        "cos": M,
        "tan": M,
        "arcsin": M / 4,
        "arccos": M / 4,
        "arctan": M,
        "sinh": M,
        "cosh": M,
        "tanh": M,
        "arcsinh": M,
        "arccosh": POS + 1,
        "arctanh": M / 4,
        "exp": M,
        "expm1": M,
        "exp2": M,
        "log": POS,
        "log2": POS,
        "log10": POS,
        "log1p": POS,
        "sqrt": POS,
        "square": M,
        "reciprocal": POS,
        "negative": M,
        "positive": M,
        "abs": M,
        "fabs": M,
        "deg2rad": M,
        "rad2deg": M,
        "cbrt": M,
    }
    out = [Case(name, getattr(np, name), (x,)) for name, x in unary.items()]
    special = {
        "expit": M,
        "logit": np.clip(POS / 5, 0.1, 0.9),
        "log_expit": M,
        "erf": M,
        "erfc": M,
        "erfinv": M / 4,
        "ndtr": M,
        "log_ndtr": M,
        "gamma": POS,
        "gammaln": POS,
        "psi": POS,
        "entr": POS,
    }
    out += [Case(f"special.{name}", getattr(sp, name), (x,)) for name, x in special.items()]
    shapes = {
        "same": (M, M[::-1] + 3),
        "row": (M, V + 3),
        "column": (M[:, :1], V[None] + 3),
        "0-d": (M, ONE + 3),
        "3-d": (T3, V + 3),
        "ones": (M[:1, :1], T3 + 4),
    }
    for name in (
        "add",
        "subtract",
        "multiply",
        "divide",
        "maximum",
        "minimum",
        "logaddexp",
        "logaddexp2",
        "arctan2",
        "hypot",
    ):
        out += [Case(f"{name} {kind}", getattr(np, name), args) for kind, args in shapes.items()]
    out += [
        Case("power", np.power, (POS, M)),
        Case("power broadcast", np.power, (POS, V)),
        Case("x**2", lambda x: x**2, (M,)),
        Case("x**3", lambda x: x**3, (M,)),
        Case("x**-1", lambda x: x**-1, (POS,)),
        Case("x**0.5", lambda x: x**0.5, (POS,)),
        Case("2**x", lambda x: 2.0**x, (M,)),
        Case("x**1", lambda x: x**1, (M,)),
        Case("x**0", lambda x: x**0 + x, (M,)),
        Case("x**2 at 0", lambda x: x**2, (np.zeros(3),)),
        Case("remainder", np.remainder, (POS * 3, np.full(4, 1.3))),
        Case("fmod", np.fmod, (POS * 3, np.full(4, 1.3))),
        Case("copysign", np.copysign, (M, -M)),
        Case("xlogy", sp.xlogy, (POS, POS[::-1])),
        Case("scalars", lambda x, y: x * y + np.sin(x) / y, (2.0, 3.0), float32=False),
        Case("empty", lambda x: np.sin(x) * x, (np.zeros((0, 3)),)),
        Case("0-d", np.sin, (np.array(0.3),)),
        Case("operators", lambda x, y: (2 - x) / (y + 5) - (-x) * 3 + (+y) % 7.0, (M, POS)),
        Case("abs complex", np.abs, (CZ,)),
        Case("sign complex", np.sign, (CZ,)),
        Case("exp complex", np.exp, (CZ,)),
        Case("product complex", lambda z, x: z * x, (CZ, M)),
        Case("real to complex", lambda x: np.exp(1j * x), (M,)),
        Case("conj", lambda z: np.conj(z) * z * z, (CZ,)),
        Case("real imag", lambda z: z.real * z.imag**2, (CZ,)),
        Case("angle", np.angle, (CZ,)),
        Case("log complex", np.log, (CZ,)),
    ]
    return out


def shapes() -> list[Case]:
    return [
        Case("reshape", lambda x: np.reshape(x, (2, -1)) ** 2, (M,)),
        Case("ravel", lambda x: np.sin(x.ravel()), (M,)),
        Case("T", lambda x: x.T * x.T, (M,)),
        Case("transpose", lambda x: np.transpose(x, (2, 0, 1)) ** 2, (T3,)),
        Case("mT", lambda x: x.mT**2, (T3,)),
        Case("swapaxes", lambda x: np.swapaxes(x, 0, 2) ** 2, (T3,)),
        Case("moveaxis", lambda x: np.moveaxis(x, 0, -1) ** 2, (T3,)),
        Case("expand", lambda x: np.expand_dims(x, (0, 2)) ** 2, (M,)),
        Case("squeeze", lambda x: np.squeeze(x[:, :1]) ** 2, (M,)),
        Case("broadcast_to", lambda x: np.broadcast_to(x, (2, 3, 4)) ** 2, (M,)),
        Case("broadcast_arrays", lambda x, y: np.multiply(*np.broadcast_arrays(x, y)), (M, V)),
        Case("slice", lambda x: x[1:, ::-2] ** 2, (M,)),
        Case("newaxis", lambda x: x[:, None, 1] ** 2, (M,)),
        Case("ellipsis", lambda x: x[..., 0] ** 2, (T3,)),
        Case("integer", lambda x: x[1, 2] ** 2, (M,)),
        Case("fancy repeated", lambda x: x[IDX] ** 2, (V,)),
        Case("fancy two", lambda x: x[[0, 1, 1], [1, 2, 2]] ** 2, (M,)),
        Case("fancy apart", lambda x: x[[0, 1, 1], :, [1, 2, 2]] ** 2, (T3,)),
        Case("fancy int slice", lambda x: x[0, :, IDX] ** 2, (T3,)),
        Case("mask", lambda x: x[MASK] ** 2, (M,)),
        Case("mask 2-d", lambda x: x[M > 0] ** 2, (M,)),
        Case("iterate", lambda x: sum(row**2 for row in x), (M,)),
        Case("take", lambda x: np.take(x, IDX, axis=1) ** 2, (M,)),
        Case("take flat", lambda x: np.take(x, [0, 5, 5]) ** 2, (M,)),
        Case(
            "take_along_axis",
            lambda x: np.take_along_axis(x, np.array([[0, 0], [1, 3], [2, 2]]), 1) ** 2,
            (M,),
        ),
        Case("concatenate", lambda x, y: np.concatenate([x, y, x]) ** 2, (M, T3[0])),
        Case("concatenate flat", lambda x, y: np.concatenate([x, y], axis=None) ** 2, (M, V)),
        Case("stack", lambda x, y: np.stack([x, y, x], axis=1) ** 2, (M, T3[0])),
        Case("vstack", lambda x, y: np.vstack([x, y]) ** 2, (M, V)),
        Case("hstack", lambda x, y: np.hstack([x, y]) ** 2, (M, T3[0])),
        Case("column_stack", lambda x, y: np.column_stack([x, y]) ** 2, (V, W)),
        Case("block", lambda x, y: np.block([[x, y], [y, x]]) ** 2, (S, S2)),
        Case("append", lambda x, y: np.append(x, y) ** 2, (M, V)),
        Case("split", lambda x: np.multiply(*np.split(x, 2, axis=1)), (M,)),
        Case("array_split", lambda x: np.array_split(x, 3)[1] ** 2, (V,)),
        Case("split at", lambda x: np.split(x, [1, 3])[1] ** 2, (V,)),
        Case("flip", lambda x: np.flip(x, 1) * x, (M,)),
        Case("rot90", lambda x: np.rot90(x) ** 2, (M,)),
        Case("roll", lambda x: np.roll(x, 2, 1) * x, (M,)),
        Case("roll flat", lambda x: np.roll(x, -1) * x, (M,)),
        Case("repeat", lambda x: np.repeat(x, 2, axis=1) ** 2, (M,)),
        Case("tile", lambda x: np.tile(x, (2, 1, 3)) ** 2, (M,)),
        Case("pad", lambda x: np.pad(x, ((1, 0), (2, 1))) ** 2, (M,)),
        Case("pad reflect", lambda x: np.pad(x, 1, mode="reflect") ** 2, (M,)),
        Case("where", lambda x, y: np.where(x > 0, x * y, y**2), (M, V)),
        Case("where scalar", lambda x: np.where(x > 0, x**2, 0.0), (M,)),
        Case("clip", lambda x: np.clip(x, -0.5, 0.5) * x, (M,)),
        Case("tril", lambda x: np.tril(x) ** 2, (S,)),
        Case("triu", lambda x: np.triu(x, 1) ** 2, (T3,)),
        Case("diagonal", lambda x: np.diagonal(x, 1) ** 2, (M,)),
        Case("diag of matrix", lambda x: np.diag(x, -1) ** 2, (M,)),
        Case("diag of vector", lambda x: np.diag(x, 1) @ np.diag(x, 1) + np.diag(x, 1) ** 2, (V,)),
        Case("diff", lambda x: np.diff(x, 2) ** 2, (M,)),
        Case("astype", lambda x: x.astype(np.float64) ** 2, (M,), float32=False),
        Case("sort", lambda x: np.sort(x, axis=0) * W.T, (M,)),
        Case("sort flat", lambda x: np.sort(x, axis=None) ** 2, (M,)),
        Case("partition", lambda x: np.partition(x, 2, axis=1)[:, 2] ** 2, (M,)),
    ]


def reductions() -> list[Case]:
    zeros = np.array([[1.5, 0.0, 2.0], [0.0, 3.0, 0.0], [1.0, 2.0, 3.0]])
    out = []
    for name in ("sum", "mean", "prod", "max", "min", "var", "std"):
        fun = getattr(np, name)
        out += [
            Case(f"{name} all", lambda x, fun=fun: fun(x) ** 2, (M,)),
            Case(f"{name} axis", lambda x, fun=fun: fun(x, axis=1) ** 2, (T3,)),
            Case(f"{name} axes", lambda x, fun=fun: fun(x, axis=(0, -1), keepdims=True) ** 2 * x, (T3,)),
        ]
    return [
        *out,
        Case("prod zeros", lambda x: np.prod(x, axis=1), (zeros,)),
        Case("prod all zeros", np.prod, (zeros[0],)),
        Case("cumprod zeros", lambda x: np.cumprod(x, axis=1), (zeros,)),
        Case("cumprod", lambda x: np.cumprod(x, 0), (M,)),
        Case("prod empty", lambda x: np.prod(x, axis=0) + np.sum(x), (np.zeros((0, 3)),)),
        Case("cumsum", lambda x: np.cumsum(x, 1) ** 2, (M,)),
        Case("cumsum flat", lambda x: np.cumsum(x) ** 2, (M,)),
        Case("ptp", lambda x: np.ptp(x, axis=0) ** 2, (M,)),
        Case("median", lambda x: np.median(x, axis=1) ** 2, (M,)),
        Case("median odd", lambda x: np.median(x) ** 2, (TALL,)),
        Case("average", lambda x, w: np.average(x, axis=1, weights=w), (M, np.abs(V) + 1)),
        Case("trapezoid", lambda y, x: np.trapezoid(y, np.cumsum(x**2)), (V, V + 3)),
        Case("interp", lambda x, y: np.interp(x, np.arange(4.0), y) ** 2, (np.array([0.3, 1.7, 2.2]), V)),
        Case("logsumexp", lambda x: asp.logsumexp(x, axis=1), (M,)),
        Case("softmax", lambda x: asp.softmax(x, axis=-1), (M,)),
        Case("log_softmax", lambda x: asp.log_softmax(x, axis=0), (M,)),
        Case("sum complex", lambda z: np.sum(z * z, axis=0), (CZ,)),
        Case("var complex", lambda z: np.var(z, axis=0), (CZ,)),
        Case("norm 2 complex", lambda z: np.linalg.norm(z, axis=0), (CZ,)),
    ]


def products() -> list[Case]:
    return [
        Case("matmul", np.matmul, (M, W)),
        Case("matmul vector", lambda a, x: a @ x, (M, V)),
        Case("vector matmul", lambda x, a: x @ a, (V, W)),
        Case("inner vectors", lambda x, y: x @ y, (V, V[::-1])),
        Case("matmul stack", np.matmul, (T3, W)),
        Case("matmul stack left", np.matmul, (S[:3], W[None] + T3[:1].mT)),
        Case("stack vector", np.matmul, (T3, V)),
        Case("vector stack", np.matmul, (V, T3.mT)),
        Case("matmul stacks", np.matmul, (T3, T3.mT[::-1])),
        Case("matmul complex", np.matmul, (CZ, CT)),
        Case("matmul known left", lambda x: M @ x, (W,)),
        Case("dot", np.dot, (M, W)),
        Case("dot 3-d", np.dot, (M, T3.mT)),
        Case("dot scalar", np.dot, (M, ONE)),
        Case("inner", np.inner, (M, T3)),
        Case("outer", np.outer, (V, M)),
        Case("vdot", np.vdot, (CZ, CT)),
        Case("tensordot", lambda a, b: np.tensordot(a, b, 1), (T3, W)),
        Case("tensordot axes", lambda a, b: np.tensordot(a, b, ([2, 1], [1, 0])), (T3, M)),
        Case("kron", np.kron, (M, S[:2, :2])),
        Case("kron vector", np.kron, (V, M)),
        Case("trace", lambda x: np.trace(x @ x), (S,)),
        Case("trace offset", lambda x: np.trace(x * x, 1), (M,)),
        Case("cross", np.cross, (TALL, TALL[::-1].copy())),
        Case("convolve", np.convolve, (V, TALL[:3, 0])),
        Case("convolve same", lambda a, b: np.convolve(a, b, "same"), (V, TALL[:3, 0])),
        Case("einsum ij,jk", lambda a, b: np.einsum("ij,jk->ik", a, b), (M, W)),
        Case("einsum implicit", lambda a, b: np.einsum("ij,jk", a, b), (M, W)),
        Case("einsum trace", lambda a: np.einsum("ii", a @ a), (S,)),
        Case("einsum diagonal", lambda a: np.einsum("ii->i", a) ** 2, (S,)),
        Case("einsum lone", lambda a, b: np.einsum("ij,k->k", a, b), (M, V)),
        Case("einsum three", lambda a, b, c: np.einsum("ij,jk,kl->il", a, b, c), (M, W, M)),
        Case("einsum dots", lambda a, b: np.einsum("...ij,...jk->...ik", a, b), (T3, W)),
        Case("einsum same", lambda a: np.einsum("ij,ij->", a, a), (M,)),
        Case("einsum transpose", lambda a: np.einsum("ij->ji", a) ** 2, (M,)),
        Case("einsum outer", lambda a, b: np.einsum("i,j->ij", a, b), (V, V)),
        Case("fft", np.fft.fft, (CZ,)),
        Case("fft real", np.fft.fft, (M,)),
        Case("ifft n", lambda z: np.fft.ifft(z, 6, axis=0), (CZ,)),
        Case("fft cut", lambda z: np.fft.fft(z, 3, norm="ortho"), (CZ,)),
        Case("rfft", np.fft.rfft, (M,)),
        Case("irfft", np.fft.irfft, (CZ,)),
        Case("irfft odd", lambda z: np.fft.irfft(z, 5), (CZ,)),
        Case("fft2", np.fft.fft2, (CZ,)),
        Case("ifftn", np.fft.ifftn, (CZ,)),
        Case("fftshift", lambda x: np.fft.fftshift(x) * x, (M,)),
        Case("ifftshift", lambda x: np.fft.ifftshift(x, 1) * x, (M,)),
    ]


def linalg() -> list[Case]:
    la = np.linalg
    singular = np.outer(V, V[::-1])[:3, :3] + np.diag([1.0, 0, 0])  # rank 2
    tied = np.diag([2.0, 2.0, 1.0]) @ la.qr(S[:3, :3])[0]
    tie = la.qr(TALL)[0] * np.array([3.0, 3.0, 1.0]) @ la.qr(STACK[0])[0]  # singular values 3, 3, 1
    eigval = la.qr(S)[0] * np.array([1.0, 1.0, 2.0, 3.0]) @ la.qr(S)[0].T
    return [
        Case("inv", la.inv, (S,)),
        Case("inv stack", la.inv, (STACK,)),
        Case("inv complex", la.inv, (CS,)),
        Case("solve", la.solve, (S, W)),
        Case("solve vector", la.solve, (S, V)),
        Case("solve stack", la.solve, (STACK, STACK[0, :, :2])),
        Case("solve complex", la.solve, (CS, CZ)),
        Case("det", la.det, (S,)),
        Case("det stack", la.det, (STACK,)),
        Case("det complex", la.det, (CS,)),
        Case("det singular", la.det, (singular,)),
        Case("det rank 1", la.det, (np.outer(V[:3], V[1:]),)),
        Case("det 2x2 zero", la.det, (np.zeros((2, 2)),)),
        Case("slogdet", lambda a: la.slogdet(a)[1], (S,)),
        Case("slogdet complex", lambda a: la.slogdet(a).sign * la.slogdet(a).logabsdet, (CS,)),
        Case("cholesky", lambda a: la.cholesky(spd(a)), (S,)),
        Case("cholesky stack", lambda a: la.cholesky(spd(a)), (STACK,)),
        Case("cholesky complex", lambda a: la.cholesky(spd(a)), (CS,)),
        Case("cholesky upper", lambda a: la.cholesky(spd(a), upper=True), (S,)),
        Case("qr Q", lambda a: la.qr(a).Q, (TALL,)),
        Case("qr R", lambda a: la.qr(a)[1], (TALL,)),
        Case("qr square", lambda a: np.multiply(*la.qr(a)), (S,)),
        Case("qr wide", lambda a: np.concatenate(la.qr(a), 1), (WIDE,)),
        Case("qr r", lambda a: la.qr(a, mode="r"), (WIDE,)),
        Case("qr stack", lambda a: la.qr(a)[0], (STACK,)),
        Case("qr complex", lambda a: np.concatenate(la.qr(a)), (CT,)),
        Case("svdvals", la.svdvals, (TALL,)),
        Case(
            "svd thin",
            lambda a: np.concatenate(
                [la.svd(a, full_matrices=False)[0] ** 2, la.svd(a, full_matrices=False)[2] ** 2]
            ),
            (TALL,),
        ),
        Case("svd wide", lambda a: (la.svd(a, full_matrices=False).Vh) ** 2, (WIDE,)),
        Case("svd square", lambda a: la.svd(a)[0] * la.svd(a)[2].T, (S,)),
        Case(
            "svd product",
            lambda a: (
                (la.svd(a, full_matrices=False)[0] * la.svd(a, full_matrices=False)[1][..., None, :])
                @ la.svd(a, full_matrices=False)[2]
            ),
            (STACK,),
        ),
        Case("svd full", lambda a: (lambda u: u @ u.T)(la.svd(a)[0][:, 3:]), (TALL,)),
        Case(
            "svd truncated",
            lambda a: (
                (la.svd(a, full_matrices=False)[0][:, :2] * la.svd(a, full_matrices=False)[1][:2] ** 2)
                @ la.svd(a, full_matrices=False)[2][:2]
            ),
            (TALL,),
        ),
        Case(
            "svd complex",
            lambda a: (lambda u, s, vh: (u * np.exp(-s)) @ vh)(*la.svd(a, full_matrices=False)),
            (CT,),
        ),
        Case("eigh", lambda a: la.eigh(sym(a))[1] ** 2, (S,)),
        Case("eigvalsh", lambda a: la.eigvalsh(sym(a)), (S,)),
        Case("eigh stack", lambda a: la.eigh(sym(a))[1] ** 2, (STACK,)),
        Case(
            "eigh complex", lambda a: (lambda w, v: (v * np.exp(w)) @ np.conj(v.T))(*la.eigh(sym(a))), (CS,)
        ),
        Case("eigh upper", lambda a: la.eigh(sym(a), "U")[1] ** 2, (S,)),
        Case("eig values", lambda a: la.eig(a)[0], (S,), float32=False),
        Case("eigvals", lambda a: np.abs(la.eigvals(a)), (S,), float32=False),
        Case(
            "eig function", lambda a: (lambda w, v: (v * w**3) @ la.inv(v))(*la.eig(a)), (S,), float32=False
        ),
        Case("pinv", la.pinv, (TALL,)),
        Case("pinv wide", la.pinv, (WIDE,)),
        Case("pinv complex", la.pinv, (CT,)),
        Case("lstsq", lambda a, b: la.lstsq(a, b)[0], (TALL, STACK[0, :, 0].repeat(2)[:5])),
        Case("lstsq residual", lambda a, b: la.lstsq(a, b)[1], (TALL, WIDE.T[:, :2])),
        Case("lstsq wide", lambda a, b: la.lstsq(a, b)[0], (WIDE, V[:3])),
        Case("matrix_power", lambda a: la.matrix_power(a, 5), (S,)),
        Case("matrix_power -2", lambda a: la.matrix_power(a, -2), (S,)),
        Case("matrix_power 0", lambda a: la.matrix_power(a, 0) + a, (STACK,)),
        Case("multi_dot", lambda a, b, c: la.multi_dot([a, b, c]), (V, W, M)),
        Case("multi_dot 4", lambda a, b, c, d: la.multi_dot([a, b, c, d]), (M, W, M, V)),
        Case("linalg.diagonal stack", lambda a: la.diagonal(a, offset=1) ** 2, (T3,)),
        Case("tensorinv", lambda a: la.tensorinv(a, 1), (np.reshape(S, (4, 2, 2)),)),
        Case("cond", la.cond, (S,)),
        Case("cond 1", lambda a: la.cond(a, 1), (S,)),
        Case("norm", la.norm, (M,)),
        Case("norm 3-d", la.norm, (T3,)),
        Case("norm axis", lambda x: la.norm(x, axis=1), (M,)),
        Case("norm keep", lambda x: x / la.norm(x, axis=(0, 2), keepdims=True), (T3,)),
        *[
            Case(f"norm {p} vector", lambda x, p=p: la.norm(x, p), (V,))
            for p in (1, 2, 3, 2.5, np.inf, -np.inf, -1)
        ],
        *[
            Case(f"norm {p} matrix", lambda x, p=p: la.norm(x, p), (M,))
            for p in ("fro", "nuc", 1, -1, 2, -2, np.inf, -np.inf)
        ],
        *[
            Case(f"norm {p} stack", lambda x, p=p: la.norm(x, p, axis=(0, 2)), (T3,))
            for p in ("fro", "nuc", 1, 2)
        ],
        Case("vector_norm", lambda x: la.vector_norm(x, axis=0, ord=3), (M,)),
        Case("matrix_norm", lambda x: la.matrix_norm(x, ord="nuc"), (T3,)),
        Case("expm", asp.expm, (S,)),
        Case("expm stack", asp.expm, (STACK,)),
        Case("sqrtm", lambda a: asp.sqrtm(spd(a)), (S,)),
        Case("logm", lambda a: asp.logm(spd(a)), (S,)),
        Case("sinm", asp.sinm, (S,)),
        Case("cosm", asp.cosm, (S,)),
        Case("solve_triangular", lambda a, b: asp.solve_triangular(a, b, lower=True), (S + 4 * np.eye(4), W)),
        Case(
            "solve_triangular T", lambda a, b: asp.solve_triangular(a, b, trans=1, unit_diagonal=True), (S, V)
        ),
        Case("solve_triangular stack", asp.solve_triangular, (STACK + 2 * np.eye(3), STACK)),
        Case("low_rank", lambda a: ad.low_rank(a, 2), (TALL,)),
        Case("low_rank wide", lambda a: ad.low_rank(a, 1), (WIDE,)),
        Case("low_rank ties", lambda a: ad.low_rank(a, 2), (tie,)),
        Case("low_rank complex", lambda a: ad.low_rank(a, 1), (CZ,)),
        Case("low_rank stack", lambda a: ad.low_rank(a, 2), (STACK,)),
        Case("polar", ad.polar, (TALL,)),
        Case("polar ties", ad.polar, (tie,)),
        Case("polar wide", ad.polar, (WIDE,)),
        Case("polar square tied", ad.polar, (tied,)),
        Case("polar complex", ad.polar, (CT,)),
        Case("soft_threshold", ad.soft_threshold, (TALL, np.float64(0.5))),
        Case("soft_threshold ties", ad.soft_threshold, (tie, np.float64(1.5))),
        Case("nuclear_norm", ad.nuclear_norm, (M,)),
        Case("nuclear_norm ties", ad.nuclear_norm, (tie,)),
        Case("nuclear_norm stack", ad.nuclear_norm, (STACK,)),
        Case("nuclear_norm complex", ad.nuclear_norm, (CZ,)),
        Case("eigfun", lambda a: ad.eigfun(sym(a), np.exp, np.exp, np.exp), (S,)),
        Case("eigfun ties", lambda a: ad.eigfun(sym(a), np.exp, np.exp, np.exp), (eigval,)),
        Case("eigfun at 1", lambda a: ad.eigfun(sym(a), np.exp, np.exp, np.exp), (np.eye(3),)),
        Case("eigfun complex", lambda a: ad.eigfun(sym(a), np.sin, np.cos, lambda w: -np.sin(w)), (CS,)),
        Case(
            "svdfun",
            lambda a: ad.svdfun(
                a, np.tanh, lambda s: 1 / np.cosh(s) ** 2, lambda s: -2 * np.tanh(s) / np.cosh(s) ** 2
            ),
            (TALL,),
        ),
        Case(
            "svdfun ties",
            lambda a: ad.svdfun(
                a, np.tanh, lambda s: 1 / np.cosh(s) ** 2, lambda s: -2 * np.tanh(s) / np.cosh(s) ** 2
            ),
            (tie,),
        ),
    ]


CASES = [*elementwise(), *shapes(), *reductions(), *products(), *linalg()]
assert len({c.name for c in CASES}) == len(CASES)
