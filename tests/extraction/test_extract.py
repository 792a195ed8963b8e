"""Extraction leaves a complete adapter on the disk, or else nothing new."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

import eckart
from eckart import Rank
from eckart.errors import AdapterError, CheckpointError, OutputError, PairError, UsageError
from eckart.serving import CONSUMERS
from support.weights import SHAPES, save, save_pair, updates, weights

FILES = {"adapter_config.json", "adapter_model.safetensors", "eckart.json"}


@pytest.fixture
def pair(tmp_path):
    return save_pair(tmp_path / "pair", weights(), updates())


@pytest.fixture
def place(tmp_path):
    """An empty folder for adapters, in which any leftover file shows."""
    (tmp_path / "place").mkdir()
    return tmp_path / "place"


def names(folder):
    return {p.name for p in folder.iterdir()}


def test_an_adapter_consists_of_three_files(pair, place):
    eckart.extract(*pair, place / "a", rank=3)
    assert names(place) == {"a"} and names(place / "a") == FILES


def test_the_same_input_gives_the_same_bytes(pair, place):
    for name in ("a", "b"):
        eckart.extract(*pair, place / name, energy=0.8)
    for file in FILES:
        assert (place / "a" / file).read_bytes() == (place / "b" / file).read_bytes()


def test_a_kept_store_gives_the_same_adapter_and_is_used_again(pair, place):
    eckart.extract(*pair, place / "a", rank=3)
    eckart.extract(*pair, place / "b", rank=3, store=place / "store")
    before = (place / "store" / "manifest.json").stat().st_mtime_ns
    eckart.extract(*pair, place / "c", rank=3, store=place / "store")
    assert (place / "store" / "manifest.json").stat().st_mtime_ns == before  # nothing was factored again
    for other in ("b", "c"):
        for file in FILES:
            assert (place / "a" / file).read_bytes() == (place / other / file).read_bytes()


def test_a_plan_gives_the_same_factors_as_its_rule(pair, place):
    done = eckart.extract(*pair, place / "a", energy=0.8)
    read = eckart.RankPlan.from_json(json.loads((place / "a" / "eckart.json").read_text())["plan"])
    assert read.ranks == done.plan.ranks
    eckart.extract(*pair, place / "b", plan=read)
    by_rule, by_plan = (eckart.load_adapter(place / name) for name in ("a", "b"))
    assert {m.name: m.rank for m in by_rule} == {m.name: m.rank for m in by_plan}
    errors = [{n: e.error for n, e in f.statement.modules.items()} for f in (by_rule, by_plan)]
    # A plan may use another route: Krylov's residual is at most 0.5 % above the best.
    assert errors[1] == {n: pytest.approx(e, rel=5e-3) for n, e in errors[0].items()}


def test_rank_pattern_has_at_most_one_key_per_rank(pair, place):
    eckart.extract(*pair, place / "a", energy=0.8)
    config = json.loads((place / "a" / "adapter_config.json").read_text())
    ranks = {m.rank for m in eckart.load_adapter(place / "a")}
    assert len(ranks) > 2 and len(config["rank_pattern"]) == len(ranks) - 1
    assert config["r"] == max(ranks)


def test_an_existing_adapter_is_kept_unless_overwritten(pair, place):
    eckart.extract(*pair, place / "a", rank=3)
    old = (place / "a" / "eckart.json").read_bytes()
    with pytest.raises(OutputError, match="not empty"):
        eckart.extract(*pair, place / "a", rank=5)
    assert (place / "a" / "eckart.json").read_bytes() == old
    (place / "a" / "extra.txt").write_text("from the old adapter")
    eckart.extract(*pair, place / "a", rank=5, overwrite=True)
    assert names(place) == {"a"} and names(place / "a") == FILES
    assert {m.rank for m in eckart.load_adapter(place / "a")} == {5}


def test_a_folder_that_is_not_an_adapter_is_never_replaced(pair, place):
    (place / "home").mkdir()
    (place / "home" / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputError, match=r"has no adapter_config\.json"):
        eckart.extract(*pair, place / "home", rank=3, overwrite=True)
    assert names(place) == {"home"} and (place / "home" / "thesis.txt").read_text() == "years of work"


def test_a_file_is_never_replaced(pair, place):
    (place / "a").write_text("a file")
    with pytest.raises(OutputError, match="found a file"):
        eckart.extract(*pair, place / "a", rank=3, overwrite=True)
    assert (place / "a").read_text() == "a file"


@pytest.mark.parametrize("which", [0, 1])
def test_the_checkpoints_themselves_are_never_replaced(which, pair, place):
    (pair[which] / "adapter_config.json").write_text("{}")  # they look like adapters, but are inputs
    with pytest.raises(OutputError, match=r"is or contains the input"):
        eckart.extract(*pair, pair[which], rank=3, overwrite=True)
    assert names(pair[which]) == {"adapter_config.json", "model.safetensors"}
    assert names(pair[which].parent) == {"base", "tuned"}


@pytest.mark.parametrize("target", ["folder of the file", "folder above"])
def test_a_folder_that_holds_an_input_is_never_replaced(target, pair):
    out = pair[0] if target == "folder of the file" else pair[0].parent
    (out / "adapter_config.json").write_text("{}")
    base = pair[0] / "model.safetensors" if target == "folder of the file" else pair[0]
    with pytest.raises(OutputError):
        eckart.extract(base, pair[1], out, rank=3, overwrite=True)
    assert (pair[0] / "model.safetensors").is_file()


def test_a_store_inside_the_adapter_is_refused_at_once(pair, place):
    with pytest.raises(OutputError, match="store"):
        eckart.extract(*pair, place / "a", rank=3, store=place / "a" / "store")
    assert names(place) == set()


def damaged(pair):
    tensors = {**weights(), **{k: weights()[k] + v for k, v in updates().items()}}
    tensors["layers.1.q_proj.weight"][4, 5] = np.nan
    return save(pair[1].parent / "damaged", tensors, "F32")


FAILURES = {
    "NaN": (CheckpointError, lambda p: {"tuned": damaged(p), "rank": 3}, r"layers\.1\.q_proj.*\[4, 5\]"),
    "no such file": (CheckpointError, lambda p: {"tuned": p[1] / "nowhere", "rank": 3}, "nowhere"),
    "nothing selected": (UsageError, lambda p: {"rank": 3, "include": ["zzz"]}, "leave none of 5"),
    "too small a budget": (UsageError, lambda p: {"budget": "10"}, "one component costs at least 93"),
    "no rule": (UsageError, lambda p: {}, "expected exactly one rule"),
    "two rules": (UsageError, lambda p: {"rank": 3, "energy": 0.5}, "expected exactly one rule"),
    "rule and keywords": (UsageError, lambda p: {"rule": Rank(3), "knee": True}, "keywords: knee"),
    "dtype": (UsageError, lambda p: {"rank": 3, "dtype": "I8"}, "expected one of float32"),
    "rank 0 everywhere": (AdapterError, lambda p: {"plan": nothing()}, "would be empty"),
    "unknown tensor": (UsageError, lambda p: {"plan": unknown()}, "have no matrix of this name"),
}  # fmt: skip


def nothing():
    return eckart.RankPlan({f"{n}.weight": 0 for n in SHAPES}, {}, "none", 0, 0.0)


def unknown():
    return eckart.RankPlan({"zzz.weight": 2}, {}, "unknown", 0, 0.0)


@pytest.mark.parametrize("case", FAILURES)
def test_a_failure_leaves_nothing_behind(case, pair, place):
    error, call, message = FAILURES[case]
    options = call(pair)
    tuned = options.pop("tuned", pair[1])
    with pytest.raises(error, match=message):
        eckart.extract(pair[0], tuned, place / "new" / "a", **options)
    assert names(place) == set()


@pytest.mark.parametrize("size", [1e6, 1e12])
def test_factors_that_overflow_float16_are_refused(size, tmp_path, place):
    """sigma of 1e12 has a root of 1e6, above the 65504 of float16; of 1e6, it has not."""
    U, V = np.eye(40)[:, :1], np.eye(60)[:1]
    change = {"layers.0.q_proj.weight": size * U @ V}
    pair = save_pair(tmp_path / "p", {k: np.zeros_like(v) for k, v in weights().items()}, change)
    if size < 1e9:
        eckart.extract(*pair, place / "a", rank=1, dtype="F16")
        assert eckart.verify(*pair, place / "a").holds
        return
    with pytest.raises(
        OutputError, match=r"layers\.0\.q_proj\.weight`: its factors overflow float16.*bfloat16"
    ):
        eckart.extract(*pair, place / "a", rank=1, dtype="F16")
    assert names(place) == set()
    eckart.extract(*pair, place / "a", rank=1, dtype="BF16")


def test_the_dtype_is_that_of_the_tuned_checkpoint(tmp_path, place):
    tuned = {k: weights()[k] + updates().get(k, 0.0) for k in weights()}
    for dtype, name in (("F16", "float16"), ("BF16", "bfloat16"), ("F32", "float32")):
        base = save(tmp_path / dtype / "b", weights(), "F32")
        done = eckart.extract(base, save(tmp_path / dtype / "t", tuned, dtype), place / dtype, rank=2)
        assert {str(m.left.dtype) for m in done.adapter} == {name} and done.statement.dtype == name


def test_a_plan_beyond_the_store_factors_again(pair, place):
    done = eckart.extract(*pair, place / "a", rank=6)
    eckart.extract(*pair, place / "b", rank=2, store=place / "store")
    eckart.extract(*pair, place / "c", plan=done.plan, store=place / "store")
    assert {m.rank for m in eckart.load_adapter(place / "c")} == {6}


def test_a_convolution_with_the_name_of_a_layer_is_not_a_target(tmp_path, place):
    """Qwen2-VL: visual.patch_embed.proj is a convolution, visual.blocks.0.attn.proj is linear."""
    base = {
        "visual.patch_embed.proj.weight": np.ones((8, 3, 2, 2)),
        "visual.blocks.0.attn.proj.weight": np.ones((8, 8)),
    }
    pair = save_pair(tmp_path / "p", base, {"visual.blocks.0.attn.proj.weight": np.eye(8)})
    eckart.extract(*pair, place / "a", rank=2)
    targets = json.loads((place / "a" / "adapter_config.json").read_text())["target_modules"]
    assert targets == ["visual.blocks.0.attn.proj"]


@pytest.mark.parametrize("spelling", ["BF16", "bf16", "bfloat16", "torch.bfloat16"])
def test_a_dtype_is_accepted_in_every_common_spelling(spelling, pair, place):
    result = eckart.extract(*pair, place / "a", rank=3, dtype=spelling)
    assert result.statement.dtype == "bfloat16"


def test_equal_checkpoints_have_nothing_to_extract(pair, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(pair[0], copy)
    with pytest.raises(PairError, match="hold the same weights"):
        eckart.extract(pair[0], copy, tmp_path / "a", noise_floor=True)
    assert not (tmp_path / "a").exists()


def refuse_to_factor(*args, **options):
    raise AssertionError("the pass started before all arguments were checked")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank": 3, "experts": "bogus"}, "one of fused, split"),
        ({"rank": 3, "experts": "fused", "consumers": ["vllm"]}, "experts"),
        ({"rank": 3, "dtype": "I8"}, "expected one of"),
        ({"rank": 3, "consumers": ["nobody"]}, "nobody"),
        (
            {"rank": 3, "consumers": ["vllm"], "modules_to_save": True},
            r"vLLM cannot read whole tensors\. Remove modules_to_save, or remove vllm from consumers\.",
        ),
        ({"rank": 3, "include": ["zzz"]}, "leave none of 5"),
        ({"rank": 3, "device": "tpu"}, "device"),
        ({"rank": 3, "workers": 0}, "workers"),
        ({"plan": unknown()}, "have no matrix of this name"),
        ({"plan": unknown(), "rank": 3}, "both a plan and a rank rule"),
        ({}, "exactly one"),
    ],
)
def test_every_argument_is_checked_before_the_pass_starts(options, message, pair, place, monkeypatch):
    monkeypatch.setattr("eckart.extraction.extract.fill", refuse_to_factor)
    with pytest.raises(UsageError, match=message):
        eckart.extract(*pair, place / "a", **options)
    assert names(place) == set()


def test_a_plan_above_the_largest_rank_of_a_consumer_is_refused(pair, place, monkeypatch):
    plan = eckart.RankPlan({"layers.0.q_proj.weight": 3}, {}, "rank 3", 0, 0.0)
    monkeypatch.setattr("eckart.extraction.extract.fill", refuse_to_factor)
    monkeypatch.setitem(CONSUMERS, "vllm", replace(CONSUMERS["vllm"], max_rank=2))
    with pytest.raises(UsageError) as caught:
        eckart.extract(*pair, place / "a", plan=plan, consumers="vllm")
    assert str(caught.value) == (
        "`plan: layers.0.q_proj.weight`: vLLM loads ranks up to 2, and the plan gives 3. "
        "Make the plan with max_rank=2."
    )


def test_an_adapter_of_which_a_consumer_loads_nothing_is_refused_with_the_reason(tmp_path, place):
    """TensorRT-LLM loads no factors of embedding tables."""
    name = "model.embed_tokens.weight"
    pair = save_pair(tmp_path / "p", {name: np.ones((8, 6))}, {name: np.eye(8, 6)})
    with pytest.raises(AdapterError) as caught:
        eckart.extract(*pair, place / "a", rank=2, embeddings=True, consumers="tensorrt-llm")
    assert str(caught.value) == (
        f"`consumers`: no tensor would remain, because TensorRT-LLM would not load {name}. "
        "Choose other programs."
    )
    assert names(place) == set()


def test_checkpoints_without_a_matrix_are_refused(tmp_path, place):
    pair = save_pair(tmp_path / "p", {"norm.weight": np.ones(8)}, {"norm.weight": np.ones(8)})
    with pytest.raises(UsageError, match="no tensor of these checkpoints can be factored"):
        eckart.extract(*pair, place / "a", rank=2)


def test_an_error_names_the_output_folder_and_not_the_hidden_one_next_to_it(pair, place, monkeypatch):
    def disk_full(folder, *args):
        raise OutputError(str(folder / "adapter_model.safetensors"), "no space left")

    monkeypatch.setattr("eckart.extraction.extract.write_into", disk_full)
    with pytest.raises(OutputError) as caught:
        eckart.extract(*pair, place / "a", rank=3)
    assert caught.value.where == str(place / "a" / "adapter_model.safetensors")


def test_the_result_has_a_short_repr(pair, place):
    done = eckart.extract(*pair, place / "a", rank=3)
    error = f"{done.statement.error:.4g}"
    assert repr(done) == (
        f"Extraction('{place / 'a'}', 5 modules, {done.adapter.parameters:,} parameters, error {error})"
    )
