"""What `verify` notices when an adapter or its statement is changed, and what it refuses."""

import json

import numpy as np
import pytest

import eckart
from eckart.errors import AdapterError
from support import tuned_models
from support.stated_errors import rewrite, statement
from support.weights import SHAPES, save, save_pair, updates, weights

torch = pytest.importorskip("torch")
from safetensors.torch import load_file, save_file  # noqa: E402


@pytest.fixture(scope="module", params=["F32", "BF16"])
def pair(request, tmp_path_factory):
    return save_pair(tmp_path_factory.mktemp("pair"), weights(), updates(), request.param)


@pytest.fixture
def extracted(pair, tmp_path):
    eckart.extract(*pair, tmp_path / "a", energy=0.8)
    return tmp_path / "a"


def broken(checked):
    assert not checked.holds
    return [m.name for m in checked.modules if not m.holds]


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("factor", [0.99, 1.01])
def test_a_stated_error_that_is_off_by_one_percent_is_noticed(name, factor, pair, extracted):
    rewrite(extracted, lambda s: s["modules"][name].update(error=s["modules"][name]["error"] * factor))
    assert broken(eckart.verify(*pair, extracted)) == [name]


def test_a_stated_total_error_that_is_off_by_one_percent_is_noticed(pair, extracted):
    rewrite(extracted, lambda s: s.update(error=s["error"] * 1.01))
    checked = eckart.verify(*pair, extracted)
    assert not checked.holds and all(m.holds for m in checked.modules)


@pytest.mark.parametrize("number", ["update", "rank"])
def test_any_other_false_number_of_a_module_is_noticed(number, pair, extracted):
    def change(stated):
        stated["modules"]["layers.0.q_proj"][number] *= 2

    rewrite(extracted, change)
    assert not eckart.verify(*pair, extracted).holds


@pytest.mark.parametrize("number", ["error_of_whole_change", "parameters"])
def test_a_false_total_is_noticed(number, pair, extracted):
    rewrite(extracted, lambda s: s.update({number: s[number] * 2}))
    assert not eckart.verify(*pair, extracted).holds


@pytest.mark.parametrize("gone", ["entry", "error"])
def test_a_removed_statement_of_a_module_is_noticed(gone, pair, extracted):
    def change(stated):
        if gone == "entry":
            del stated["modules"]["layers.0.q_proj"]
        else:
            del stated["modules"]["layers.0.q_proj"]["error"]

    rewrite(extracted, change)
    assert not eckart.verify(*pair, extracted).holds


@pytest.mark.parametrize("half", ["lora_A", "lora_B"])
@pytest.mark.parametrize("name", SHAPES)
def test_a_changed_factor_is_noticed_in_its_module(name, half, pair, extracted):
    file = extracted / "adapter_model.safetensors"
    tensors = load_file(file)
    key = f"base_model.model.{name}.{half}.weight"
    tensors[key] = tensors[key] * 1.05
    save_file(tensors, file)
    assert broken(eckart.verify(*pair, extracted)) == [name]


def test_a_removed_module_is_noticed(pair, extracted):
    file = extracted / "adapter_model.safetensors"
    tensors = {k: v for k, v in load_file(file).items() if "layers.1.up_proj" not in k}
    save_file(tensors, file)
    checked = eckart.verify(*pair, extracted)
    assert not checked.holds
    assert "the statement lists layers.1.up_proj, which is not in the file" in checked.problems


def test_a_changed_alpha_is_noticed(pair, extracted):
    config = json.loads((extracted / "adapter_config.json").read_text())
    config["lora_alpha"] *= 2
    (extracted / "adapter_config.json").write_text(json.dumps(config))
    largest = [n for n, m in statement(extracted)["modules"].items() if m["rank"] == config["r"]]
    assert broken(eckart.verify(*pair, extracted)) == largest


def test_a_changed_whole_tensor_is_noticed(pair, tmp_path):
    random = np.random.default_rng(4)
    shifted = {"norm.weight": weights()["norm.weight"] + 0.1 * random.standard_normal(60)}
    base = save(tmp_path / "b", weights(), "F32")
    tuned = save(
        tmp_path / "t", {**weights(), **shifted, **{k: weights()[k] + v for k, v in updates().items()}}, "F32"
    )
    eckart.extract(base, tuned, tmp_path / "w", rank=3, modules_to_save=True)
    assert eckart.verify(base, tuned, tmp_path / "w").holds
    file = tmp_path / "w" / "adapter_model.safetensors"
    tensors = load_file(file)
    tensors["base_model.model.norm.weight"][3] += 0.01
    save_file(tensors, file)
    checked = eckart.verify(base, tuned, tmp_path / "w")
    assert (
        checked.problems == ("norm.weight differs from the same tensor in the tuned checkpoint",)
        and not checked.holds
    )


def test_a_changed_bias_is_noticed(tmp_path):
    change = updates() | {"layers.0.q_proj.bias": np.full(40, 0.25)}
    pair = save_pair(tmp_path, weights(), change)
    eckart.extract(*pair, tmp_path / "a", rank=3, modules_to_save=True)
    file = tmp_path / "a" / "adapter_model.safetensors"
    tensors = load_file(file)
    tensors["base_model.model.layers.0.q_proj.lora_B.bias"] += 1.0
    save_file(tensors, file)
    assert not eckart.verify(*pair, tmp_path / "a").holds


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s.update(modules=[1]),
        lambda s: s["modules"].update({"layers.0.q_proj": 3}),
        lambda s: s["modules"]["layers.0.q_proj"].update(error="small"),
    ],
    ids=["modules", "module", "error"],
)
def test_a_damaged_statement_is_refused_with_its_place(change, pair, extracted):
    rewrite(extracted, change)
    with pytest.raises(AdapterError, match=r"eckart\.json"):
        eckart.verify(*pair, extracted)


def test_a_base_of_another_size_is_refused_with_module_and_shapes(pair, extracted, tmp_path):
    wide = {k: np.zeros((48, 60)) if "q_proj.weight" in k else v for k, v in weights().items()}
    others = save_pair(tmp_path / "other", wide, {})
    with pytest.raises(AdapterError) as caught:
        eckart.verify(*others, extracted)
    assert "layers.0.q_proj" in str(caught.value) and caught.value.fix
    assert "40 x 60" in str(caught.value) and "48 x 60" in str(caught.value)


def test_a_base_without_the_module_is_refused_with_its_name(pair, extracted, tmp_path):
    fewer = {k: v for k, v in weights().items() if "layers.1.up_proj" not in k}
    others = save_pair(tmp_path / "other", fewer, {})
    with pytest.raises(AdapterError, match=r"layers\.1\.up_proj`: the two checkpoints do not both"):
        eckart.verify(*others, extracted)


def test_a_base_of_the_right_size_and_the_wrong_numbers_does_not_hold(pair, extracted, tmp_path):
    other = save(tmp_path / "other", weights(seed=1), "F32")
    checked = eckart.verify(other, pair[1], extracted)
    assert not checked.holds and set(broken(checked)) == set(SHAPES)


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated")  # transformers' own, in PEFT
@pytest.mark.parametrize("alpha, rslora", [(8, False), (24, False), (24, True)])
def test_an_adapter_that_peft_made_is_measured(alpha, rslora, tmp_path):
    """No eckart.json, and a scale that is not 1: the error is measured, and there is nothing to hold."""
    pair = tuned_models.make_pair(tmp_path, tuned_models.llama)
    config = tuned_models.peft.LoraConfig(
        r=8, lora_alpha=alpha, use_rslora=rslora, target_modules=["q_proj", "up_proj"]
    )
    model = tuned_models.peft.get_peft_model(pair.fresh_base(), config)
    torch.manual_seed(5)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.02)
    model.save_pretrained(tmp_path / "a")
    merged = model.merge_and_unload().state_dict()
    before, after = pair.base_model.state_dict(), pair.tuned_model.state_dict()
    expected = {}
    for i in (0, 1):
        for part in ("self_attn.q_proj", "mlp.up_proj"):
            name = f"model.layers.{i}.{part}"
            update, miss = (after[f"{name}.weight"] - other[f"{name}.weight"] for other in (before, merged))
            # `merged` has the base's float32 roundings added, 1e-8 next to an update of 0.02.
            expected[name] = pytest.approx(float(miss.double().norm() / update.double().norm()), rel=1e-4)
    checked = eckart.verify(pair.base, pair.tuned, tmp_path / "a")
    assert {m.name: m.error for m in checked.modules} == expected
    assert checked.holds and checked.stated is None and all(m.stated is None for m in checked.modules)
