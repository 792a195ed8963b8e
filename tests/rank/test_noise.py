"""The noise floor lies above the singular values of pure noise and below a planted signal."""

import numpy as np
import pytest

from eckart import Spectrum
from eckart.linalg import Goal
from eckart.rank import noise_edge
from support.matrices import with_values

SHAPES = [(300, 300), (400, 200), (120, 600)]


def edge_of(variances):
    return noise_edge(variances.sum(1), variances.sum(0))


@pytest.mark.parametrize("variance", [1.0, 1e-8, 1e6])
@pytest.mark.parametrize(("m", "n"), SHAPES)
def test_pure_noise_stays_near_the_edge(m, n, variance):
    edge = edge_of(np.full((m, n), variance))
    assert edge == pytest.approx(np.sqrt(variance) * (np.sqrt(m) + np.sqrt(n)))
    for seed in range(3):
        noise = np.random.default_rng(seed).standard_normal((m, n)) * np.sqrt(variance)
        # Tracy and Widom: sigma_1 = edge (1 + O(n^(-2/3))), which is a few percent at 300.
        assert 0.8 * edge < np.linalg.norm(noise, 2) < 1.1 * edge


def test_uniform_rounding_noise_has_the_same_edge():
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (300, 300))
    edge = edge_of(np.full((300, 300), 1 / 12))  # the variance of rounding to a grid of step 1
    assert 0.8 * edge < np.linalg.norm(noise, 2) < 1.1 * edge


def test_unequal_variances_are_bounded_by_the_noisiest_row_and_column():
    scale = np.ones((200, 300))
    scale[:50] = 4.0
    noise = np.random.default_rng(1).standard_normal((200, 300)) * scale
    assert np.linalg.norm(noise, 2) < 1.1 * edge_of(scale**2)


@pytest.mark.parametrize(("m", "n"), SHAPES)
@pytest.mark.parametrize("rank", [0, 1, 7])
def test_a_planted_signal_above_the_edge_is_counted(m, n, rank):
    noise = np.random.default_rng(2).standard_normal((m, n))
    edge = edge_of(np.ones((m, n)))
    planted = with_values(np.linspace(4, 2, rank) * edge, m, n, 3) if rank else 0.0
    sigma = np.linalg.svd(planted + noise, compute_uv=False)
    assert Spectrum(sigma).rank_for(Goal("above", 1.1 * edge)) == rank
    assert Spectrum(sigma).rank_for(Goal("above", edge)) in range(rank, rank + 2)


def test_an_empty_matrix_has_no_noise():
    assert noise_edge(np.zeros(0), np.zeros(0)) == 0.0
    assert noise_edge(np.zeros(3), np.zeros(5)) == 0.0
