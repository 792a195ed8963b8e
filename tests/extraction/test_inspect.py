"""`eckart.inspect` on checkpoints and adapters gives what the rooms below measure."""

import numpy as np
import pytest

import eckart
from eckart.errors import UsageError
from support.weights import SHAPES, save_pair, updates, weights


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    return save_pair(tmp_path_factory.mktemp("pair"), weights(), updates(), "F32")


def test_a_pair_gives_one_row_per_matrix_with_numpys_ranks(pair):
    summary = eckart.inspect(*pair)
    assert isinstance(summary, eckart.LayersSummary)
    by_name = {layer.name.removesuffix(".weight"): layer for layer in summary.layers}
    for name in SHAPES:
        sigma = np.linalg.svd(updates()[f"{name}.weight"].astype(np.float64), compute_uv=False)
        energy = np.cumsum(sigma**2) / np.sum(sigma**2)
        assert by_name[name].ranks["90%"] == int(np.argmax(energy >= 0.9)) + 1
    listed = sum(layer.energy for layer in summary.layers)
    assert summary.share == pytest.approx(1.0) and listed > 0
    assert repr(summary) == f"LayersSummary({len(summary.layers)} layers, 100.0% of the change's energy)"


def test_a_single_checkpoint_has_no_share_of_a_change(pair):
    summary = eckart.inspect(pair[1])
    assert summary.share is None and {layer.relative for layer in summary.layers} == {None}


def test_a_kept_store_is_used_again(pair, tmp_path):
    first = eckart.inspect(*pair, store=tmp_path / "store")
    before = (tmp_path / "store" / "manifest.json").read_bytes()
    assert eckart.inspect(*pair, store=tmp_path / "store") == first
    assert (tmp_path / "store" / "manifest.json").read_bytes() == before


def test_an_adapter_gives_one_row_per_module_with_or_without_its_base(pair, tmp_path):
    eckart.extract(*pair, tmp_path / "a", rank=3)
    alone = eckart.inspect(tmp_path / "a")
    with_base = eckart.inspect(pair[0], eckart.load_adapter(tmp_path / "a"))
    assert isinstance(alone, eckart.AdapterSummary)
    assert [m.name for m in alone.modules] == [m.name for m in with_base.modules] == list(SHAPES)
    assert all(m.relative is None for m in alone.modules)
    weight = np.linalg.norm(weights()[f"{alone.modules[0].name}.weight"])
    assert with_base.modules[0].relative == pytest.approx(with_base.modules[0].size / weight, rel=1e-6)


def test_options_that_do_not_fit_an_adapter_are_refused(pair, tmp_path):
    eckart.extract(*pair, tmp_path / "a", rank=3)
    adapter = eckart.load_adapter(tmp_path / "a")
    with pytest.raises(UsageError, match="no factor store"):
        eckart.inspect(adapter, store=tmp_path / "store")
    with pytest.raises(UsageError, match="expected a base model, got an adapter"):
        eckart.inspect(adapter, pair[1])
    assert not (tmp_path / "store").exists()
