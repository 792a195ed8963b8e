"""The worked models of docs/calculus agree with torch and SciPy, and do not depend on the starting point."""

from __future__ import annotations

import doctest
import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import scipy.integrate
import scipy.optimize
import scipy.special

from support.pages import DOCS, Page

FOLDER = DOCS / "calculus"


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("worked_transformer", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def names_of(page: str, stop: str) -> dict[str, Any]:
    """Run a page up to the example that contains ``stop`` and return its names."""
    parse = doctest.DocTestParser().get_examples
    examples = [e for block in Page(FOLDER / page).blocks if block.is_doctest for e in parse(block.text)]
    at = next(i for i, e in enumerate(examples) if stop in e.source)
    test = doctest.DocTest(examples[: at + 1], {}, page, page, 0, None)
    assert not doctest.DocTestRunner().run(test, out=lambda text: None, clear_globs=False).failed
    return test.globs


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("heads", [1, 2, 4])
def test_transformer_layer_agrees_with_torch(heads: int, causal: bool) -> None:
    torch = pytest.importorskip("torch")
    ours = load(FOLDER / "transformer.py")
    rng = np.random.default_rng(heads)
    p = ours.parameters(rng, d=8, hidden=12)
    x, dy = rng.standard_normal((2, 3, 6, 8))
    layer = torch.nn.TransformerEncoderLayer(
        8, heads, 12, dropout=0.0, activation="gelu", batch_first=True, norm_first=True, dtype=torch.float64
    )
    state = {
        "self_attn.in_proj_weight": np.concatenate([p[f"W{n}"].T for n in "qkv"]),
        "self_attn.in_proj_bias": np.concatenate([p[f"b{n}"] for n in "qkv"]),
        "self_attn.out_proj.weight": p["Wo"].T,
        "self_attn.out_proj.bias": p["bo"],
        "linear1.weight": p["W1"].T,
        "linear1.bias": p["b1"],
        "linear2.weight": p["W2"].T,
        "linear2.bias": p["b2"],
        "norm1.weight": p["gain1"],
        "norm1.bias": p["shift1"],
        "norm2.weight": p["gain2"],
        "norm2.bias": p["shift2"],
    }
    layer.load_state_dict({name: torch.tensor(w) for name, w in state.items()})
    mask = torch.triu(torch.ones(6, 6, dtype=torch.bool), 1) if causal else None
    t = torch.tensor(x, requires_grad=True)
    out = layer(t, src_mask=mask)
    out.backward(torch.tensor(dy))

    y, cache = ours.forward(p, x, heads, causal)
    grads, dx = ours.backward(p, cache, dy, heads)
    # the order of summation differs, and the layer norm multiplies the rounding by its condition number
    close = {"rtol": 1e-10, "atol": 1e-11}
    np.testing.assert_allclose(y, out.detach().numpy(), **close)
    np.testing.assert_allclose(dx, t.grad.numpy(), **close)
    theirs = {name: w.grad.numpy() for name, w in layer.named_parameters()}
    stacked_w = np.concatenate([grads[f"W{n}"].T for n in "qkv"])
    np.testing.assert_allclose(stacked_w, theirs["self_attn.in_proj_weight"], **close)
    stacked_b = np.concatenate([grads[f"b{n}"] for n in "qkv"])
    np.testing.assert_allclose(stacked_b, theirs["self_attn.in_proj_bias"], **close)
    pairs = {
        "Wo": "self_attn.out_proj.weight",
        "W1": "linear1.weight",
        "W2": "linear2.weight",
        "bo": "self_attn.out_proj.bias",
        "b1": "linear1.bias",
        "b2": "linear2.bias",
        "gain1": "norm1.weight",
        "shift1": "norm1.bias",
        "gain2": "norm2.weight",
        "shift2": "norm2.bias",
    }
    for name, their_name in pairs.items():
        np.testing.assert_allclose(grads[name].T, theirs[their_name], err_msg=name, **close)


def test_network_agrees_with_torch() -> None:
    torch = pytest.importorskip("torch")
    page = names_of("network.md", "signals, dW, db = backward(weights, biases, X, Y)\n")
    ts = [torch.tensor(w, requires_grad=True) for w in page["weights"]]
    bs = [torch.tensor(b, requires_grad=True) for b in page["biases"]]
    a = torch.tensor(page["X"])
    for W, b in zip(ts[:-1], bs[:-1], strict=True):
        a = torch.tanh(torch.nn.functional.linear(a, W, b))
    out = torch.nn.functional.linear(a, ts[-1], bs[-1])
    (((out - torch.tensor(page["Y"])) ** 2).sum() / 14).backward()  # 2 N, N = 7
    for got, want in zip(page["dW"] + page["db"], ts + bs, strict=True):
        np.testing.assert_allclose(got, want.grad.numpy(), rtol=1e-11, atol=1e-13)


def test_cross_entropy_agrees_with_scipy() -> None:
    page = names_of("softmax.md", "def cross_entropy")
    for size in (1.0, 100.0, 1e4):
        z = size * np.random.default_rng(3).standard_normal(50)
        y = np.eye(50)[7]
        want = -scipy.special.log_softmax(z)[7]
        assert page["cross_entropy"](z, y) == pytest.approx(want, rel=1e-12)
        np.testing.assert_allclose(
            page["grad"](page["cross_entropy"])(z, y), scipy.special.softmax(z) - y, atol=1e-12
        )


def test_newton_agrees_with_scipy() -> None:
    page = names_of("newton.md", "def newton")
    assert page["rosenbrock"](np.array([0.3, -2.0])) == pytest.approx(scipy.optimize.rosen([0.3, -2.0]))
    point = np.array([0.3, -2.0])
    np.testing.assert_allclose(page["gradient_by_hand"](point), scipy.optimize.rosen_der(point), rtol=1e-13)
    np.testing.assert_allclose(page["hessian_by_hand"](point), scipy.optimize.rosen_hess(point), rtol=1e-13)
    np.testing.assert_allclose(page["newton"](page["rosenbrock"], point, 8)[-1], [1.0, 1.0], atol=1e-12)


def test_warped_area_agrees_with_scipy() -> None:
    page = names_of("volume.md", "by_volume:.10f")
    det = lambda v, u: abs(np.linalg.det(page["jacobian"](page["warp"])(np.array([u, v]))))  # noqa: E731
    want, _ = scipy.integrate.dblquad(det, 0, 1, 0, 1, epsabs=1e-7)
    assert page["by_volume"] == pytest.approx(want, abs=1e-7)


@pytest.mark.parametrize("seed", [1, 2])
def test_fastest_curve_does_not_depend_on_the_start(seed: int) -> None:
    page = names_of("functionals.md", "curves[n], steps")
    start = np.sort(np.random.default_rng(seed).uniform(0.2, 3.0, 19))
    with np.errstate(invalid="ignore"):  # above the start the time is NaN, and the line search backtracks
        y, _ = page["least"](lambda y: page["time"](y, 20), start)
    np.testing.assert_allclose(y, page["curves"][20], atol=1e-8)


def test_cycloid_is_the_fastest_of_similar_curves() -> None:
    """The time on the track x = R (theta - sin theta), y = R (1 - cos theta), with y bent a little.

    The time is computed by quadrature. Without a bend it is pi.
    """

    def time(bend: float) -> float:
        def speed(t: float) -> float:
            y = 1 - np.cos(t) + bend * np.sin(t) ** 2 * (1 - np.cos(t))
            slope = np.sin(t) + bend * (2 * np.sin(t) * np.cos(t) * (1 - np.cos(t)) + np.sin(t) ** 3)
            return float(np.hypot(1 - np.cos(t), slope) / np.sqrt(2 * y))

        return float(scipy.integrate.quad(speed, 1e-9, np.pi)[0])

    assert time(0.0) == pytest.approx(np.pi, abs=1e-8)
    assert min(time(0.05), time(-0.05)) > np.pi + 1e-4


@pytest.mark.parametrize("r", [2, 3, 8])
def test_lora_recovers_an_update_of_rank_two(r: int) -> None:
    page = names_of("lora.md", "Y = (W0 + update) @ X")
    scale, B, A = page["train"](r, page["Y"], 2000, alpha=float(r))
    np.testing.assert_allclose(np.linalg.svd(scale * B @ A)[1][:3], [3.142, 2.718, 0.0], atol=1e-6)
