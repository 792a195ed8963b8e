"""Overlaps of adapters, compared with SciPy's principal angles and with subspaces known by construction."""

import math

import numpy as np
import pytest
from scipy.linalg import subspace_angles

from eckart.adapter import load_adapter
from eckart.operations import overlaps
from support.lora_folders import random_pair, write_lora
from support.matrices import orthonormal
from support.zoo import case_of, matrices


def overlaps_of(folders):
    """Return the overlaps of two adapters by module."""
    return {one.name: one for one in overlaps([load_adapter(f) for f in folders])}


def test_overlaps_are_the_angles_and_cosines_that_scipy_measures(tmp_path):
    one = write_lora(
        tmp_path / "1",
        {"a": random_pair(40, 30, 4, 1), "b": random_pair(20, 30, 3, 2), "only": random_pair(9, 9, 1, 3)},
    )
    two = write_lora(
        tmp_path / "2", {"a": random_pair(40, 30, 6, 3), "b": random_pair(20, 30, 3, 4)}, use_rslora=True
    )
    measured, first, second = overlaps_of([one, two]), matrices(one), matrices(two)
    assert measured.keys() == {"a", "b"}
    for name, overlap in measured.items():
        (U, s, Vh), (X, t, Yh) = (np.linalg.svd(m[name], full_matrices=False) for m in (first, second))
        k, q = int((s > 1e-9).sum()), int((t > 1e-9).sum())
        assert overlap.left == pytest.approx(
            np.mean(np.cos(subspace_angles(U[:, :k], X[:, :q])) ** 2), abs=1e-6
        )
        assert overlap.right == pytest.approx(
            np.mean(np.cos(subspace_angles(Vh[:k].T, Yh[:q].T)) ** 2), abs=1e-6
        )
        cosine = (
            (first[name] * second[name]).sum() / np.linalg.norm(first[name]) / np.linalg.norm(second[name])
        )
        assert overlap.cosine == pytest.approx(cosine, abs=1e-6)


def test_overlaps_of_known_subspaces_are_found(tmp_path):
    Q, P = orthonormal(40, 6, 0).astype(np.float32), orthonormal(30, 6, 1).T.astype(np.float32)
    one = write_lora(
        tmp_path / "1", {n: (Q[:, :3], P[:3]) for n in ("same", "opposite", "apart", "half", "read", "in")}
    )
    two = write_lora(
        tmp_path / "2",
        {
            "same": (Q[:, :3], P[:3]),
            "opposite": (-2 * Q[:, :3], P[:3]),
            "apart": (Q[:, 3:], P[3:]),
            "half": (Q[:, [0, 3, 4]], P[[0, 3, 4]]),
            "read": (Q[:, 3:], P[:3]),
            "in": (Q, P),
        },
    )
    measured = {n: (o.left, o.right, o.cosine) for n, o in overlaps_of([one, two]).items()}
    expected = {
        "same": (1, 1, 1),
        "opposite": (1, 1, -1),
        "apart": (0, 0, 0),
        "half": (1 / 3, 1 / 3, 1 / 3),
        "read": (0, 1, 0),
        "in": (1, 1, 3 / math.sqrt(18)),
    }
    for name, values in expected.items():
        assert measured[name] == pytest.approx(values, abs=1e-6), name


def test_an_adapter_with_transposed_layers_overlaps_itself_completely():
    """PEFT stores GPT-2's Conv1D transposed."""
    measured = overlaps_of([case_of("gpt2").adapter] * 2)
    assert measured
    for overlap in measured.values():
        assert (overlap.left, overlap.right, overlap.cosine) == pytest.approx((1, 1, 1))
