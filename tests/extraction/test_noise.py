"""A LoRA merged into a bfloat16 model is found again, with its rank, above the rounding."""

import numpy as np
import pytest

import eckart
from eckart.errors import PairError
from eckart.store.summary import diagnose, summarise
from support.matrices import orthonormal
from support.weights import save

PLANTED = 16
SHAPES = {
    "layers.0.q_proj.weight": (512, 512),
    "layers.0.down_proj.weight": (384, 1024),
    "layers.1.up_proj.weight": (1024, 384),
    "layers.1.q_proj.weight": (300, 512),
}


def planted(size, variant, folder, values=None):
    """Write a bfloat16 pair whose update has rank 16 and is ``size`` times its weight.

    ``exact``: tuned = bf16(bf16(W) + D), the fine-tune of a bfloat16 base. ``both``: bf16(W) and
    bf16(W + D), two roundings of one float32 training.
    """
    random = np.random.default_rng(11)
    base, tuned = {}, {}
    for i, (name, (m, n)) in enumerate(SHAPES.items()):
        W = 0.04 * random.standard_normal((m, n))
        sigma = np.linspace(2.0, 1.0, PLANTED) if values is None else values
        D = (orthonormal(m, PLANTED, 100 + i) * sigma) @ orthonormal(n, PLANTED, 200 + i).T
        D *= size * np.linalg.norm(W) / np.linalg.norm(D)
        start = np.asarray(W, np.float32)
        if variant == "exact":
            start = (start.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)  # a bfloat16 number
        base[name], tuned[name] = start.astype(np.float64), start.astype(np.float64) + D
    return save(folder / "base", base, "BF16"), save(folder / "tuned", tuned, "BF16")


@pytest.mark.parametrize("variant", ["exact", "both"])
@pytest.mark.parametrize("size", [5e-3, 1e-2])
def test_a_planted_rank_comes_back_exactly(size, variant, tmp_path):
    pair = planted(size, variant, tmp_path)
    done = eckart.extract(*pair, tmp_path / "a", noise_floor=True)
    assert done.plan.ranks == dict.fromkeys(SHAPES, PLANTED)
    assert eckart.verify(*pair, tmp_path / "a").holds


def test_components_below_the_rounding_noise_are_not_counted(tmp_path):
    """Sixteen planted, eight of them a hundredth of the others: far under the floor."""
    pair = planted(5e-3, "exact", tmp_path, values=np.repeat([1.0, 0.01], PLANTED // 2))
    done = eckart.extract(*pair, tmp_path / "a", noise_floor=True)
    assert set(done.plan.ranks.values()) == {PLANTED // 2}


def test_a_merged_lora_is_diagnosed(tmp_path):
    store = eckart.factor(*planted(5e-3, "exact", tmp_path), tmp_path / "store")
    rows = summarise(store)
    assert [row.above_noise for row in rows] == [PLANTED] * len(SHAPES)
    assert any("a LoRA of rank 16 merged into it" in found for found in diagnose(store, rows))


def test_a_full_fine_tune_is_not_mistaken_for_a_merged_lora(tmp_path):
    random = np.random.default_rng(12)
    base = {name: 0.04 * random.standard_normal(shape) for name, shape in SHAPES.items()}
    tuned = {name: W + 2e-3 * random.standard_normal(W.shape) for name, W in base.items()}
    pair = save(tmp_path / "base", base, "BF16"), save(tmp_path / "tuned", tuned, "BF16")
    store = eckart.factor(*pair, tmp_path / "store")
    assert not any("LoRA" in found for found in diagnose(store, summarise(store)))


def test_equal_checkpoints_are_refused(tmp_path):
    base, _ = planted(5e-3, "exact", tmp_path)
    with pytest.raises(PairError, match="hold the same weights"):
        eckart.extract(base, base, tmp_path / "a", noise_floor=True)
    assert not (tmp_path / "a").exists()


def test_an_update_of_rounding_alone_has_rank_zero(tmp_path):
    """float32 rounded to bfloat16, and the float32 itself: all of the difference is rounding."""
    random = np.random.default_rng(13)
    W = {name: 0.04 * random.standard_normal(shape) for name, shape in SHAPES.items()}
    pair = save(tmp_path / "base", W, "F32"), save(tmp_path / "tuned", W, "BF16")
    store = eckart.factor(*pair, tmp_path / "store")
    assert set(eckart.plan(store, noise_floor=True).ranks.values()) == {0}
