"""The figures of the guide. Each function draws one figure and returns it with the numbers it shows.

    python docs/figures.py          writes docs/figures/*.svg

`tests/guide/test_figures.py` checks the numbers, and compares the files with what the functions draw.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from drawing import BLUE, GREEN, GROUND, INK, QUIET, RED, WASH, canvas, to_svg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle as Box
from ml_dtypes import bfloat16

from eckart.applications.images import rank_images
from eckart.applications.images.samples import sample
from eckart.arrays import Array, Floats
from eckart.checkpoint import Checkpoint
from eckart.demo import BASE, TUNED
from eckart.linalg import Spectrum, spectrum, svd
from eckart.rank import noise_edge

FOLDER = Path(__file__).parent / "figures"

Drawing = tuple[Figure, dict[str, Any]]


def circle() -> Drawing:
    """Draw the unit circle under W = U S V^T: rotated, stretched, rotated."""
    W = np.array([[4.0, 0.0], [3.0, 5.0]])
    V = np.array([[1.0, -1.0], [1.0, 1.0]]) / np.sqrt(2)  # with these signs V and U rotate without mirroring
    U = np.array([[1.0, -2.0], [2.0, 1.0]]) / np.sqrt(5)
    S = np.diag([np.sqrt(40), np.sqrt(10)])
    t = np.linspace(0, 2 * np.pi, 97)
    unit_circle = np.array([np.cos(t), np.sin(t)])  # (2, 97)
    maps = [np.eye(2), V.T, S @ V.T, U @ S @ V.T]
    titles = ["the unit circle", "Vᵀ rotates it", "Σ stretches it", "U rotates it"]
    names = [("v₁", "v₂"), ("e₁", "e₂"), ("σ₁e₁", "σ₂e₂"), ("σ₁u₁", "σ₂u₂")]
    figure, axes = canvas(4, 8, 2.45)
    for ax, M, title, letters, size in zip(axes, maps, titles, names, (1.8, 1.8, 8.2, 8.2), strict=True):
        image = M @ unit_circle
        ax.set(title=title, aspect="equal", xlim=(-size, size), ylim=(-size, size))
        ticks = [-1, 0, 1] if size < 2 else [-6, -3, 0, 3, 6]
        ax.set(xticks=ticks, yticks=ticks)
        ax.fill(*image, color=WASH, zorder=1)
        ax.plot(*image, color=QUIET, linewidth=1.2, zorder=2)
        if size > 2:
            ax.plot(*unit_circle, color=QUIET, linewidth=1, dashes=(2, 2), zorder=2)
        for v, colour, letter in zip(V.T, (BLUE, RED), letters, strict=True):
            tip = M @ v
            arrow = {
                "arrowstyle": "-|>,head_width=.22,head_length=.45",
                "color": colour,
                "linewidth": 1.8,
                "shrinkA": 0,
                "shrinkB": 0,
            }
            ax.annotate("", tip, (0, 0), zorder=4, arrowprops=arrow)
            along = tip / np.linalg.norm(tip)
            place = tip + 0.17 * size * along + (0 if size < 2 else 0.04 * size * along)
            ax.text(*place, letter, color=colour, ha="center", va="center", fontsize=10, zorder=5)
        first = M @ [1.0, 0.0]
        ax.plot(*first, "o", markersize=5.5, markerfacecolor=GROUND, markeredgecolor=INK, zorder=6)
    return figure, {"W": W, "points": [M @ unit_circle for M in maps], "arrows": [M @ V for M in maps]}


FAST, MIDDLE, SLOW = (
    "lm_head.weight",
    "model.layers.0.self_attn.k_proj.weight",
    "model.layers.3.mlp.gate_proj.weight",
)


def update(name: str) -> Floats:
    """Return the update of one weight in the packaged pair."""
    base, tuned = Checkpoint.open(BASE), Checkpoint.open(TUNED)
    return np.asarray(tuned.read_float(name), np.float64) - base.read_float(name)


def spectra() -> Drawing:
    """Draw the singular values and energy curves of three updates, with the knee and 90 % marked."""
    figure, (values, curves) = canvas(2, 8, 3.3, width_ratios=[1, 1.25])
    numbers: dict[str, Any] = {}
    for name, colour in ((FAST, BLUE), (MIDDLE, GREEN), (SLOW, RED)):
        s = spectrum(update(name))
        label = name.removeprefix("model.").removesuffix(".weight")
        ranks = np.arange(1, len(s) + 1)
        energy = np.array([s.energy(r) for r in (0, *ranks)])
        knee, ninety = s.knee(), s.rank_at_energy(0.9)
        values.plot(ranks, s.values / s.values[0], color=colour)
        curves.plot((0, *ranks), 100 * energy, color=colour, zorder=3)
        curves.plot(ninety, 100 * energy[ninety], "o", color=colour, markersize=6.5, zorder=5)
        diamond = {"markerfacecolor": GROUND, "markeredgecolor": colour, "markeredgewidth": 1.6}
        curves.plot(knee, 100 * energy[knee], "D", markersize=7.5, zorder=4, **diamond)
        numbers[label] = {"values": s.values, "energy": energy, "knee": knee, "ninety": ninety}
    values.set(title="σᵢ / σ₁", yscale="log", xlabel="i", ylim=(8e-4, 1.4), xlim=(-4, 164))
    curves.set(title="energy of the first r, in %", xlabel="r", ylim=(0, 104), xlim=(-2, 124))
    curves.axhline(90, color=QUIET, linewidth=1, dashes=(4, 3), zorder=2)
    for (label, row), colour, y in zip(numbers.items(), (BLUE, GREEN, RED), (46, 37, 28), strict=True):
        curves.text(41, y, label, color=colour, va="center")
        curves.text(97, y, f"{row['knee']}", color=colour, va="center", ha="center")
        curves.text(112, y, f"{row['ninety']}", color=colour, va="center", ha="center")
    for x, mark, text, face in ((97, "D", "knee", GROUND), (112, "o", "90 %", QUIET)):
        edge = {"markeredgecolor": QUIET, "markeredgewidth": 1.4}
        curves.plot(x, 64, mark, markersize=6.5, markerfacecolor=face, **edge)
        curves.text(x, 56, text, color=QUIET, va="center", ha="center")
    return figure, numbers


def noise() -> Drawing:
    """Draw two updates and the noise of bfloat16: one made of 16 directions, one from real training."""
    figure, (made_ax, real_ax) = canvas(2, 8, 3.1)
    random = np.random.default_rng(0)
    n, rank = 256, 16
    W = (0.02 * random.standard_normal((n, n))).astype(bfloat16)
    U, V = (np.linalg.qr(random.standard_normal((n, rank)))[0] for _ in range(2))
    true = U * np.linspace(2, 1, rank) @ V.T
    true *= 0.003 * np.linalg.norm(W.astype(np.float64)) / np.linalg.norm(true)
    tuned = (W.astype(np.float64) + true).astype(bfloat16)
    base, after = Checkpoint.open(BASE), Checkpoint.open(TUNED)
    pairs = {"made": (W, tuned), "real": (base.map(FAST), after.map(FAST))}
    titles = ("16 directions, 0.3 % of W, stored in bfloat16", "lm_head of the packaged pair")
    numbers: dict[str, Any] = {}
    for ax, (key, (before, changed)), title in zip((made_ax, real_ax), pairs.items(), titles, strict=True):
        s = spectrum(changed.astype(np.float64) - before.astype(np.float64))
        variance = rounding(before) + rounding(changed)
        floor = noise_edge(variance.sum(axis=1), variance.sum(axis=0))
        above = int(np.count_nonzero(s.values > floor))
        ranks = np.arange(1, len(s) + 1)
        ax.axhspan(1e-6, floor, color=WASH, zorder=1)
        ax.axhline(floor, color=RED, linewidth=1.4, zorder=2)
        ax.plot(ranks[:above], s.values[:above], ".", color=BLUE, markersize=5, zorder=3)
        ax.plot(ranks[above:], s.values[above:], ".", color=QUIET, markersize=3.5, zorder=3)
        bottom = s.values[-1] * 0.7 if key == "real" else 2e-5
        ax.set(title=f"σᵢ: {title}", yscale="log", xlabel="i", ylim=(bottom, s.values[0] * 2))
        numbers[key] = {
            "values": s.values,
            "floor": floor,
            "above": above,
            "ninety": s.rank_at_energy(0.9),
            "99": s.rank_at_energy(0.99),
        }
        ax.text(0, floor * 0.8, f"{above} above the noise floor", color=RED, ha="left", va="top")
    numbers["made"]["truth"] = np.linalg.svd(true, compute_uv=False)[:rank]
    return figure, numbers


def rounding(stored: Array) -> Floats:
    """Return the variance of the rounding error of every entry of a bfloat16 array: ulp^2 / 12."""
    exponent = np.frexp(stored.astype(np.float64))[1] - 1  # an entry is 1.xxx times 2^exponent
    return np.ldexp(1.0, 2 * (exponent - 7)) / 12  # bfloat16 has 7 bits after the point


RANKS = (1, 5, 20, 50)


def image() -> Drawing:
    """Draw a picture at four ranks, and the original."""
    picture = sample("still", 192)[..., 1]
    approximations = rank_images(picture, RANKS)
    figure, axes = canvas(5, 8, 2.1)
    shown = [a.picture for a in approximations] + [picture]
    titles = [f"rank {a.rank}" for a in approximations] + ["original"]
    labels = [f"{a.share:.1%}, error {a.error:.3f}" for a in approximations] + [f"{picture.size:,} numbers"]
    for ax, pixels, title, label in zip(axes, shown, titles, labels, strict=True):
        ax.imshow(pixels, cmap="gray", vmin=0, vmax=255, interpolation="none")
        ax.set(title=title, xlabel=label, xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
    return figure, {"ranks": approximations, "picture": picture}


def eckart_young() -> Drawing:
    """Draw error against rank in both norms: predicted, measured, and for two other approximations."""
    A = update(MIDDLE)
    f = svd(A, method="lapack")
    s = Spectrum(f.s)
    shown = [1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128]
    random = np.random.default_rng(0)
    largest = np.argsort(-np.linalg.norm(A, axis=0), kind="stable")
    errors: dict[str, Any] = {"best": [], "columns": [], "random": []}
    for r in shown:
        bases = {"columns": A[:, largest[:r]], "random": A @ random.standard_normal((A.shape[1], r))}
        rests = {"best": A - (f.U[:, :r] * f.s[:r]) @ f.Vh[:r]}
        for key, columns in bases.items():
            Q = np.linalg.qr(columns)[0]
            rests[key] = A - Q @ (Q.T @ A)  # the best approximation with the span of these r columns
        for key, rest in rests.items():
            errors[key].append([np.linalg.norm(rest), np.linalg.norm(rest, 2)])
    errors = {key: np.array(rows) for key, rows in errors.items()}  # (12, 2) each
    ranks = np.arange(len(s))
    theory = np.column_stack([np.sqrt(s.tails[:-1]), s.values])  # rank 0, 1, ...
    figure, axes = canvas(2, 8, 3.2)
    for i, (ax, name) in enumerate(zip(axes, ("Frobenius norm", "spectral norm"), strict=True)):
        whole = theory[0, i]
        ax.plot(ranks, theory[:, i] / whole, color=BLUE, zorder=3, label="predicted from σ")
        style = {"markersize": 6.5, "zorder": 4, "linestyle": "none"}
        best, columns, mixtures = (errors[key][:, i] / whole for key in ("best", "columns", "random"))
        circles = {"markerfacecolor": GROUND, "markeredgecolor": BLUE, "markeredgewidth": 1.5}
        ax.plot(shown, best, "o", label="truncated SVD, measured", **circles, **style)
        crosses = {"markeredgewidth": 1.6, **style}
        ax.plot(shown, columns, "x", color=RED, label="its r largest columns", **crosses)
        ax.plot(shown, mixtures, "+", color=GREEN, label="r random mixtures of columns", **crosses)
        ax.set(title=f"relative error, {name}", xlabel="rank", ylim=(0, 1.04), xlim=(-3, 133))
    axes[1].legend(labelcolor=INK, handletextpad=0.4)
    return figure, {"ranks": shown, "theory": theory, **errors}


def factors() -> Drawing:
    """Draw a dense update and its two factors to scale."""
    m, n, r = 160, 432, 16
    figure, (ax,) = canvas(1, 8, 2.1)
    gap = 64
    left = n + gap  # where B begins
    boxes = {"dW": (0, 0, n, m), "B": (left, 0, r, m), "A": (left + r + 36, (m - r) / 2, n, r)}
    for (x, y, w, h), colour in zip(boxes.values(), (QUIET, BLUE, RED), strict=True):
        ax.add_patch(Box((x, y), w, h, facecolor=WASH, edgecolor=colour, linewidth=1.6))
    x_a = boxes["A"][0]
    for x, y, text, colour in (
        (n / 2, m / 2, f"dW: {m} × {n} = {m * n:,} numbers", INK),
        (n + gap / 2, m / 2, "≈", INK),
        (left + r / 2, m + 16, f"B: {m} × {r}", BLUE),
        (left + r + 18, m / 2, "·", INK),
        (x_a + n / 2, (m + r) / 2 + 16, f"A: {r} × {n}", RED),
        (x_a + n / 2, 22, f"{r}·({m} + {n}) = {r * (m + n):,} numbers, {r * (m + n) / (m * n):.1%}", INK),
    ):
        ax.text(x, y, text, ha="center", va="center", color=colour, fontsize=10)
    ax.set(aspect="equal", xlim=(-4, x_a + n + 4), ylim=(-4, m + 28))
    ax.axis("off")
    return figure, {"boxes": boxes}


LOSSES = {
    "base": ("", 6.887, 0.0),
    "base + 2%": ("58.5 kB", 4.976, 36.9),
    "base + 6%": ("165.0 kB", 3.471, 66.0),
    "base + 18%": ("483.0 kB", 2.261, 89.4),
    "tuned": ("2.6 MB", 1.714, 100.0),
}
"""What `eckart demo` prints for each model: size, loss in nats per byte, gap closed in percent."""


def demo() -> Drawing:
    """Draw the loss of the packaged base, of the base with adapters of three sizes, and of the fine-tune."""
    figure, (ax,) = canvas(1, 8, 2.3)
    for y, (name, (size, loss, closed)) in enumerate(LOSSES.items()):
        is_end = name in ("base", "tuned")
        ax.barh(
            y, loss, height=0.62, color=WASH, edgecolor=QUIET if is_end else BLUE, linewidth=1.4, zorder=2
        )
        label = f"{loss:.2f}" + (f" · {size}" if size else "")
        if not is_end:
            label += f" · {closed:.0f} % of the way to the fine-tune"
        ax.text(loss + 0.08, y, label, va="center", color=INK)
    ax.set(title="loss on Python text, in nats per byte", xlim=(0, 8.4), ylim=(len(LOSSES) - 0.5, -0.6))
    ax.set_yticks(range(len(LOSSES)), list(LOSSES))
    ax.grid(visible=False, axis="y")
    return figure, {"losses": LOSSES}


FIGURES: dict[str, Callable[[], Drawing]] = {
    f.__name__.replace("_", "-"): f for f in (circle, spectra, noise, image, eckart_young, factors, demo)
}


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, draw in FIGURES.items():
        (FOLDER / f"{name}.svg").write_text(to_svg(draw()[0]), "utf-8")
        print(FOLDER / f"{name}.svg")
