"""`eckart.autodiff` compared with autograd, PyTorch and derivatives written by hand, on one thread."""

from __future__ import annotations

import gc
import math
import multiprocessing
import statistics
import time
import tracemalloc
from collections.abc import Callable
from multiprocessing.connection import Connection
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
OPERATIONS, QUICK_OPERATIONS = 1000, 100  # length of the chains of small operations
WIDTH, LAYERS, BATCHES = 64, 3, (64, 512)  # the network; the targets are for the first batch size
TOKENS, MODEL, HEADS = 128, 256, 4  # the Transformer layer
JACOBIAN_SIZE = 200
STEPS, QUICK_STEPS = 400, 36  # length of the chain whose memory is measured
WARM_UP = 0.02  # seconds of calls before the one that is timed
MIB = 2**20


def run(threads: int, *, quick: bool, notify: Callable[[str], None]) -> list[Table]:
    """Fill every table on one thread, whatever `threads` is: the speed of the BLAS is not compared."""
    previous_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            notify("autodiff: small operations")
            tables = [_chains_table(QUICK_OPERATIONS if quick else OPERATIONS, rounds=2 if quick else 9)]
            notify("autodiff: whole gradients")
            tables.append(_gradients_table(rounds=5 if quick else 120))
            notify("autodiff: memory")
            tables.append(_memory_table(QUICK_STEPS if quick else STEPS))
    finally:
        torch.set_num_threads(previous_threads)
    return tables


def _race(contestants: dict[str, Work], rounds: int, *, keep: bool = False) -> dict[str, list[float]]:
    """Return the seconds of every round of each contestant.

    The contestants run in turn, so that a busy machine slows down all of them alike. Each has a process of
    its own, so none runs on memory that another one keeps or frees. Before each timing it is called for a
    while, as in training, so that its caches are filled and the core is awake. With `keep` all processes keep
    their freed memory, as Eckart does from its first gradient on.
    """
    fork = multiprocessing.get_context("fork")
    connections: dict[str, Connection] = {}
    for name, work in contestants.items():
        connections[name], child_end = fork.Pipe()
        fork.Process(target=_serve, args=(work, child_end, keep), daemon=True).start()
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, connection in connections.items():
            connection.send(True)
            times[name].append(connection.recv())
    for connection in connections.values():
        connection.send(False)
    return times


def _serve(work: Work, connection: Connection, keep: bool) -> None:
    """Time one call whenever True arrives, and end when False arrives."""
    if keep:
        keep_memory()
    while connection.recv():
        started = time.perf_counter()
        while time.perf_counter() - started < WARM_UP:
            work()
        started = time.perf_counter()
        work()
        connection.send(time.perf_counter() - started)


def _check_in_own_process(check: Work) -> None:
    """Run a check in a process of its own, so that this one, from which the races fork, stays untouched."""
    child = multiprocessing.get_context("fork").Process(target=check)
    child.start()
    child.join()
    if child.exitcode:
        raise RuntimeError("the contestants disagree, or one of them failed: see the traceback above")


def _add_rows(
    table: Table, job: str, times: dict[str, list[float]], row_targets: dict[str, float], unit: float
) -> None:
    """Add a row for each rival. The ratio is that of the medians, because the rounds are shared.

    `unit` is the number of units per second in which times are shown.
    """
    ours = times["ours"]
    for rival, rival_times in times.items():
        if rival == "ours":
            continue
        target = row_targets.get(rival)
        cells: dict[str, Cell] = {
            **ratio(statistics.median(rival_times), statistics.median(ours), target),
            "job": job,
            "rival": rival,
            "ratio of the best": min(rival_times) / min(ours),
            "ours, median": statistics.median(ours) * unit,
            "ours, best": min(ours) * unit,
            "rival, median": statistics.median(rival_times) * unit,
            "rival, best": min(rival_times) * unit,
        }
        table.rows.append(cells)


# --- small operations ---------------------------------------------------------------------------------


def _chains_table(length: int, rounds: int) -> Table:
    """Differentiate long chains of operations on tiny arrays."""
    table = Table(
        "Gradient of long chains of small operations, microseconds per operation",
        f"Forward and reverse together, {length} steps on arrays of three numbers, on one thread; all sides "
        "take turns. Mixed: y = tanh(2 y) - x / 3 + exp(-y).",
    )
    x = np.array([0.03, 0.04, 0.05])
    for job, step, operations in (
        ("sin", lambda xp, y, x: xp.sin(y), 1),
        ("y * x + x", lambda xp, y, x: y * x + x, 2),
        ("mixed", lambda xp, y, x: xp.tanh(y * 2.0) - x / 3.0 + xp.exp(-y), 7),
    ):
        steps = length // operations
        times = _race_chain(_chain(step, steps), x, rounds)
        _add_rows(table, job, times, {"autograd": targets.AUTODIFF_SMALL}, 1e6 / (steps * operations))
    return table


def _chain(step: Any, steps: int) -> Any:
    """Return a function of an array module, which returns the chain for that module."""

    def chain(xp: Any) -> Callable[[Any], Any]:
        def f(x: Any) -> Any:
            y = x
            for _ in range(steps):
                y = step(xp, y, x)
            return xp.sum(y)

        return f

    return chain


def _race_chain(chain: Any, x: np.ndarray, rounds: int) -> dict[str, list[float]]:
    ours, autograds = grad(chain(np)), autograd.grad(chain(anp))
    _check_in_own_process(lambda: _assert_close(ours(x), autograds(x)))
    contestants: dict[str, Work] = {
        "ours": lambda: ours(x),
        "autograd": lambda: autograds(x),
        "PyTorch": lambda: _torch_gradient(chain(torch), x),
    }
    return _race(contestants, rounds)


# --- whole gradients ----------------------------------------------------------------------------------


def _gradients_table(rounds: int) -> Table:
    """Differentiate two models and compute a Jacobian."""
    table = Table(
        "Gradients and a Jacobian, milliseconds",
        f"float64, on one thread; all sides take turns. Network: {LAYERS} layers of width {WIDTH}. "
        f"Transformer layer: {TOKENS} tokens, width {MODEL}, {HEADS} heads, with both norms and the GELU. "
        "By hand: a forward and a backward pass in NumPy, written for this model alone. Each side has a "
        "process of its own. Ours keeps freed memory (`keep_memory` in tape.py), the others do not.",
    )
    random = np.random.default_rng(0)
    layers = [(random.standard_normal((WIDTH, WIDTH)) / 8, np.zeros(WIDTH)) for _ in range(LAYERS)]
    weights = [weight for layer in layers for weight in layer]
    by_hand = 1 / targets.AUTODIFF_BY_HAND
    network_targets = {"autograd": targets.AUTODIFF_NETWORK, "by hand": by_hand}
    for batch in BATCHES:
        network, backward = _network(random, batch)
        times = _race_gradients(network, backward, weights, rounds)
        row_targets = network_targets if batch == BATCHES[0] else {}
        _add_rows(table, f"network {WIDTH} x {WIDTH}, batch {batch}", times, row_targets, 1e3)

    layer, backward = _transformer(random)
    layer_targets = {"autograd": targets.AUTODIFF_TRANSFORMER, "by hand": by_hand}
    for job, keep in (("Transformer layer", False), ("the same, all sides keep memory", True)):
        weights = _transformer_weights(random)
        times = _race_gradients(layer, backward, weights, max(rounds // 4, 2), keep=keep)
        _add_rows(table, job, times, {} if keep else layer_targets, 1e3)

    times = _race_jacobians(random, max(rounds // 2, 2))
    job = f"Jacobian {JACOBIAN_SIZE} to {JACOBIAN_SIZE}"
    _add_rows(table, job, times, {"autograd": targets.AUTODIFF_JACOBIAN}, 1e3)
    return table


def _race_jacobians(random: np.random.Generator, rounds: int) -> dict[str, list[float]]:
    n = JACOBIAN_SIZE
    A, x = random.standard_normal((n, n)), random.standard_normal(n)

    def two_layers(xp: Any) -> Callable[[Any], Any]:
        matrix = torch.from_numpy(A) if xp is torch else A
        return lambda x: xp.tanh(xp.matmul(matrix, xp.tanh(xp.matmul(matrix, x))))

    ours, autograds = jacobian(two_layers(np)), autograd.jacobian(two_layers(anp))
    _check_in_own_process(lambda: _assert_close(ours(x), autograds(x)))
    tensor = torch.from_numpy(x)
    contestants: dict[str, Work] = {
        "ours": lambda: ours(x),
        "autograd": lambda: autograds(x),
        "PyTorch": lambda: torch.func.jacrev(two_layers(torch))(tensor),
    }
    return _race(contestants, rounds)


def _race_gradients(
    f: Any, backward: Any, weights: list[np.ndarray], rounds: int, *, keep: bool = False
) -> dict[str, list[float]]:
    """Race the gradients of `f(xp)` by Eckart, autograd, `backward` and PyTorch.

    The first three must agree before the race.
    """
    ours, autograds = value_and_grad(f(np)), autograd.value_and_grad(f(anp))

    def check() -> None:
        gradients = zip(ours(weights)[1], autograds(weights)[1], backward(weights), strict=True)
        for our_gradient, autograd_gradient, by_hand in gradients:
            _assert_close(our_gradient, autograd_gradient)
            _assert_close(our_gradient, by_hand)

    _check_in_own_process(check)
    contestants: dict[str, Work] = {
        "ours": lambda: ours(weights),
        "autograd": lambda: autograds(weights),
        "by hand": lambda: backward(weights),
        "PyTorch": lambda: _torch_gradient(f(torch), *weights),
    }
    return _race(contestants, rounds, keep=keep)


def _network(random: np.random.Generator, batch: int) -> tuple[Any, Any]:
    """Return the loss of a network as a function of an array module, and its gradient written by hand."""
    X, Y = random.standard_normal((batch, WIDTH)), random.standard_normal((batch, WIDTH))

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

    def backward(weights: list[np.ndarray]) -> list[np.ndarray]:
        inputs, h = [], X
        for i in range(LAYERS):
            inputs.append(h)
            h = h @ weights[2 * i] + weights[2 * i + 1]
            h = np.tanh(h) if i < LAYERS - 1 else h
        e = h - Y
        float(np.sum(e * e) / batch)  # the others compute this value too
        g, out = e * (2 / batch), []
        for i in reversed(range(LAYERS)):
            out += [g.sum(0), inputs[i].T @ g]
            if i:
                g = (g @ weights[2 * i].T) * (1 - inputs[i] * inputs[i])
        return out[::-1]

    return network, backward


def _transformer_weights(random: np.random.Generator) -> list[np.ndarray]:
    """Return q, k, v, o, up, down, and the gains and shifts of both norms."""
    d = MODEL
    square = [random.standard_normal((d, d)) / math.sqrt(d) for _ in range(4)]
    up, down = random.standard_normal((d, 4 * d)), random.standard_normal((4 * d, d))
    norms = [np.ones(d), np.zeros(d), np.ones(d), np.zeros(d)]
    return [*square, up / math.sqrt(d), down / math.sqrt(4 * d), *norms]


def _transformer(random: np.random.Generator) -> tuple[Any, Any]:
    """Return the loss of a Transformer layer like `_network` does."""
    T, d, H = TOKENS, MODEL, HEADS
    X, Y = random.standard_normal((T, d)), random.standard_normal((T, d))
    is_future, scale, c = np.tril(np.ones((T, T))) == 0, 1 / math.sqrt(d / H), math.sqrt(2 / math.pi)

    def layer(xp: Any) -> Callable[[Any], Any]:
        x, target, mask = (
            (torch.from_numpy(a) for a in (X, Y, is_future)) if xp is torch else (X, Y, is_future)
        )

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

    def backward(weights: list[np.ndarray]) -> list[np.ndarray]:
        Wq, Wk, Wv, Wo, up, down, g1, b1, g2, b2 = weights

        def norm(x: Any, gain: Any, shift: Any) -> Any:
            n = x - x.mean(-1, keepdims=True)
            r = 1 / np.sqrt((n * n).mean(-1, keepdims=True) + 1e-5)
            n *= r
            return n * gain + shift, n, r

        def norm_backward(g: Any, gain: Any, n: Any, r: Any) -> Any:
            t = g * gain
            t = r * (t - t.mean(-1, keepdims=True) - n * (t * n).mean(-1, keepdims=True))
            return t, (g * n).sum(0), g.sum(0)

        def split(a: Any) -> Any:
            return a.reshape(T, H, d // H).swapaxes(0, 1)

        def merge(a: Any) -> Any:
            return a.swapaxes(0, 1).reshape(T, d)

        h, n1, r1 = norm(X, g1, b1)
        q, k, v = split(h @ Wq), split(h @ Wk), split(h @ Wv)
        p = np.where(is_future, -1e9, q @ k.swapaxes(1, 2) * scale)
        p = np.exp(p - p.max(-1, keepdims=True))
        p /= p.sum(-1, keepdims=True)
        o = merge(p @ v)
        y = X + o @ Wo
        h2, n2, r2 = norm(y, g2, b2)
        u = h2 @ up
        tanh = np.tanh(c * (u + 0.044715 * u * u * u))
        a = 0.5 * u * (1 + tanh)
        e = y + a @ down - Y
        float((e * e).mean())  # the others compute this value too
        g = e * (2 / e.size)
        gu = (g @ down.T) * (0.5 * (1 + tanh) + 0.5 * u * (1 - tanh * tanh) * c * (1 + 3 * 0.044715 * u * u))
        gy, gg2, gb2 = norm_backward(gu @ up.T, g2, n2, r2)
        gy += g
        go = split(gy @ Wo.T)
        gp = go @ v.swapaxes(1, 2)
        gs = p * (gp - (gp * p).sum(-1, keepdims=True)) * scale
        gq, gk, gv = merge(gs @ k), merge(gs.swapaxes(1, 2) @ q), merge(p.swapaxes(1, 2) @ go)
        _, gg1, gb1 = norm_backward(gq @ Wq.T + gk @ Wk.T + gv @ Wv.T, g1, n1, r1)
        return [h.T @ gq, h.T @ gk, h.T @ gv, o.T @ gy, h2.T @ gu, a.T @ g, gg1, gb1, gg2, gb2]

    return layer, backward


def _torch_gradient(f: Any, *arrays: np.ndarray) -> Any:
    """Return the gradient by PyTorch with respect to one array or a list of arrays."""
    tensors = [torch.from_numpy(a).requires_grad_() for a in arrays]
    return torch.autograd.grad(f(tensors[0] if len(tensors) == 1 else tensors), tensors)


def _assert_close(ours: Any, rival: Any) -> None:
    np.testing.assert_allclose(ours, rival, rtol=1e-8, atol=1e-10)


# --- memory -------------------------------------------------------------------------------------------


def _memory_table(length: int) -> Table:
    """Measure the memory of the gradient of a deep chain, with and without `checkpoint`."""
    piece = math.isqrt(length)
    x = np.linspace(-1, 1, 50_000)

    def repeat(xp: Any, count: int) -> Callable[[Any], Any]:
        def f(x: Any) -> Any:
            for _ in range(count):
                x = xp.tanh(x * 1.01)
            return x

        return f

    whole, checkpointed_piece = repeat(np, length), checkpoint(repeat(np, piece))

    def in_pieces(x: Any) -> Any:
        for _ in range(length // piece):
            x = checkpointed_piece(x)
        return np.sum(x)

    plain, checkpointed = grad(lambda x: np.sum(whole(x))), grad(in_pieces)
    autograds = autograd.grad(lambda x: anp.sum(repeat(anp, length)(x)))
    _assert_close(plain(x), checkpointed(x))
    our_peak = _peak(checkpointed, x)
    table = Table(
        f"Peak of live buffers: the gradient of {length} steps x = tanh(1.01 x) on {x.size} numbers",
        f"Measured by tracemalloc, in arrays of the size of x. Ours uses `checkpoint` on pieces of {piece} "
        "steps, so each step is computed twice. The first rival is Eckart without `checkpoint`.",
    )
    for rival, gradient, target in (
        ("without checkpoint", plain, targets.AUTODIFF_CHECKPOINT),
        ("autograd", autograds, None),
    ):
        peak = _peak(gradient, x)
        cells: dict[str, Cell] = {
            **ratio(peak, our_peak, target if length == STEPS else None),
            "rival": rival,
            "ours, arrays": our_peak / x.nbytes,
            "rival, arrays": peak / x.nbytes,
            "ours, MiB": our_peak / MIB,
            "rival, MiB": peak / MIB,
        }
        table.rows.append(cells)
    return table


def _peak(f: Callable[[np.ndarray], object], x: np.ndarray) -> int:
    """Return the peak of the traced memory, in bytes, of the second call of `f(x)`."""
    f(x)
    gc.collect()
    tracemalloc.start()
    f(x)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak
