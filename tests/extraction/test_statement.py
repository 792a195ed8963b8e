"""What an adapter states, against float64 sums over the files, and what `verify` makes of it."""

import json
import shutil

import numpy as np
import pytest

import eckart
from eckart.errors import AdapterError, PairError
from support.matrices import with_values
from support.weights import SHAPES, save, save_pair, updates, weights

torch = pytest.importorskip("torch")
from safetensors.torch import load_file, save_file  # noqa: E402

RULES = {
    "rank": {"rank": 7},
    "rank bounded": {"energy": 0.9, "min_rank": 2, "max_rank": 12, "multiple_of": 4},
    "energy": {"energy": 0.8},
    "error": {"error": 0.3},
    "ratio": {"ratio": 8},
    "knee": {"knee": True},
    "noise floor": {"noise_floor": True, "max_rank": 40},
    "budget": {"budget": "12K"},
    "uniform": {"energy": 0.7, "uniform": True},
}

# The energy left out is ||dW||^2 - sum s^2 while it is above 1e-3 of the whole; s^2 is right to about
# 1e-7 in float32, hence the energy to 1e-4 and its root to half of that.
RELATIVE = 1e-4
# An update that the factors hold exactly leaves float32 roundings of the product: some 1e-7.
ABSOLUTE = 1e-6


def read(folder):
    """Return every tensor of a checkpoint or an adapter in float64."""
    (file,) = folder.glob("*.safetensors")
    return {name: tensor.double().numpy() for name, tensor in load_file(file).items()}


def measured(base, tuned, adapter):
    """Return each module's relative error, and that of all together, by float64 sums over the files."""
    before, after, factors = read(base), read(tuned), read(adapter)
    errors, missed, whole = {}, 0.0, 0.0
    for key in factors:
        if not key.endswith(".lora_A.weight"):
            continue
        name = key.removesuffix(".lora_A.weight").removeprefix("base_model.model.")
        update = after[f"{name}.weight"] - before[f"{name}.weight"]
        product = factors[key.replace("lora_A", "lora_B")] @ factors[key]
        errors[name] = np.linalg.norm(update - product) / np.linalg.norm(update)
        missed += np.linalg.norm(update - product) ** 2
        whole += np.linalg.norm(update) ** 2
    return errors, float(np.sqrt(missed / whole))


def statement(adapter):
    return json.loads((adapter / "eckart.json").read_text())


def rewrite(adapter, change):
    stated = statement(adapter)
    change(stated)
    (adapter / "eckart.json").write_text(json.dumps(stated))


@pytest.fixture(scope="module", params=["F32", "BF16"])
def pair(request, tmp_path_factory):
    return save_pair(tmp_path_factory.mktemp("pair"), weights(), updates(), request.param)


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
@pytest.mark.parametrize("rule", RULES)
def test_stated_errors_are_those_of_the_files(rule, dtype, pair, tmp_path):
    done = eckart.extract(*pair, tmp_path / "a", dtype=dtype, **RULES[rule])
    errors, together = measured(*pair, tmp_path / "a")
    stated = statement(tmp_path / "a")
    assert stated == json.loads(json.dumps(done.statement.to_json()))  # a pair of bounds is a list in JSON
    assert set(stated["modules"]) == set(errors)
    for name, error in errors.items():
        assert stated["modules"][name]["error"] == pytest.approx(error, rel=RELATIVE, abs=ABSOLUTE), name
    assert stated["error"] == pytest.approx(together, rel=RELATIVE, abs=ABSOLUTE)

    checked = eckart.verify(*pair, tmp_path / "a")
    assert checked.holds and not checked.problems
    assert checked.error == pytest.approx(together, rel=1e-5, abs=ABSOLUTE)
    assert {m.name: m.error for m in checked.modules} == {
        name: pytest.approx(error, rel=1e-5, abs=ABSOLUTE) for name, error in errors.items()
    }
    assert {m.name: m.rank for m in checked.modules} == {n: m["rank"] for n, m in stated["modules"].items()}


def test_the_rule_that_was_asked_for_holds_for_what_is_written(pair, tmp_path):
    """Errors are measured after rounding, so a target may be missed by that and by nothing more."""
    eckart.extract(*pair, tmp_path / "e", energy=0.8, dtype="F32")
    eckart.extract(*pair, tmp_path / "r", error=0.3, dtype="F32")
    done = eckart.extract(*pair, tmp_path / "b", budget="12K", dtype="F32")
    for error in measured(*pair, tmp_path / "e")[0].values():
        assert 1 - error**2 >= 0.8 - 1e-6
    for error in measured(*pair, tmp_path / "r")[0].values():
        assert error <= 0.3 + 1e-6
    written = sum(a.size for k, a in read(tmp_path / "b").items())
    cheapest = min(sum(shape) for shape, _ in SHAPES.values())
    assert done.statement.parameters == written
    assert 12_000 - cheapest < written <= 12_000  # not one component more would have fitted


@pytest.mark.parametrize("rule", [{"rank": 5}, {"energy": 1 - 1e-9}, {"error": 1e-4}])
def test_an_exact_low_rank_update_is_held_exactly(rule, tmp_path):
    change = {
        f"{n}.weight": with_values(np.array([5.0, 4.0, 3.0, 2.0, 1.0]), *s) for n, (s, _) in SHAPES.items()
    }
    base = {name: np.zeros_like(array) for name, array in weights().items()}
    pair = save_pair(tmp_path, base, change)
    done = eckart.extract(*pair, tmp_path / "a", dtype="F32", **rule)
    assert {m.rank for m in done.adapter} == {5}
    assert max(measured(*pair, tmp_path / "a")[0].values()) < ABSOLUTE
    assert done.statement.error < ABSOLUTE and done.statement.error_of_whole_change < ABSOLUTE
    assert eckart.verify(*pair, tmp_path / "a").holds


def test_a_small_update_of_a_large_base_keeps_its_own_error(tmp_path):
    """The subtraction is exact to the base's rounding, and errors are relative to the update."""
    small = {name: 1e-4 * array for name, array in updates().items()}
    pair = save_pair(tmp_path, weights(), small)
    eckart.extract(*pair, tmp_path / "a", rank=4, dtype="F32")
    errors, _ = measured(*pair, tmp_path / "a")
    stated = statement(tmp_path / "a")["modules"]
    assert {n: m["error"] for n, m in stated.items()} == {
        n: pytest.approx(e, rel=RELATIVE) for n, e in errors.items()
    }


def test_the_whole_change_counts_what_has_no_factors(tmp_path):
    change = updates() | {"norm.weight": np.full(60, 0.5), "layers.0.q_proj.bias": np.full(40, 0.25)}
    pair = save_pair(tmp_path, weights(), change)
    eckart.extract(*pair, tmp_path / "a", rank=3, dtype="F32", exclude=["down_proj"])
    before, after, factors = read(pair[0]), read(pair[1]), read(tmp_path / "a")
    lost = everything = 0.0
    for name in before:
        update = after[name] - before[name]
        everything += np.linalg.norm(update) ** 2
        key = f"base_model.model.{name.removesuffix('.weight')}.lora_A.weight"
        if key in factors and name.endswith(".weight"):
            update = update - factors[key.replace("lora_A", "lora_B")] @ factors[key]
        lost += np.linalg.norm(update) ** 2
    stated = statement(tmp_path / "a")
    assert stated["error_of_whole_change"] == pytest.approx(np.sqrt(lost / everything), rel=RELATIVE)
    shares = {item["name"]: item for item in stated["not_carried"]}
    assert set(shares) == {"layers.2.down_proj.weight", "norm.weight", "layers.0.q_proj.bias"}
    assert shares["norm.weight"]["share"] == pytest.approx(60 * 0.25 / everything, rel=1e-5)
    assert shares["layers.2.down_proj.weight"]["why"] == "left out by --include or --exclude"


# --- verify: what it must notice ---


@pytest.fixture
def made(pair, tmp_path):
    eckart.extract(*pair, tmp_path / "a", energy=0.8)
    return tmp_path / "a"


def broken(checked):
    assert not checked.holds
    return [m.name for m in checked.modules if not m.holds]


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("factor", [0.99, 1.01])
def test_one_stated_error_wrong_by_one_percent(name, factor, pair, made):
    rewrite(made, lambda s: s["modules"][name].update(error=s["modules"][name]["error"] * factor))
    assert broken(eckart.verify(*pair, made)) == [name]


def test_the_error_of_all_together_wrong_by_one_percent(pair, made):
    rewrite(made, lambda s: s.update(error=s["error"] * 1.01))
    checked = eckart.verify(*pair, made)
    assert not checked.holds and all(m.holds for m in checked.modules)


@pytest.mark.parametrize("number", ["update", "rank"])
def test_another_number_of_a_module_wrong(number, pair, made):
    def change(stated):
        stated["modules"]["layers.0.q_proj"][number] *= 2

    rewrite(made, change)
    assert not eckart.verify(*pair, made).holds


@pytest.mark.parametrize("number", ["error_of_whole_change", "parameters"])
def test_a_total_wrong(number, pair, made):
    rewrite(made, lambda s: s.update({number: s[number] * 2}))
    assert not eckart.verify(*pair, made).holds


@pytest.mark.parametrize("gone", ["entry", "error"])
def test_a_module_whose_statement_was_taken_out(gone, pair, made):
    def change(stated):
        if gone == "entry":
            del stated["modules"]["layers.0.q_proj"]
        else:
            del stated["modules"]["layers.0.q_proj"]["error"]

    rewrite(made, change)
    assert not eckart.verify(*pair, made).holds


@pytest.mark.parametrize("half", ["lora_A", "lora_B"])
@pytest.mark.parametrize("name", SHAPES)
def test_one_factor_changed(name, half, pair, made):
    file = made / "adapter_model.safetensors"
    tensors = load_file(file)
    key = f"base_model.model.{name}.{half}.weight"
    tensors[key] = tensors[key] * 1.05
    save_file(tensors, file)
    assert broken(eckart.verify(*pair, made)) == [name]


def test_one_module_removed(pair, made):
    file = made / "adapter_model.safetensors"
    tensors = {k: v for k, v in load_file(file).items() if "layers.1.up_proj" not in k}
    save_file(tensors, file)
    checked = eckart.verify(*pair, made)
    assert not checked.holds
    assert "layers.1.up_proj is stated and not in the file" in checked.problems


def test_alpha_changed(pair, made):
    config = json.loads((made / "adapter_config.json").read_text())
    config["lora_alpha"] *= 2
    (made / "adapter_config.json").write_text(json.dumps(config))
    largest = [n for n, m in statement(made)["modules"].items() if m["rank"] == config["r"]]
    assert broken(eckart.verify(*pair, made)) == largest


def test_a_whole_tensor_changed(pair, tmp_path):
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
    assert checked.problems == ("norm.weight is not what the tuned checkpoint holds",) and not checked.holds


def test_a_bias_changed(tmp_path):
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
def test_a_damaged_statement_is_refused_with_its_place(change, pair, made):
    rewrite(made, change)
    with pytest.raises(AdapterError, match=r"eckart\.json"):
        eckart.verify(*pair, made)


# --- verify: another base, another maker ---


def test_a_base_of_another_size_is_refused_with_module_and_shapes(pair, made, tmp_path):
    wide = {k: np.zeros((48, 60)) if "q_proj.weight" in k else v for k, v in weights().items()}
    others = save_pair(tmp_path / "other", wide, {})
    with pytest.raises(AdapterError) as caught:
        eckart.verify(*others, made)
    assert "layers.0.q_proj" in str(caught.value) and caught.value.fix
    assert "40 x 60" in str(caught.value) and "48 x 60" in str(caught.value)


def test_a_base_without_the_module_is_refused_with_its_name(pair, made, tmp_path):
    fewer = {k: v for k, v in weights().items() if "layers.1.up_proj" not in k}
    others = save_pair(tmp_path / "other", fewer, {})
    with pytest.raises(AdapterError, match=r"layers\.1\.up_proj`: the two checkpoints do not both"):
        eckart.verify(*others, made)


def test_a_base_of_the_right_size_and_the_wrong_numbers_does_not_hold(pair, made, tmp_path):
    other = save(tmp_path / "other", weights(seed=1), "F32")
    checked = eckart.verify(other, pair[1], made)
    assert not checked.holds and set(broken(checked)) == set(SHAPES)


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated")  # transformers' own, in PEFT
@pytest.mark.parametrize("alpha, rslora", [(8, False), (24, False), (24, True)])
def test_an_adapter_that_peft_made_is_measured(alpha, rslora, tmp_path):
    """No eckart.json, and a scale that is not 1: the error is measured, and there is nothing to hold."""
    pairs = pytest.importorskip("adapter.pairs")
    pair = pairs.make_pair(tmp_path, pairs.llama)
    config = pairs.peft.LoraConfig(
        r=8, lora_alpha=alpha, use_rslora=rslora, target_modules=["q_proj", "up_proj"]
    )
    model = pairs.peft.get_peft_model(pair.fresh_base(), config)
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
            # `merged` has the base's float32 roundings added, 1e-8 beside an update of 0.02.
            expected[name] = pytest.approx(float(miss.double().norm() / update.double().norm()), rel=1e-4)
    checked = eckart.verify(pair.base, pair.tuned, tmp_path / "a")
    assert {m.name: m.error for m in checked.modules} == expected
    assert checked.holds and checked.stated is None and all(m.stated is None for m in checked.modules)


def test_equal_checkpoints_have_nothing_to_extract(pair, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(pair[0], copy)
    with pytest.raises(PairError, match="hold the same weights"):
        eckart.extract(pair[0], copy, tmp_path / "a", noise_floor=True)
    assert not (tmp_path / "a").exists()
