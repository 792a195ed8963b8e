"""Merged models, compared with those of PEFT's merge_and_unload; files keep names, shapes and dtypes."""

import json
import tracemalloc
from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest

import eckart
from eckart.adapter import load_adapter
from eckart.adapter.experts import split_experts
from eckart.checkpoint import read_header, write_safetensors
from eckart.errors import AdapterError, InputError, OutputError, UsageError
from eckart.operations import merge, resize
from support.terminal import tree
from support.tuned_models import bert, gpt2, llama, load_file, make_pair, tied_llama, torch, transformers
from support.zoo import ZOO, case_of, dense, make_adapter, mixtral, same_outputs, save_base

EPS32 = float(np.finfo(np.float32).eps)


def tensors(folder):
    found = {}
    for file in sorted(folder.glob("*.safetensors")):
        found |= load_file(file)
    return found


def reloaded(case, folder, dtype=torch.float32):
    """The model in a folder, as its own class loads it."""
    if not hasattr(case.model, "config"):
        model = case.fresh_base().to(dtype)
        model.load_state_dict(tensors(folder))
        return model.eval()
    return type(case.model).from_pretrained(folder, dtype=dtype).eval()


def save_as(case, folder, dtype):
    save_base(case.fresh_base().to(dtype), folder)
    return folder


# --- compared with PEFT ---

# PEFT adds an update of tied layers twice to the one weight: `test_an_update_of_tied_layers_is_added_once`.
TIED = "llama tied layers"
AS_PEFT = [name for name in ZOO if name != TIED]


@pytest.mark.parametrize("name", AS_PEFT)
def test_a_float32_merge_equals_that_of_peft(name, tmp_path):
    case = case_of(name)
    merge(case.base, [case.adapter], tmp_path / "m")
    ours, theirs = reloaded(case, tmp_path / "m").state_dict(), case.merged()
    before = case.model.state_dict()
    changed = 0
    for key, expected in theirs.items():
        # Both libraries round the update and the sum to float32; the numbers go up to about 10.
        torch.testing.assert_close(ours[key], expected, rtol=1e-6, atol=1e-6 * float(expected.abs().max()))
        changed += not torch.equal(before[key], expected)
    assert changed
    assert ours.keys() == theirs.keys()


@pytest.mark.parametrize("name", AS_PEFT)
def test_a_bfloat16_merge_is_the_exact_sum_rounded_once(name, tmp_path):
    case = case_of(name)
    base = save_as(case, tmp_path / "base", torch.bfloat16)
    merge(base, [case.adapter], tmp_path / "m")
    merged, before = tensors(tmp_path / "m"), tensors(base)
    exact = reloaded(case, base)  # bfloat16 numbers in float32
    other_case = type(case)(name, base, case.adapter, exact, case.allowed)
    theirs = other_case.merged()
    ours = reloaded(case, tmp_path / "m", torch.bfloat16).state_dict()
    assert {k: v.dtype for k, v in merged.items()} == {k: v.dtype for k, v in before.items()}
    for key, expected in theirs.items():
        if not expected.is_floating_point():
            continue
        # One rounding is half an ulp, 2^-9 of the number; PEFT's float32 sum may round the other way.
        torch.testing.assert_close(ours[key].float(), expected, rtol=2**-8 * 1.001, atol=1e-7)
        nearest = expected.to(torch.bfloat16)
        assert (nearest != ours[key]).float().mean() < 0.01, key


def test_an_update_of_tied_layers_is_added_once(tmp_path):
    case = case_of(TIED)
    merge(case.base, [case.adapter], tmp_path / "m")
    ours = reloaded(case, tmp_path / "m")
    same_outputs(case.outputs(ours.eval()), case.outputs(case.loaded()))
    key = "model.embed_tokens.weight"
    once = ours.state_dict()[key] - case.model.state_dict()[key]
    torch.testing.assert_close(case.merged()[key] - case.model.state_dict()[key], 2 * once)


@pytest.mark.parametrize("name", ["llama", "mixtral", "gpt2", "llama lora_bias"])
@pytest.mark.parametrize("weights", [[0.5], [-1.0], [2.0]])
def test_a_weight_scales_the_update(name, weights, tmp_path):
    case = case_of(name)
    merge(case.base, [case.adapter], tmp_path / "m", weights)
    ours, theirs = reloaded(case, tmp_path / "m").state_dict(), case.merged()
    for key, before in case.model.state_dict().items():
        expected = before + weights[0] * (theirs[key] - before)
        torch.testing.assert_close(ours[key], expected, rtol=3e-6, atol=3e-6)


def test_several_adapters_with_weights(tmp_path):
    model = case_of("llama").model
    folders = [
        make_adapter(model, tmp_path / "1", seed=1, r=3, lora_alpha=5, target_modules=["q_proj", "v_proj"]),
        make_adapter(
            model,
            tmp_path / "2",
            seed=2,
            r=7,
            lora_alpha=2,
            target_modules=["q_proj", "up_proj"],
            use_rslora=True,
        ),
    ]
    result = merge(case_of("llama").base, folders, tmp_path / "m", [0.7, -0.4])
    merged, before = tensors(tmp_path / "m"), tensors(case_of("llama").base)
    updates = [dense(folder) for folder in folders]
    touched = set()
    for key, weight in before.items():
        module = key.removesuffix(".weight")
        change = sum(w * u.get(module, np.zeros(1)) for w, u in zip([0.7, -0.4], updates, strict=True))
        touched |= {key} if np.any(change) else set()
        np.testing.assert_allclose(merged[key].numpy(), weight.numpy() + change, rtol=0, atol=4e-6)
    assert set(result.changed) == touched
    assert [source.weight for source in result.statement.sources] == [0.7, -0.4]


@pytest.mark.parametrize("weights", [[1.0], [1, 2, 3], [float("nan"), 1.0], [0.0, 0.0], ["a", 1]])
def test_invalid_weights_are_refused(weights, tmp_path):
    case = case_of("llama")
    with pytest.raises(UsageError, match="weights"):
        merge(case.base, [case.adapter, case.adapter], tmp_path / "m", weights)
    assert not (tmp_path / "m").exists()


def test_whole_tensors_replace_those_of_the_base(tmp_path):
    case = case_of("bert")
    result = merge(case.base, [case.adapter], tmp_path / "m")
    whole = load_adapter(case.adapter).dense
    assert {"classifier.weight", "classifier.bias"} == set(whole) == set(result.statement.whole)
    merged = tensors(tmp_path / "m")
    for key, value in whole.items():
        assert np.array_equal(merged[key].numpy(), value)


# --- the files ---


def sharded(model, folder, dtype=torch.float32):
    model = model.to(dtype)
    model.save_pretrained(folder, max_shard_size="9KB")
    for name in ("README.md", "tokenizer.json", "LICENSE"):
        (folder / name).write_text(f"the {name} of the base")
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04 never copied")
    assert len(list(folder.glob("*.safetensors"))) >= 3
    return folder


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_shards_names_dtypes_and_other_files_are_kept(dtype, workers, tmp_path):
    case = case_of("llama patterns")
    base = sharded(case.fresh_base(), tmp_path / "base", dtype)
    result = merge(base, [case.adapter], tmp_path / "m", workers=workers)
    out = tmp_path / "m"
    for file in base.glob("*.safetensors"):
        old, new = read_header(file), read_header(out / file.name)
        assert old.metadata == new.metadata
        assert {n: (i.dtype, i.shape) for n, i in old.tensors.items()} == {
            n: (i.dtype, i.shape) for n, i in new.tensors.items()
        }
    index = "model.safetensors.index.json"
    old, new = (json.loads((folder / index).read_text()) for folder in (base, out))
    assert old["weight_map"] == new["weight_map"]
    assert new["metadata"]["total_size"] == old["metadata"]["total_size"] == result.size
    expected = {p.name for p in base.iterdir()} - {"pytorch_model.bin"} | {"eckart.json"}
    assert {p.name for p in out.iterdir()} == expected
    for name in ("README.md", "tokenizer.json", "LICENSE", "config.json"):
        assert (base / name).read_bytes() == (out / name).read_bytes()
    before, after = tensors(base), tensors(out)
    updated = {f"{name}.weight" for name in dense(case.adapter)}
    for key in before:
        assert torch.equal(before[key], after[key]) == (key not in updated), key


def test_any_number_of_workers_writes_the_same_bytes(tmp_path):
    case = case_of("mixtral")
    for workers in (1, 2):
        merge(case.base, [case.adapter], tmp_path / str(workers), workers=workers)
    assert tree(tmp_path / "1") == tree(tmp_path / "2")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_the_stated_rounding_error_is_what_numpy_measures(dtype, tmp_path):
    case = case_of("llama")
    base = save_as(case, tmp_path / "base", getattr(torch, dtype))
    result = merge(base, [case.adapter], tmp_path / "m")
    before, after, updates = tensors(base), tensors(tmp_path / "m"), dense(case.adapter)
    gaps = whole = 0.0
    for name, update in updates.items():
        gap = (after[f"{name}.weight"].double() - before[f"{name}.weight"].double()).numpy() - update
        stated = result.statement.tensors[f"{name}.weight"]
        assert stated.update == pytest.approx(np.linalg.norm(update), rel=1e-5)
        # The rounding of the float32 sum, 1e-7 of the weights, is not counted.
        expected = np.linalg.norm(gap) / np.linalg.norm(update)
        assert stated.rounding == pytest.approx(expected, rel=1e-3, abs=1e-6)
        gaps, whole = gaps + np.square(gap).sum(), whole + np.square(update).sum()
    assert result.statement.rounding == pytest.approx(np.sqrt(gaps / whole), rel=1e-3, abs=1e-6)
    assert (result.statement.rounding > 1e-5) == (dtype != "float32")
    assert json.loads((tmp_path / "m" / "eckart.json").read_text()) == result.statement.to_json()


def test_a_dry_run_writes_nothing_and_reports_the_same_tensors(tmp_path):
    case = case_of("llama")
    planned = merge(case.base, [case.adapter], tmp_path / "m", dry_run=True)
    assert not list(tmp_path.iterdir()) and (planned.path, planned.statement) == (None, None)
    result = merge(case.base, [case.adapter], tmp_path / "m")
    assert (planned.changed, planned.added, planned.size) == (
        result.changed,
        result.added,
        result.size,
    )
    stored = sum(i.nbytes for i in read_header(tmp_path / "m" / "model.safetensors").tensors.values())
    assert planned.size == stored


def test_only_an_earlier_merge_can_be_overwritten(tmp_path):
    case = case_of("llama")
    merge(case.base, [case.adapter], tmp_path / "m")
    before = tree(tmp_path)
    with pytest.raises(OutputError, match="overwrite=True"):
        merge(case.base, [case.adapter], tmp_path / "m", [2.0])
    assert tree(tmp_path) == before
    merge(case.base, [case.adapter], tmp_path / "m", [2.0], overwrite=True)
    assert tree(tmp_path) != before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    with pytest.raises(OutputError, match=r"has no eckart\.json"):
        merge(case.base, [case.adapter], tmp_path / "mine", overwrite=True)
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "years of work"


@pytest.mark.parametrize("overwrite", [False, True])
def test_the_base_and_the_adapter_are_never_replaced(overwrite, tmp_path):
    case = case_of("llama")
    base = save_as(case, tmp_path / "base", torch.float32)
    load_adapter(case.adapter).save(tmp_path / "a")
    before = tree(tmp_path)
    for out in (base, tmp_path, tmp_path / "a"):
        with pytest.raises(OutputError, match="is or contains the input"):
            merge(base, [tmp_path / "a"], out, overwrite=overwrite)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("overwrite", [False, True])
def test_an_adapter_that_states_its_errors_is_not_replaced_by_its_merge(overwrite, tmp_path):
    """Both hold an eckart.json, the file that marks a folder as replaceable."""
    case = case_of("llama")
    resize(case.adapter, tmp_path / "a", rank=2)
    before = tree(tmp_path)
    with pytest.raises(OutputError, match="is or contains the input"):
        merge(case.base, [tmp_path / "a"], tmp_path / "a", overwrite=overwrite)
    assert tree(tmp_path) == before


# --- names ---


@pytest.mark.parametrize("name", ["bert", "bert biases", "bert SEQ_CLS"])
def test_a_base_without_the_prefix_of_the_adapter_is_matched(name, tmp_path):
    """The base is BertModel alone; the adapter was made for a classifier that contains it."""
    case = case_of(name)
    base = save_base(case.fresh_base().bert, tmp_path / "base")
    result = merge(base, [case.adapter], tmp_path / "m")
    theirs = case.merged()
    merged = tensors(tmp_path / "m")
    for key, value in merged.items():
        full = key if key in theirs else f"bert.{key}"
        torch.testing.assert_close(value, theirs[full], rtol=1e-6, atol=1e-6)
    assert all(not name.startswith("bert.") for name in result.changed)


def test_a_base_with_a_prefix_that_the_adapter_lacks_is_matched(tmp_path):
    model = bert()
    base = save_base(model, tmp_path / "base")
    folder = make_adapter(model.bert, tmp_path / "a", r=3, lora_alpha=6, target_modules=["query"])
    result = merge(base, [folder], tmp_path / "m")
    assert sorted(result.changed) == [f"bert.encoder.layer.{i}.attention.self.query.weight" for i in (0, 1)]
    merged, before = tensors(tmp_path / "m"), tensors(base)
    for name, update in dense(folder).items():
        np.testing.assert_allclose(
            merged[f"bert.{name}.weight"].numpy(), before[f"bert.{name}.weight"].numpy() + update, atol=1e-6
        )


@pytest.mark.parametrize(
    "other, message",
    [
        (lambda: llama(layers=1), r"model\.layers\.1\.\S+`: the base has no model\.layers\.1"),
        (lambda: llama(hidden_size=32), r"down_proj`: its factors make 24 x 40, but the base holds 32 x 40"),
        (gpt2, r"the base has no model\.layers"),
    ],
)
def test_another_base_is_refused_with_the_name_of_a_module(other, message, tmp_path):
    base = save_base(other(), tmp_path / "base")
    with pytest.raises(AdapterError, match=message):
        merge(base, [case_of("llama rsLoRA").adapter], tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_a_bias_that_the_base_lacks_is_refused(tmp_path):
    base = save_base(llama(), tmp_path / "base")
    with pytest.raises(AdapterError, match="updates the bias of this module, but the base has none"):
        merge(base, [case_of("llama lora_bias").adapter], tmp_path / "m")


def test_a_whole_tensor_of_another_shape_is_refused(tmp_path):
    """PEFT cannot load such an adapter, and transformers could not load the merged model."""
    base = save_base(bert(num_labels=7), tmp_path / "base")
    with pytest.raises(InputError, match="classifier"):
        merge(base, [case_of("bert").adapter], tmp_path / "m")


# --- numbers that are not finite ---


def matrix_base(folder, weight, adapter_scale=1.0):
    """One layer `q` (4, 3), and an adapter of rank 1 for it."""
    (folder / "base").mkdir(parents=True)
    write_safetensors(folder / "base" / "model.safetensors", {"q.weight": weight, "v.weight": weight * 0 + 1})
    (folder / "a").mkdir()
    config = {"peft_type": "LORA", "r": 1, "lora_alpha": 1, "target_modules": ["q"]}
    (folder / "a" / "adapter_config.json").write_text(json.dumps(config))
    write_safetensors(
        folder / "a" / "adapter_model.safetensors",
        {
            "base_model.model.q.lora_A.weight": np.ones((1, weight.shape[1]), np.float32),
            "base_model.model.q.lora_B.weight": np.full((len(weight), 1), adapter_scale, np.float32),
        },
    )
    return folder / "base", folder / "a"


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_a_base_that_is_not_finite_is_refused(bad, dtype, tmp_path):
    weight = np.ones((4, 3), np.float32)
    weight[2, 1] = bad
    with np.errstate(invalid="ignore"):
        base, adapter = matrix_base(tmp_path, weight.astype(dtype))
    with pytest.raises(InputError, match=r"q\.weight`: .*not finite"):
        merge(base, [adapter], tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_an_overflow_of_float16_is_refused(tmp_path):
    base, adapter = matrix_base(tmp_path, np.full((4, 3), 6e4, np.float16), 1e4)
    with pytest.raises(InputError, match=r"q\.weight`: .*not finite in float16"):
        merge(base, [adapter], tmp_path / "m")
    assert not (tmp_path / "m").exists()
    merge(base, [adapter], tmp_path / "m", [0.5])  # 65,000 fits


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, ml_dtypes.bfloat16])
def test_a_merge_of_constant_matrices(dtype, tmp_path):
    base, adapter = matrix_base(tmp_path, np.full((4, 3), 2.0, dtype), 0.5)
    result = merge(base, [adapter], tmp_path / "m", [3.0])
    merged = tensors(tmp_path / "m")
    assert result.changed == ("q.weight",)
    assert torch.equal(merged["q.weight"].double(), torch.full((4, 3), 3.5, dtype=torch.float64))
    assert torch.equal(merged["v.weight"].double(), torch.ones((4, 3), dtype=torch.float64))


# --- tied heads ---


@pytest.mark.parametrize("targets", [["lm_head", "q_proj"], ["lm_head"]])
def test_an_update_of_a_tied_output_layer_alone_is_refused(targets, tmp_path):
    torch.manual_seed(0)
    model = tied_llama()
    base = save_base(model, tmp_path / "base")
    folder = make_adapter(model, tmp_path / "a", r=2, lora_alpha=2, target_modules=targets)
    with pytest.raises(AdapterError, match="to the input embedding"):
        merge(base, [folder], tmp_path / "m")
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("build", [tied_llama, gpt2])
def test_an_update_of_a_tied_table_is_applied_once(build, tmp_path):
    pair = make_pair(tmp_path, build)
    eckart.extract(pair.base, pair.tuned, tmp_path / "a", rank=24, dtype="F32", embeddings=True)
    merge(pair.base, [tmp_path / "a"], tmp_path / "m")
    merged, tuned = tensors(tmp_path / "m"), tensors(pair.tuned)
    assert merged.keys() == tuned.keys()
    for key, expected in tuned.items():
        if expected.ndim == 2:
            torch.testing.assert_close(merged[key], expected, rtol=0, atol=2e-6)


def test_different_updates_of_a_tied_table_and_output_layer_are_refused(tmp_path):
    torch.manual_seed(0)
    model = tied_llama()
    base = save_base(model, tmp_path / "base")
    folder = make_adapter(
        model, tmp_path / "a", r=2, lora_alpha=2, target_modules=["lm_head", "embed_tokens"]
    )
    with pytest.raises(AdapterError, match="to the input embedding"):
        merge(base, [folder], tmp_path / "m")


WHOLE = [(b, e) for b in (bert, gpt2, llama, tied_llama, mixtral) for e in (False, True)]


@pytest.mark.parametrize("build, embeddings", WHOLE)
def test_extract_then_merge_is_the_tuned_model(build, embeddings, tmp_path):
    pair = make_pair(tmp_path, build)
    options = dict(rank=24, dtype="F32", embeddings=embeddings, modules_to_save=True)
    extracted = eckart.extract(pair.base, pair.tuned, tmp_path / "a", **options)
    # PEFT cannot store biases next to factors of an embedding table, so those of BERT are left out then.
    left_out = {item.name for item in extracted.statement.not_carried}
    assert bool(left_out) == (build in (bert, gpt2) and embeddings)
    merge(pair.base, [tmp_path / "a"], tmp_path / "m")
    merged, tuned = tensors(tmp_path / "m"), tensors(pair.tuned)
    assert merged.keys() == tuned.keys()
    for key in tuned.keys() - left_out:
        expected = tuned[key]
        # float32 factors of an update of 0.02
        torch.testing.assert_close(merged[key], expected, rtol=1e-6, atol=2e-6)


# --- experts ---


def test_fused_and_split_experts_merge_into_either_kind_of_base(tmp_path):
    """Mixtral's files hold experts separately; the same model is also written with fused experts."""
    case = case_of("mixtral")
    merge(case.base, [case.adapter], tmp_path / "by-expert")
    fused = tmp_path / "fused"
    fused.mkdir()
    (fused / "config.json").write_text((case.base / "config.json").read_text())
    state = {k: v.contiguous().numpy() for k, v in case.model.state_dict().items()}
    write_safetensors(fused / "model.safetensors", state)
    merge(fused, [case.adapter], tmp_path / "fused-merged")
    theirs = case.merged()
    fused_merged = tensors(tmp_path / "fused-merged")
    named = reloaded(case, tmp_path / "by-expert").state_dict()
    for key, expected in theirs.items():
        torch.testing.assert_close(fused_merged[key], expected, rtol=1e-6, atol=2e-6)
        torch.testing.assert_close(named[key], expected, rtol=1e-6, atol=2e-6)

    config = json.loads((case.base / "config.json").read_text())
    adapter = load_adapter(case.adapter)
    adapter = replace(adapter, modules=split_experts(adapter.modules, config))
    assert any("experts.3.w2" in name for name in adapter.modules)
    for base in (case.base, fused):
        out = tmp_path / f"split-into-{base.name}"
        merge(base, [adapter], out)
        for key, expected in tensors(
            tmp_path / ("by-expert" if base == case.base else "fused-merged")
        ).items():
            torch.testing.assert_close(tensors(out)[key], expected, rtol=1e-6, atol=1e-6)


def test_an_expert_that_the_base_lacks_is_refused(tmp_path):
    torch.manual_seed(0)
    fewer = transformers.MixtralForCausalLM(
        transformers.MixtralConfig(**{**case_of("mixtral").model.config.to_dict(), "num_local_experts": 3})
    )
    base = save_base(fewer, tmp_path / "base")
    with pytest.raises(AdapterError, match="experts"):
        merge(base, [case_of("mixtral").adapter], tmp_path / "m")


# --- memory ---


def test_a_merge_holds_only_a_few_tensors_in_memory(tmp_path):
    """Of 48 layers of 1 MB each, only a few are held at a time."""
    random = np.random.default_rng(0)
    size, layers = 512, 48
    (tmp_path / "base").mkdir()
    weights = {
        f"h.{i}.q.weight": random.standard_normal((size, size)).astype(np.float32) for i in range(layers)
    }
    write_safetensors(tmp_path / "base" / "model.safetensors", weights)
    (tmp_path / "a").mkdir()
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 4, "target_modules": ["q"]}
    (tmp_path / "a" / "adapter_config.json").write_text(json.dumps(config))
    factors = {}
    for i in range(layers):
        factors[f"base_model.model.h.{i}.q.lora_A.weight"] = weights[f"h.{i}.q.weight"][:4]
        factors[f"base_model.model.h.{i}.q.lora_B.weight"] = weights[f"h.{i}.q.weight"][:, :4]
    write_safetensors(tmp_path / "a" / "adapter_model.safetensors", factors)
    del weights, factors
    adapter = load_adapter(tmp_path / "a")
    tracemalloc.start()
    try:
        merge(tmp_path / "base", [adapter], tmp_path / "m", workers=1)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    one = 4 * size * size
    # The result, the product, the sum, their squares in float64, and a finished result.
    assert one < peak < 10 * one
