"""Mixtures of experts: extraction from files with split and with fused experts, and exact conversion."""

import json

import numpy as np
import pytest

import eckart
from eckart.adapter import load_adapter
from eckart.adapter.experts import even_scales, fuse_experts, split_experts
from eckart.checkpoint import write_safetensors
from support.tuned_models import by_hand, load_file, load_peft, make_pair, read_config, torch
from support.zoo import (
    SPURIOUS,
    case_of,
    cut,
    dense,
    gpt_oss,
    matrices,
    mixtral,
    qwen3_moe,
    same_outputs,
)

EPS32 = float(np.finfo(np.float32).eps)
BUILD = {"mixtral": mixtral, "qwen3 moe": qwen3_moe, "gpt_oss": gpt_oss}


@torch.no_grad()
def outputs(model):
    ids = torch.randint(0, 50, (3, 11), generator=torch.Generator().manual_seed(7))
    return model(input_ids=ids).logits


def fused_files(pair, side):
    """Write the model's own state, where gate_up_proj and down_proj are single parameters of 3 axes."""
    model = pair.base_model if side == "base" else pair.tuned_model
    folder = getattr(pair, side).parent / f"{side}-fused"
    folder.mkdir()
    (folder / "config.json").write_text((getattr(pair, side) / "config.json").read_text())
    state = {k: v.detach().contiguous().numpy() for k, v in model.state_dict().items()}
    assert any(v.ndim == 3 for v in state.values())
    write_safetensors(folder / "model.safetensors", state)
    return folder


def fine_tuned(folder, name, layout="own"):
    """A pair whose files hold experts as transformers writes them, or fused."""
    pair = make_pair(folder, BUILD[name])
    if layout == "fused":
        return pair, fused_files(pair, "base"), fused_files(pair, "tuned")
    return pair, pair.base, pair.tuned


CASES = [
    ("mixtral", "own"),
    ("mixtral", "fused"),
    ("qwen3 moe", "own"),
    ("qwen3 moe", "fused"),
    ("gpt_oss", "own"),
]


def test_the_files_have_the_layout_of_their_model_type(tmp_path):
    for name, layout in CASES:
        _, base, _ = fine_tuned(tmp_path / f"{name}-{layout}", name, layout)
        axes = {v.ndim for k, v in load_file(base / "model.safetensors").items() if "experts" in k}
        assert (3 in axes) == (layout == "fused" or name == "gpt_oss")


@pytest.mark.parametrize("name, layout", CASES)
def test_full_rank_gives_the_tuned_model_in_peft(name, layout, tmp_path):
    pair, base, tuned = fine_tuned(tmp_path, name, layout)
    done = eckart.extract(base, tuned, tmp_path / "a", rank=48, dtype="F32", modules_to_save=True)
    assert done.statement.error < 1e-5
    loaded = load_peft(pair.fresh_base(), tmp_path / "a", SPURIOUS)
    expected = outputs(pair.tuned_model)
    if not done.statement.not_carried:
        same_outputs(outputs(loaded), expected, 1e-4)
    else:  # some tensors are not carried: compare with a tuned model without their changes
        not_carried = {item.name for item in done.statement.not_carried}
        model = pair.fresh_base()
        before, after = pair.base_model.state_dict(), pair.tuned_model.state_dict()
        model.load_state_dict({k: before[k] if k in not_carried else v for k, v in after.items()})
        assert all("bias" in n or "sinks" in n for n in not_carried)
        same_outputs(outputs(loaded), outputs(model), 1e-4)
    assert (outputs(pair.base_model) - expected).abs().max() > 1e-2 * expected.abs().max()
    assert eckart.verify(base, tuned, tmp_path / "a").holds


@pytest.mark.parametrize("name, layout", CASES)
def test_ranks_differ_by_expert_and_everything_stated_holds(name, layout, tmp_path):
    _, base, tuned = fine_tuned(tmp_path, name, layout)
    done = eckart.extract(base, tuned, tmp_path / "a", energy=0.8, dtype="BF16")
    ranks = [r for n, r in done.plan.ranks.items() if "experts" in n]
    assert len(set(ranks)) > 1
    checked = eckart.verify(base, tuned, tmp_path / "a")
    assert checked.holds, checked.problems
    assert checked.error == pytest.approx(done.statement.error, rel=1e-3)
    assert done.statement.error < 0.46  # sqrt(0.2), and the roundings of bfloat16


@pytest.mark.parametrize("name, layout", CASES)
def test_without_the_router_full_rank_is_what_peft_computes(name, layout, tmp_path):
    pair, base, tuned = fine_tuned(tmp_path, name, layout)
    eckart.extract(
        base, tuned, tmp_path / "a", rank=48, dtype="F32", exclude=r"(mlp|block_sparse_moe)\.(gate|router)\."
    )
    before, after, updated = (
        pair.base_model.state_dict(),
        pair.tuned_model.state_dict(),
        dense(tmp_path / "a"),
    )
    expected = pair.fresh_base()
    expected.load_state_dict(
        {k: after[k] if k.removesuffix(".weight") in updated else weight for k, weight in before.items()}
    )
    assert sum(u.ndim == 3 for u in updated.values()) == 2 * pair.base_model.config.num_hidden_layers
    loaded = load_peft(pair.fresh_base(), tmp_path / "a", SPURIOUS)
    same_outputs(outputs(loaded), outputs(expected), 1e-4)


def tensor_of(name, tensors):
    """Return the weight that a module updates, in float64; an expert's part of a fused parameter."""
    if name.endswith("]"):
        parameter, number = name[:-1].split("[")
        return tensors[parameter][int(number)].double().numpy()
    return tensors[f"{name}.weight"].double().numpy()


@pytest.mark.parametrize("name", ["mixtral", "qwen3 moe", "gpt_oss"])
def test_a_cut_of_fused_parameters_equals_numpys_svd_of_each_expert(name, tmp_path):
    _, base, tuned = fine_tuned(tmp_path, name, "own" if name == "gpt_oss" else "fused")
    eckart.extract(base, tuned, tmp_path / "a", rank=3, dtype="F32")
    before, after = load_file(base / "model.safetensors"), load_file(tuned / "model.safetensors")
    updates_by_module = matrices(tmp_path / "a")
    assert (
        sum(n.endswith("]") for n in updates_by_module)
        == 2 * {"mixtral": 8, "qwen3 moe": 6, "gpt_oss": 3}[name]
    )
    for module, actual in updates_by_module.items():
        update = tensor_of(module, after) - tensor_of(module, before)
        if module.endswith("]") and name == "gpt_oss":
            update = update.T  # stored as (d_in, d_out)
        # fused files hold gate and up as one matrix
        np.testing.assert_allclose(actual, cut(update, 3), rtol=0, atol=2e-6)


@pytest.mark.parametrize("name, layout", CASES[:4])
def test_split_experts_are_written_by_name(name, layout, tmp_path):
    _, base, tuned = fine_tuned(tmp_path, name, layout)
    fused = eckart.extract(base, tuned, tmp_path / "fused", rank=3, dtype="F32")
    done = eckart.extract(base, tuned, tmp_path / "a", rank=3, dtype="F32", experts="split")
    leaves = {"mixtral": {"w1", "w2", "w3"}, "qwen3 moe": {"gate_proj", "up_proj", "down_proj"}}[name]
    keys = [k for k in load_file(tmp_path / "a" / "adapter_model.safetensors") if ".experts." in k]
    assert {k.split(".")[-3] for k in keys} == leaves
    assert "target_parameters" not in read_config(tmp_path / "a")
    assert eckart.verify(base, tuned, tmp_path / "a").holds
    assert done.statement.error == pytest.approx(fused.statement.error, rel=1e-6)


def test_an_unchanged_expert_gets_factors_of_zeros(tmp_path):
    """An expert of rank 0 leaves a gap in PEFT's stack, which is filled with zeros."""

    def freeze(model):
        torch.manual_seed(0)
        base = mixtral()
        model.model.layers[0].mlp.experts.down_proj.data[1] = base.model.layers[0].mlp.experts.down_proj[1]

    pair = make_pair(tmp_path, mixtral, change=freeze)
    eckart.extract(pair.base, pair.tuned, tmp_path / "a", rank=3, dtype="F32")
    found = dense(tmp_path / "a")["model.layers.0.mlp.experts.down_proj"]
    assert [bool(np.any(part)) for part in found] == [True, False, True, True]
    load_peft(pair.fresh_base(), tmp_path / "a", SPURIOUS)
    assert eckart.verify(pair.base, pair.tuned, tmp_path / "a").holds


def test_a_store_has_one_record_per_expert(tmp_path):
    for layout, expected in (("own", 2 * 4 * 3), ("fused", 2 * 4 * 2)):
        _, base, tuned = fine_tuned(tmp_path / layout, "mixtral", layout)
        store = eckart.factor(base, tuned, tmp_path / f"store-{layout}", max_rank=4)
        names = [r.name for r in store if ".experts" in r.name]
        assert len(names) == len(set(names)) == expected
        assert all(len(store.record(name).shape) == 2 for name in names)


# --- the two layouts ---


def updates(modules):
    return {m.name: np.matmul(*m.product()) for m in modules.values()}


def config_of(case):
    return json.loads((case.base / "config.json").read_text())


@pytest.mark.parametrize(
    "name", ["mixtral", "mixtral rsLoRA", "mixtral one parameter", "qwen3 moe", "qwen3 moe router"]
)
def test_splitting_and_fusing_again_keeps_every_update(name):
    case = case_of(name)
    before = load_adapter(case.adapter).modules
    config = config_of(case)
    apart = split_experts(before, config)
    assert not any(m.expert or m.kind == "router" for m in apart.values())
    expected = dense(case.adapter)
    pieces = updates(apart)
    container = "block_sparse_moe.experts" if "mixtral" in name else "mlp.experts"
    gate, up, down = ("w1", "w3", "w2") if "mixtral" in name else ("gate_proj", "up_proj", "down_proj")
    checked = 0
    for full, update in expected.items():
        path, _, leaf = full.rpartition(".")
        path = path.replace("mlp.experts", container)
        for number, whole in enumerate(update) if update.ndim == 3 else ():
            parts = [down] if leaf == "down_proj" else [gate, up]
            stacked = np.concatenate([pieces[f"{path}.{number}.{part}"] for part in parts])
            np.testing.assert_allclose(stacked, whole, rtol=0, atol=1e-12)
            checked += 1
    assert checked == sum(len(u) for u in expected.values() if u.ndim == 3)

    together = updates(even_scales(fuse_experts(apart, config)))
    whole = updates(before)
    assert together.keys() == whole.keys()
    for full, update in whole.items():
        np.testing.assert_allclose(together[full], update, rtol=0, atol=4 * EPS32 * np.abs(update).max())


@pytest.mark.parametrize("missing", [["w3"], ["w1"], ["w2"], ["w1", "w3"]])
def test_fusing_fills_a_missing_matrix_with_zeros(missing):
    case = case_of("mixtral")
    config = config_of(case)
    apart = split_experts(load_adapter(case.adapter).modules, config)
    some = {n: m for n, m in apart.items() if not ("experts.2." in n and n.rpartition(".")[2] in missing)}
    together = updates(fuse_experts(some, config))
    expected = dense(case.adapter)
    for layer in (0, 1):
        path = f"model.layers.{layer}.mlp.experts"
        gate_up, down = expected[f"{path}.gate_up_proj"].copy(), expected[f"{path}.down_proj"].copy()
        half = gate_up.shape[1] // 2
        if "w1" in missing:
            gate_up[2, :half] = 0
        if "w3" in missing:
            gate_up[2, half:] = 0
        if "w2" in missing:
            down[2] = 0
        for number in range(4):
            np.testing.assert_allclose(
                together[f"{path}.gate_up_proj[{number}]"], gate_up[number], atol=1e-12
            )
            np.testing.assert_allclose(together[f"{path}.down_proj[{number}]"], down[number], atol=1e-12)


@pytest.mark.parametrize("name", ["mixtral", "mixtral rsLoRA", "qwen3 moe", "gpt_oss"])
def test_a_mixtures_adapter_is_saved_as_it_was_read(name, tmp_path):
    case = case_of(name)
    load_adapter(case.adapter).save(tmp_path / "a")
    before, after = (load_file(f / "adapter_model.safetensors") for f in (case.adapter, tmp_path / "a"))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    same_outputs(case.outputs(case.loaded(tmp_path / "a")), case.outputs(case.loaded()))


def test_logits_of_an_energy_cut_are_those_of_base_plus_BA(tmp_path):
    """Attention only; the experts are compared above."""
    pair = make_pair(tmp_path, mixtral)
    eckart.extract(pair.base, pair.tuned, tmp_path / "a", energy=0.8, exclude="experts|gate", dtype="F32")
    loaded = load_peft(pair.fresh_base(), tmp_path / "a")
    same_outputs(outputs(loaded), outputs(by_hand(pair, tmp_path / "a")))


@pytest.mark.parametrize(
    ("consumers", "kind", "name"),
    [
        ("", "router", "model.layers.0.mlp.gate"),
        ("peft", "router", "model.layers.0.mlp.gate"),
        ("vllm", "linear", "model.layers.0.block_sparse_moe.gate"),
    ],
)
def test_a_router_without_experts_has_the_form_that_its_reader_needs(consumers, kind, name, tmp_path):
    def change_router(model):
        torch.manual_seed(0)  # as `make_pair` builds the base
        model.load_state_dict(mixtral().state_dict())
        generator = torch.Generator().manual_seed(3)
        weight = model.model.layers[0].mlp.gate.weight
        weight.data += 0.1 * torch.randn(weight.shape, generator=generator)

    pair = make_pair(tmp_path, mixtral, change=change_router)
    done = eckart.extract(pair.base, pair.tuned, tmp_path / "a", rank=2, dtype="F32", consumers=consumers)
    assert {m.name: m.kind for m in done.adapter if m.left.any()} == {name: kind}
    assert eckart.verify(pair.base, pair.tuned, tmp_path / "a").holds
