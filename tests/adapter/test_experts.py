"""The two layouts of a mixture's experts: every update is the same in both."""

import numpy as np
import pytest
from safetensors.numpy import save_file

from eckart.adapter import Adapter, Module
from eckart.adapter.experts import (
    ExpertsLayout,
    arrange_experts,
    even_scales,
    experts_layouts,
    is_fused_on_loading,
    is_split,
)
from eckart.adapter.targets import Targets
from eckart.checkpoint import Checkpoint
from eckart.errors import AdapterError, UsageError

FUSED, SPLIT = ExpertsLayout.FUSED, ExpertsLayout.SPLIT
MIXTRAL = {"model_type": "mixtral", "num_local_experts": 2}
QWEN = {"model_type": "qwen3_moe", "num_experts": 2}


def module(name: str, rows: int, columns: int, kind: str = "linear", scale: float = 1.0) -> Module:
    random = np.random.default_rng(list(name.encode()))
    left = random.standard_normal((rows, 2)).astype(np.float32)
    right = random.standard_normal((2, columns)).astype(np.float32)
    return Module(name, kind, left, right, scale)


def fused_modules() -> dict[str, Module]:
    path = "model.layers.0.mlp"
    modules = [
        module("model.layers.0.self_attn.q_proj", 4, 4),
        module(f"{path}.gate", 2, 4, "router"),
        *(module(f"{path}.experts.gate_up_proj[{n}]", 6, 4, "expert") for n in range(2)),
        *(module(f"{path}.experts.down_proj[{n}]", 4, 3, "expert") for n in range(2)),
    ]
    return {m.name: m for m in modules}


def updates(modules: dict[str, Module]) -> dict[str, np.ndarray]:
    return {m.name: np.matmul(*m.product()) for m in modules.values()}


def test_a_layout_is_parsed_from_its_name():
    assert ExpertsLayout.parse("fused") is FUSED and ExpertsLayout.parse("split") is SPLIT
    assert ExpertsLayout.parse("Fused") is FUSED
    for text in ("", "both", "fused,split"):
        with pytest.raises(UsageError, match=f"`experts={text!r}`: expected one of fused, split."):
            ExpertsLayout.parse(text)


@pytest.mark.parametrize(
    "config, block, names",
    [
        (MIXTRAL, "block_sparse_moe", ("w1", "w3", "w2")),
        (QWEN, "mlp", ("gate_proj", "up_proj", "down_proj")),
        ({}, "mlp", ("gate_proj", "up_proj", "down_proj")),
    ],
)
def test_splitting_cuts_the_rows_of_every_fused_update(config, block, names):
    fused = fused_modules()
    before, after = updates(fused), updates(arrange_experts(fused, SPLIT, config))
    gate, up, down = names
    for number in range(2):
        path = f"model.layers.0.{block}.experts.{number}"
        stacked = np.concatenate([after[f"{path}.{gate}"], after[f"{path}.{up}"]])
        np.testing.assert_array_equal(stacked, before[f"model.layers.0.mlp.experts.gate_up_proj[{number}]"])
        np.testing.assert_array_equal(
            after[f"{path}.{down}"], before[f"model.layers.0.mlp.experts.down_proj[{number}]"]
        )
    assert len(after) == 2 + 2 * 3 and f"model.layers.0.{block}.gate" in after


@pytest.mark.parametrize("config", [MIXTRAL, QWEN])
def test_fusing_reverses_splitting(config):
    fused = fused_modules()
    split = arrange_experts(fused, SPLIT, config)
    again = arrange_experts(split, FUSED, config)
    assert experts_layouts(fused) == experts_layouts(again) == {FUSED}
    assert experts_layouts(split) == {SPLIT} and is_fused_on_loading(config)
    before, after = updates(fused), updates(again)
    assert before.keys() == after.keys()
    for name, update in before.items():
        np.testing.assert_allclose(after[name], update, rtol=0, atol=1e-14)  # a sum with zeros in float64
    assert {name: m.kind for name, m in again.items()} == {name: m.kind for name, m in fused.items()}


@pytest.mark.parametrize("layout", [FUSED, SPLIT, None])
def test_modules_in_the_layout_stay_as_they_are(layout):
    modules = fused_modules()
    if layout is SPLIT:
        modules = arrange_experts(modules, SPLIT, QWEN)
    assert arrange_experts(modules, layout, QWEN) == modules


@pytest.mark.parametrize("layout", [FUSED, SPLIT, None])
def test_an_adapter_without_experts_stays_as_it_is(layout):
    modules = {m.name: m for m in (module("model.layers.0.self_attn.q_proj", 4, 4), module("lm_head", 9, 4))}
    assert experts_layouts(modules) == set()
    assert arrange_experts(modules, layout, MIXTRAL) == modules


def test_both_layouts_at_once_are_seen():
    modules = fused_modules()
    modules |= {"model.layers.1.mlp.experts.0.up_proj": module("model.layers.1.mlp.experts.0.up_proj", 3, 4)}
    assert experts_layouts(modules) == {FUSED, SPLIT}
    assert is_split("model.layers.1.mlp.experts.0.up_proj") and not is_split("model.layers.1.mlp.up_proj")


def test_interleaved_rows_are_not_split():
    with pytest.raises(AdapterError, match=r"gate_up_proj`: this fused parameter cannot be split"):
        arrange_experts(fused_modules(), SPLIT, {"model_type": "gpt_oss"})


def test_even_scales_keep_the_updates_and_leave_one_scale():
    name = "model.layers.0.mlp.experts.down_proj"
    modules = {f"{name}[{n}]": module(f"{name}[{n}]", 4, 3, "expert", scale=1.0 + n) for n in range(2)}
    even = even_scales(modules)
    assert {m.scale for m in even.values()} == {1.0}
    for key, update in updates(modules).items():
        np.testing.assert_allclose(updates(even)[key], update, rtol=1e-6)  # folded in float32


def test_a_router_without_experts_is_found_in_a_base_with_split_experts(tmp_path):
    """transformers 5 calls the router of Mixtral mlp.gate; its files call it block_sparse_moe.gate."""
    block = "model.layers.0.block_sparse_moe"
    tensors = {f"{block}.gate.weight": np.zeros((2, 4), np.float32)}
    tensors |= {f"{block}.experts.{n}.w1.weight": np.zeros((3, 4), np.float32) for n in range(2)}
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text('{"model_type": "mixtral", "num_local_experts": 2}')
    router = module("model.layers.0.mlp.gate", 2, 4, "router")
    targets = Targets.find(Adapter({router.name: router}), Checkpoint.open(tmp_path))
    assert targets.missing == {}
    assert [target.tensor for target in targets.places.values()] == [f"{block}.gate.weight"]
