"""TIES and DARE, compared with their papers."""

import math

import numpy as np
import pytest

from eckart.operations import combine
from support.lora_folders import random_pair, summed, write_lora
from support.terminal import tree
from support.zoo import distance, matrices

EPS32 = float(np.finfo(np.float32).eps)


# --- TIES ---


def ties(updates, weights, density):
    """Yadav et al., section 4: trim, elect signs, weighted disjoint mean; times the sum of the weights."""
    trimmed = []
    for update in updates:
        flat = np.abs(update).ravel()
        keep = max(1, round(density * flat.size))
        edge = np.sort(flat)[::-1][keep - 1]
        trimmed.append(np.where(np.abs(update) >= edge, update, 0.0))
    gamma = np.sign(sum(w * t for w, t in zip(weights, trimmed, strict=True)))
    merged = np.zeros_like(updates[0])
    for i, j in np.ndindex(merged.shape):
        agreeing = [
            (w, t[i, j])
            for w, t in zip(weights, trimmed, strict=True)
            if t[i, j] and np.sign(t[i, j]) == gamma[i, j]
        ]
        if agreeing:
            merged[i, j] = sum(w * t for w, t in agreeing) / sum(w for w, _ in agreeing)
    return merged * sum(weights)


def write_adapters(folder, count=3):
    """Write adapters of two small modules."""
    return [
        write_lora(
            folder / str(i), {"q": random_pair(9, 7, 2, i), "v": random_pair(6, 8, 3, 10 + i)}, lora_alpha=4
        )
        for i in range(count)
    ]


@pytest.mark.parametrize("density", [0.1, 0.2, 0.5, 0.83, 1.0])
@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0), (0.5, 0.3, 0.2), (2.0, 1.0, 0.5)])
def test_ties_equals_an_implementation_of_the_paper(weights, density, tmp_path):
    folders = write_adapters(tmp_path)
    combine(folders, tmp_path / "out", weights, method="ties", density=density, rank=9)
    combined = matrices(tmp_path / "out")
    updates = [matrices(folder) for folder in folders]
    for name in ("q", "v"):
        expected = ties([u[name] for u in updates], weights, density)
        np.testing.assert_allclose(combined[name], expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_ties_of_two_small_matrices_equals_the_result_by_hand(tmp_path):
    one, two = np.array([[4.0, -1.0, 2.0], [0.1, 3.0, -5.0]]), np.array([[-3.0, -1.0, 4.0], [6.0, 0.2, 5.5]])
    eye = np.eye(2)
    folders = [write_lora(tmp_path / str(i), {"q": (eye, u)}) for i, u in enumerate((one, two))]
    # The four largest of six entries: 4, 2, 3, -5 and 6, 5.5, 4, -3. Signs of the sums: + 0 + / + + +
    expected = np.array([[4.0, 0.0, 3.0], [6.0, 3.0, 5.5]]) * 2
    combine(folders, tmp_path / "out", method="ties", density=4 / 6, rank=2)
    np.testing.assert_allclose(matrices(tmp_path / "out")["q"], expected, atol=1e-6)


def test_ties_of_one_adapter_at_density_one_is_the_weighted_adapter(tmp_path):
    (folder,) = write_adapters(tmp_path, 1)
    combine([folder], tmp_path / "out", [0.7], method="ties", density=1.0, rank=9)
    expected = {name: 0.7 * update for name, update in matrices(folder).items()}
    assert distance(matrices(tmp_path / "out"), expected) < 10 * EPS32


# --- DARE ---


def test_dare_divides_kept_entries_by_the_density_and_drops_the_others(tmp_path):
    """Equation 2 of the paper: delta * mask / p."""
    folder = write_lora(tmp_path / "1", {"q": random_pair(40, 50, 3, 1)})
    combine([folder], tmp_path / "out", method="dare", density=0.3, rank=40)
    ratio = matrices(tmp_path / "out")["q"] / matrices(folder)["q"]
    kept = np.abs(ratio) > 1
    # entries near zero carry the float32 rounding of their row
    far = np.abs(matrices(folder)["q"]) > 0.05
    np.testing.assert_allclose(ratio[far & kept], 1 / 0.3, rtol=2e-3)
    np.testing.assert_allclose(ratio[far & ~kept], 0.0, atol=2e-3)
    # 2000 draws: the share is 0.3 to within five standard errors, 5 sqrt(0.21 / 2000)
    assert kept.mean() == pytest.approx(0.3, abs=0.052)


def test_dare_is_the_sum_on_average(tmp_path):
    """The expectation is the sum; the mean of 64 seeds differs from it by about sqrt((1-p)/p/64)."""
    folders = write_adapters(tmp_path, 2)
    weights, expected = [0.6, -0.8], {}
    for w, folder in zip([0.6, -0.8], folders, strict=True):
        for name, update in matrices(folder).items():
            expected[name] = expected.get(name, 0.0) + w * update
    mean = {name: np.zeros_like(update) for name, update in expected.items()}
    for seed in range(64):
        both = combine(folders, weights=weights, method="dare", density=0.5, seed=seed, rank=9)
        for module in both.adapter:
            left, right = module.product()
            mean[module.name] += left @ right / 64
    size = math.sqrt(
        sum(
            np.square(w * u).sum()
            for w, f in zip(weights, folders, strict=True)
            for u in matrices(f).values()
        )
    )
    off = math.sqrt(sum(np.square(mean[n] - expected[n]).sum() for n in expected))
    assert 0.05 * size < off < 0.25 * size  # about 0.125 is expected, over 111 entries


def test_dare_draws_depend_on_the_seed_the_module_and_the_position(tmp_path):
    factors = random_pair(20, 20, 2, 1)
    folder = write_lora(tmp_path / "1", {"q": factors, "v": factors})

    def masks(seed):
        adapter = combine([folder], method="dare", density=0.5, seed=seed, rank=20).adapter
        return {m.name: np.abs(m.product()[0] @ m.product()[1]) > 1e-3 for m in adapter}

    first, again, other = masks(0), masks(0), masks(1)
    assert all(np.array_equal(first[n], again[n]) for n in first)
    assert (first["q"] != other["q"]).mean() > 0.3
    assert (first["q"] != first["v"]).mean() > 0.3
    # If an adapter is given twice, each copy drops its own entries: three values appear, not two.
    both = combine([folder, folder], method="dare", density=0.5, rank=20, include="q")
    (twice,) = both.adapter
    left, right = twice.product()
    whole = matrices(folder)["q"]
    far = np.abs(whole) > 0.2
    assert set(np.round((left @ right / whole)[far]).astype(int)) == {0, 2, 4}


@pytest.mark.parametrize("method", ["ties", "dare"])
def test_the_same_seed_writes_the_same_bytes(method, tmp_path):
    folders = write_adapters(tmp_path)
    for workers in (1, 2):
        combine(folders, tmp_path / f"out-{workers}", method=method, rank=3, seed=5, workers=workers)
    assert tree(tmp_path / "out-1") == tree(tmp_path / "out-2")


@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0), (0.5, -0.3, 0.2)])
def test_dare_at_density_one_is_the_sum(weights, tmp_path):
    folders = write_adapters(tmp_path)
    combine(folders, tmp_path / "out", weights, method="dare", density=1.0, rank=9)
    assert distance(matrices(tmp_path / "out"), summed([matrices(f) for f in folders], weights)) < 10 * EPS32


@pytest.mark.parametrize("method", ["ties", "dare"])
def test_the_stated_error_is_that_of_the_cut(method, tmp_path):
    folders = write_adapters(tmp_path)
    combined = combine(folders, tmp_path / "out", method=method, rank=2)
    combine(folders, tmp_path / "whole", method=method, rank=9)
    expected = distance(matrices(tmp_path / "out"), matrices(tmp_path / "whole"))
    assert combined.statement.error == pytest.approx(expected, rel=1e-4)
