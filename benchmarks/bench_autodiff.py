"""`eckart.autodiff` against autograd, PyTorch and derivatives written by hand, on one thread."""

from __future__ import annotations

import gc
import math
import multiprocessing
import statistics
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import autograd
import autograd.numpy as anp
import numpy as np
import targets
import torch
from tables import Cell, Table, ratio
from threadpoolctl import threadpool_limits

from eckart.autodiff import checkpoint, grad, jacobian, value_and_grad
from eckart.autodiff.tape import keep_memory

Work = Callable[[], object]
WIDE, LAYERS, BATCHES = 64, 3, (64, 512)  # the network; the target is for the first batch
TOKENS, MODEL, HEADS = 128, 256, 4  # the Transformer layer
LONG = 400  # steps of the chain whose memory is measured
WARM = 0.02  # seconds of calls before the one that is timed
MIB = 2**20


def run(threads: int, *, quick: bool, say: Callable[[str], None]) -> list[Table]:
    """Run every table on one thread, whatever ``threads`` is: what is compared is not the BLAS."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            say("autodiff: small operations")
            tables = [_chains(100 if quick else 1000, 2 if quick else 9)]
            say("autodiff: whole gradients")
            tables.append(_gradients(5 if quick else 120))
            say("autodiff: memory")
            tables.append(_memory(36 if quick else LONG))
    finally:
        torch.set_num_threads(before)
    return tables


def _race(works: dict[str, Work], rounds: int, *, kept: bool = False) -> dict[str, list[float]]:
    """Return the seconds of each, run in turn, so that a busy machine is as busy for everyone.

    Each runs in a process of its own, as its users would run it: none on memory that another keeps or gives
    back. It is called for a while before it is timed, as training would: on caches that it has filled, and a
    core that is awake. With ``kept`` all keep their freed memory, as ours does after its first gradient.
    """
    forked = multiprocessing.get_context("fork")
    lines: dict[str, Any] = {}
    for name, work in works.items():
        lines[name], far = forked.Pipe()
        forked.Process(target=_serve, args=(work, far, kept), daemon=True).start()
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, line in lines.items():
            line.send(True)
            times[name].append(line.recv())
    for line in lines.values():
        line.send(False)
    return times


def _serve(work: Work, line: Any, kept: bool) -> None:
    if kept:
        keep_memory()
    while line.recv():
        began = time.perf_counter()
        while time.perf_counter() - began < WARM:
            work()
        began = time.perf_counter()
        work()
        line.send(time.perf_counter() - began)


def _apart(check: Work) -> None:
    """Run a check in a process of its own, so that the races start from one that has done nothing yet."""
    child = multiprocessing.get_context("fork").Process(target=check)
    child.start()
    child.join()
    if child.exitcode:
        raise RuntimeError("the contestants disagree, or one failed: see above")


def _rows(table: Table, job: str, times: dict[str, list[float]], aims: dict[str, float], unit: float) -> None:
    """Add a row for each rival of "ours"; the ratio is of the medians, because rounds are shared."""
    ours = times.pop("ours")
    for rival, theirs in times.items():
        cells: dict[str, Cell] = {
            **ratio(statistics.median(theirs), statistics.median(ours), aims.get(rival)),
            "job": job,
            "rival": rival,
            "ratio of the best": min(theirs) / min(ours),
            "ours, median": statistics.median(ours) * unit,
            "ours, best": min(ours) * unit,
            "rival, median": statistics.median(theirs) * unit,
            "rival, best": min(theirs) * unit,
        }
        table.rows.append(cells)


# --- small operations -----------------------------------------------------------------------------


def _chains(length: int, rounds: int) -> Table:
    table = Table(
        "Gradient of long chains of small operations, microseconds per operation",
        f"Forward and reverse together, {length} steps on arrays of three numbers, one thread, each side in "
        "turn. Mixed: y = tanh(2 y) - x / 3 + exp(-y).",
    )
    x = np.array([0.03, 0.04, 0.05])
    for job, step, operations in (
        ("sin", lambda xp, y, x: xp.sin(y), 1),
        ("y * x + x", lambda xp, y, x: y * x + x, 2),
        ("mixed", lambda xp, y, x: xp.tanh(y * 2.0) - x / 3.0 + xp.exp(-y), 7),
    ):

        def chain(xp: Any, step: Any = step, operations: int = operations) -> Callable[[Any], Any]:
            def f(x: Any) -> Any:
                y = x
                for _ in range(length // operations):
                    y = step(xp, y, x)
                return xp.sum(y)

            return f

        ours, theirs = grad(chain(np)), autograd.grad(chain(anp))
        _apart(lambda ours=ours, theirs=theirs: _agree(ours(x), theirs(x)))
        works: dict[str, Work] = {
            "ours": lambda ours=ours: ours(x),
            "autograd": lambda theirs=theirs: theirs(x),
            "PyTorch": lambda chain=chain: _torch_gradient(chain(torch), x),
        }
        count = length // operations * operations
        _rows(table, job, _race(works, rounds), {"autograd": targets.AUTODIFF_SMALL}, 1e6 / count)
    return table


# --- whole gradients --------------------------------------------------------------------------------


def _gradients(rounds: int) -> Table:
    table = Table(
        "Gradients and a Jacobian, milliseconds",
        f"float64, one thread, each side in turn. Network: {LAYERS} layers of {WIDE}. "
        f"Transformer layer: {TOKENS} tokens, width {MODEL}, {HEADS} heads, with both norms and the GELU. "
        "By hand: a forward and a backward pass in NumPy, as one would write them for this model alone. "
        "Each side in a process of its own: ours keeps freed memory (`keep_memory` in tape.py), the others "
        "do not.",
    )
    random = np.random.default_rng(0)
    layers = [(random.standard_normal((WIDE, WIDE)) / 8, np.zeros(WIDE)) for _ in range(LAYERS)]
    leaves = [leaf for layer in layers for leaf in layer]
    aims = {"autograd": targets.AUTODIFF_NETWORK, "by hand": 1 / targets.AUTODIFF_BY_HAND}
    for batch in BATCHES:
        network, hand = _network(random, batch)
        times = _duel(network, hand, leaves, rounds)
        _rows(table, f"network {WIDE} x {WIDE}, batch {batch}", times, aims if batch == WIDE else {}, 1e3)
    layer, hand = _transformer(random)
    aims = {"autograd": targets.AUTODIFF_TRANSFORMER, "by hand": 1 / targets.AUTODIFF_BY_HAND}
    for job, kept in (("Transformer layer", False), ("the same, all keeping memory", True)):
        times = _duel(layer, hand, _transformer_weights(random), max(rounds // 4, 2), kept=kept)
        _rows(table, job, times, {} if kept else aims, 1e3)

    n = 200
    A, x = random.standard_normal((n, n)), random.standard_normal(n)

    def twice(xp: Any) -> Callable[[Any], Any]:
        matrix = torch.from_numpy(A) if xp is torch else A
        return lambda x: xp.tanh(xp.matmul(matrix, xp.tanh(xp.matmul(matrix, x))))

    ours, theirs = jacobian(twice(np)), autograd.jacobian(twice(anp))
    _apart(lambda: _agree(ours(x), theirs(x)))
    point = torch.from_numpy(x)
    works: dict[str, Work] = {
        "ours": lambda: ours(x),
        "autograd": lambda: theirs(x),
        "PyTorch": lambda: torch.func.jacrev(twice(torch))(point),
    }
    times = _race(works, max(rounds // 2, 2))
    _rows(table, f"Jacobian {n} to {n}", times, {"autograd": targets.AUTODIFF_JACOBIAN}, 1e3)
    return table


def _duel(
    f: Any, hand: Any, weights: list[np.ndarray], rounds: int, *, kept: bool = False
) -> dict[str, list[float]]:
    """Race the gradient of ``f(xp)`` by us, autograd, hand and PyTorch; all must agree first."""
    ours, theirs = value_and_grad(f(np)), autograd.value_and_grad(f(anp))

    def agree() -> None:
        for a, b, c in zip(ours(weights)[1], theirs(weights)[1], hand(weights), strict=True):
            _agree(a, b)
            _agree(a, c)

    _apart(agree)
    works: dict[str, Work] = {
        "ours": lambda: ours(weights),
        "autograd": lambda: theirs(weights),
        "by hand": lambda: hand(weights),
        "PyTorch": lambda: _torch_gradient(f(torch), *weights),
    }
    return _race(works, rounds, kept=kept)


def _network(random: np.random.Generator, batch: int) -> tuple[Any, Any]:
    X, Y = random.standard_normal((batch, WIDE)), random.standard_normal((batch, WIDE))

    def network(xp: Any) -> Callable[[Any], Any]:
        first, target = (torch.from_numpy(X), torch.from_numpy(Y)) if xp is torch else (X, Y)

        def loss(weights: Any) -> Any:
            h = first
            for i in range(LAYERS):
                h = xp.matmul(h, weights[2 * i]) + weights[2 * i + 1]
                h = xp.tanh(h) if i < LAYERS - 1 else h
            e = h - target
            return xp.sum(e * e) / batch

        return loss

    def hand(weights: list[np.ndarray]) -> list[np.ndarray]:
        inputs, h = [], X
        for i in range(LAYERS):
            inputs.append(h)
            h = h @ weights[2 * i] + weights[2 * i + 1]
            h = np.tanh(h) if i < LAYERS - 1 else h
        e = h - Y
        float(np.sum(e * e) / batch)  # the value that value_and_grad returns
        g, out = e * (2 / batch), []
        for i in reversed(range(LAYERS)):
            out += [g.sum(0), inputs[i].T @ g]
            if i:
                g = (g @ weights[2 * i].T) * (1 - inputs[i] * inputs[i])
        return out[::-1]

    return network, hand


def _transformer_weights(random: np.random.Generator) -> list[np.ndarray]:
    """Return q, k, v, o, up, down, and gain and shift of both norms."""
    d = MODEL
    square = [random.standard_normal((d, d)) / math.sqrt(d) for _ in range(4)]
    up, down = random.standard_normal((d, 4 * d)), random.standard_normal((4 * d, d))
    norms = [np.ones(d), np.zeros(d), np.ones(d), np.zeros(d)]
    return [*square, up / math.sqrt(d), down / math.sqrt(4 * d), *norms]


def _transformer(random: np.random.Generator) -> tuple[Any, Any]:
    T, d, H = TOKENS, MODEL, HEADS
    X, Y = random.standard_normal((T, d)), random.standard_normal((T, d))
    future, scale, c = np.tril(np.ones((T, T))) == 0, 1 / math.sqrt(d / H), math.sqrt(2 / math.pi)

    def layer(xp: Any) -> Callable[[Any], Any]:
        x, target, mask = (torch.from_numpy(a) for a in (X, Y, future)) if xp is torch else (X, Y, future)

        def norm(x: Any, gain: Any, shift: Any) -> Any:
            centred = x - xp.mean(x, axis=-1, keepdims=True)
            var = xp.mean(centred * centred, axis=-1, keepdims=True)
            return centred / xp.sqrt(var + 1e-5) * gain + shift

        def loss(weights: Any) -> Any:
            q, k, v, o, up, down, g1, b1, g2, b2 = weights
            h = norm(x, g1, b1)
            q, k, v = (xp.swapaxes(xp.reshape(xp.matmul(h, W), (T, H, d // H)), 0, 1) for W in (q, k, v))
            s = xp.where(mask, -1e9, xp.matmul(q, xp.swapaxes(k, 1, 2)) * scale)  # (H, T, T)
            p = xp.exp(s - xp.amax(s, axis=-1, keepdims=True))
            p = p / xp.sum(p, axis=-1, keepdims=True)
            attended = xp.reshape(xp.swapaxes(xp.matmul(p, v), 0, 1), (T, d))
            y = x + xp.matmul(attended, o)
            u = xp.matmul(norm(y, g2, b2), up)
            e = y + xp.matmul(0.5 * u * (1 + xp.tanh(c * (u + 0.044715 * u * u * u))), down) - target
            return xp.mean(e * e)

        return loss

    def hand(weights: list[np.ndarray]) -> list[np.ndarray]:
        Wq, Wk, Wv, Wo, up, down, g1, b1, g2, b2 = weights

        def norm(x: Any, gain: Any, shift: Any) -> Any:
            n = x - x.mean(-1, keepdims=True)
            r = 1 / np.sqrt((n * n).mean(-1, keepdims=True) + 1e-5)
            n *= r
            return n * gain + shift, n, r

        def norm_back(g: Any, gain: Any, n: Any, r: Any) -> Any:
            t = g * gain
            t = r * (t - t.mean(-1, keepdims=True) - n * (t * n).mean(-1, keepdims=True))
            return t, (g * n).sum(0), g.sum(0)

        def split(a: Any) -> Any:
            return a.reshape(T, H, d // H).swapaxes(0, 1)

        def merge(a: Any) -> Any:
            return a.swapaxes(0, 1).reshape(T, d)

        h, n1, r1 = norm(X, g1, b1)
        q, k, v = split(h @ Wq), split(h @ Wk), split(h @ Wv)
        p = np.where(future, -1e9, q @ k.swapaxes(1, 2) * scale)
        p = np.exp(p - p.max(-1, keepdims=True))
        p /= p.sum(-1, keepdims=True)
        o = merge(p @ v)
        y = X + o @ Wo
        h2, n2, r2 = norm(y, g2, b2)
        u = h2 @ up
        tanh = np.tanh(c * (u + 0.044715 * u * u * u))
        a = 0.5 * u * (1 + tanh)
        e = y + a @ down - Y
        float((e * e).mean())
        g = e * (2 / e.size)
        gu = (g @ down.T) * (0.5 * (1 + tanh) + 0.5 * u * (1 - tanh * tanh) * c * (1 + 3 * 0.044715 * u * u))
        gy, gg2, gb2 = norm_back(gu @ up.T, g2, n2, r2)
        gy += g
        go = split(gy @ Wo.T)
        gp = go @ v.swapaxes(1, 2)
        gs = p * (gp - (gp * p).sum(-1, keepdims=True)) * scale
        gq, gk, gv = merge(gs @ k), merge(gs.swapaxes(1, 2) @ q), merge(p.swapaxes(1, 2) @ go)
        _, gg1, gb1 = norm_back(gq @ Wq.T + gk @ Wk.T + gv @ Wv.T, g1, n1, r1)
        return [h.T @ gq, h.T @ gk, h.T @ gv, o.T @ gy, h2.T @ gu, a.T @ g, gg1, gb1, gg2, gb2]

    return layer, hand


def _torch_gradient(f: Any, *arrays: np.ndarray) -> Any:
    """Return the gradient by PyTorch, of one array or of a list of them."""
    tensors = [torch.from_numpy(a).requires_grad_() for a in arrays]
    return torch.autograd.grad(f(tensors[0] if len(tensors) == 1 else tensors), tensors)


def _agree(ours: Any, theirs: Any) -> None:
    np.testing.assert_allclose(ours, theirs, rtol=1e-8, atol=1e-10)


# --- memory -------------------------------------------------------------------------------------------


def _memory(length: int) -> Table:
    """Return the peak of live buffers of a deep chain, with and without `checkpoint`."""
    piece = math.isqrt(length)
    x = np.linspace(-1, 1, 50_000)

    def steps(xp: Any, count: int) -> Callable[[Any], Any]:
        def f(x: Any) -> Any:
            for _ in range(count):
                x = xp.tanh(x * 1.01)
            return x

        return f

    whole, part = steps(np, length), checkpoint(steps(np, piece))

    def in_pieces(x: Any) -> Any:
        for _ in range(length // piece):
            x = part(x)
        return np.sum(x)

    plain, kept = grad(lambda x: np.sum(whole(x))), grad(in_pieces)
    theirs = autograd.grad(lambda x: anp.sum(steps(anp, length)(x)))
    _agree(plain(x), kept(x))
    ours = _peak(lambda: kept(x))
    table = Table(
        f"Peak of live buffers: the gradient of {length} steps x = tanh(1.01 x) on {x.size} numbers",
        f"By tracemalloc, in arrays like x. Ours with `checkpoint` on pieces of {piece} steps; each "
        "is computed twice. Against the same without it.",
    )
    for rival, f, aim in (
        ("without checkpoint", plain, targets.AUTODIFF_CHECKPOINT),
        ("autograd", theirs, None),
    ):
        peak = _peak(lambda f=f: f(x))
        cells: dict[str, Cell] = {
            **ratio(peak, ours, aim if length == LONG else None),
            "rival": rival,
            "ours, arrays": ours / x.nbytes,
            "rival, arrays": peak / x.nbytes,
            "ours, MiB": ours / MIB,
            "rival, MiB": peak / MIB,
        }
        table.rows.append(cells)
    return table


def _peak(work: Work) -> int:
    work()
    gc.collect()
    tracemalloc.start()
    work()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak
