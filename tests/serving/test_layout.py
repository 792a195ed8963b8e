"""`--for` writes adapters that every named program loads correctly.

The judge is `support.consumers_emulated`, written from the programs' sources: it reads the files alone.
"""

import math
import re
from dataclasses import FrozenInstanceError
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

import eckart
from eckart.adapter import load_adapter
from eckart.checkpoint import Checkpoint
from eckart.errors import AdapterError, UsageError
from eckart.operations import combine, resize
from eckart.serving import CONSUMERS, check
from eckart.serving.layout import Layout
from support.adapter_files import (
    ALPHAS,
    HEAD_FACTORS,
    IMAGE_READERS,
    PEFT_READERS,
    Q0_BIAS,
    REPLACED_ROWS,
    RSLORA,
    TABLE_FACTORS,
    TARGETS_EXPRESSION,
    VARIED_RANKS,
    WHOLE_HEAD,
    WHOLE_NORM,
    adapter_of_rank_520,
    adapter_with,
    adapter_with_convolution,
    adapter_with_fused_experts,
    adapter_with_split_experts,
    bytes_of_zeros,
    diffusers_file,
    kohya_file,
    write_base,
    write_peft,
)
from support.consumers_emulated import computed, error, intended, split_names

EXACT = 1e-6  # factors in float32 carry 6e-8 each, and an update of rank 20 adds up a few tens of them


# One program at a time, through `resize`. What no setting makes loadable is left out, and stated.


def arranged(consumer: str, make, name: str, left_out: str = "^$"):
    return pytest.param(consumer, make, left_out, id=f"{consumer}: {name}")


NO_EXPERTS = {"tgi": "experts", "tensorrt-llm": "experts"}
NO_TABLES = {"tgi": "embed", "tensorrt-llm": "embed"}
NO_CONVOLUTIONS = {name: "conv" for name in PEFT_READERS if name != "peft"}
PEFT_CASES = [
    ("ranks and alphas", adapter_with(ranks=VARIED_RANKS, **ALPHAS), {}),
    ("rsLoRA of several ranks", adapter_with(ranks=VARIED_RANKS, **RSLORA), {}),
    ("a whole head", adapter_with(more=WHOLE_HEAD, modules_to_save=["lm_head"]), {}),
    ("biases", adapter_with(more=Q0_BIAS, lora_bias=True), {}),
    ("gaps", adapter_with(without="1.self_attn.k|0.mlp.up"), {}),
    ("rank 20", adapter_with(ranks=20, lora_alpha=10), {}),
    ("rows of a table", adapter_with(more=REPLACED_ROWS, trainable_token_indices=[1, 3]), {}),
    ("an expression", adapter_with(**TARGETS_EXPRESSION), {}),
    ("parts of stacks", adapter_with(without="o_proj|k_proj|up_proj"), {}),
    ("an embedding", adapter_with(more=TABLE_FACTORS), NO_TABLES),
    ("factors of the head", adapter_with(more=HEAD_FACTORS), {"tensorrt-llm": "lm_head"}),
    ("fused experts", adapter_with_fused_experts, NO_EXPERTS),
    ("split experts", adapter_with_split_experts, NO_EXPERTS),
    ("a convolution", adapter_with_convolution, NO_CONVOLUTIONS),
]
IMAGE_CASES = [
    ("kohya's alphas", lambda f: kohya_file(f, [4, 2, 1])),
    ("kohya without an alpha", lambda f: kohya_file(f, [4, None, 1], (4, 6, 2))),
    ("an alpha in metadata", lambda f: diffusers_file(f, r=4, lora_alpha=10)),
    ("ranks in a diffusers file", lambda f: diffusers_file(f, ranks=(4, 6, 2))),
    ("biases", lambda f: diffusers_file(f, bias=True)),
]
ARRANGED = [
    *(
        arranged(consumer, make, name, left_out.get(consumer, "^$"))
        for name, make, left_out in PEFT_CASES
        for consumer in PEFT_READERS
    ),
    arranged("llama.cpp", lambda f: adapter_with_split_experts(f, gap=True), "an expert without its up"),
    *(arranged(consumer, make, name) for name, make in IMAGE_CASES for consumer in IMAGE_READERS),
]


def output_for(folder: Path, consumer: str) -> Path:
    return folder / ("out" if CONSUMERS[consumer].formats[0] == "peft" else "out.safetensors")


@pytest.mark.parametrize("consumer, make, left_out", ARRANGED)
def test_resize_for_a_program_keeps_every_update_that_it_can_load(consumer, make, left_out, tmp_path):
    path = make(tmp_path / "a")
    before = intended(path)
    out = output_for(tmp_path, consumer)
    done = resize(path, out, rank=64, consumers=[consumer])
    after = computed(consumer, out)
    kept = {name: update for name, update in before.items() if not re.search(left_out, name)}
    assert error(kept, after) < EXACT
    layout = done.statement.layout
    assert layout.modules_left_out == tuple(sorted(set(before) - set(kept)))
    assert bool(layout.modules_left_out) is (left_out != "^$")
    assert done.statement.error == pytest.approx(error(before, after), rel=1e-5, abs=EXACT)
    assert layout.bytes_of_zeros == bytes_of_zeros(out)
    assert layout.modules_added == len(set(split_names(after)) - set(split_names(before)))
    (verdict,) = check(out, consumer).verdicts
    assert verdict.holds and verdict.error == 0, verdict.problems


def test_rank_520_is_cut_to_the_largest_rank_of_vllm(tmp_path):
    path = adapter_of_rank_520(tmp_path / "a")
    done = resize(path, tmp_path / "out", rank=999, consumers="vllm")
    after = computed("vllm", tmp_path / "out")
    (update,) = intended(path).values()
    sigma = np.linalg.svd(update, compute_uv=False)
    best = math.sqrt((sigma[512:] ** 2).sum() / (sigma**2).sum())
    assert error(intended(path), after) == pytest.approx(best, rel=1e-4)
    assert done.statement.error == pytest.approx(best, rel=1e-4)
    assert done.statement.layout.options == {"vllm": "--max-lora-rank 512"}
    assert check(tmp_path / "out", "vllm").holds


@pytest.mark.parametrize("rank, padded", [(1, 8), (7, 8), (8, 8), (9, 16), (20, 32), (24, 32)])
def test_tgi_gets_a_rank_that_it_scales_correctly(rank, padded, tmp_path):
    path = adapter_with(ranks=rank, lora_alpha=5)(tmp_path / "a")
    resize(path, tmp_path / "out", rank=64, consumers="tgi")
    tensors = load_file(tmp_path / "out" / "adapter_model.safetensors")
    assert {len(A) for key, A in tensors.items() if "lora_A" in key} == {padded}
    assert error(intended(path), computed("tgi", tmp_path / "out")) < EXACT


# Several programs at once


def test_one_adapter_serves_all_programs_that_read_peft(tmp_path):
    path = adapter_with(ranks=VARIED_RANKS, without="1.self_attn.k|0.mlp.up", **ALPHAS)(tmp_path / "a")
    done = resize(path, tmp_path / "out", rank=64, consumers=",".join(PEFT_READERS))
    for consumer in PEFT_READERS:
        assert error(intended(path), computed(consumer, tmp_path / "out")) < EXACT, consumer
    result = check(tmp_path / "out", PEFT_READERS)
    assert result.holds and [v.consumer.name for v in result.verdicts] == PEFT_READERS
    assert done.statement.layout.consumers == tuple(PEFT_READERS)
    assert done.statement.layout.bytes_of_zeros == bytes_of_zeros(tmp_path / "out")


def test_one_file_serves_both_image_programs(tmp_path):
    path = diffusers_file(tmp_path / "a", r=4, lora_alpha=10)
    resize(path, tmp_path / "out.safetensors", rank=64, consumers=IMAGE_READERS)
    for consumer in IMAGE_READERS:
        assert error(intended(path), computed(consumer, tmp_path / "out.safetensors")) < EXACT


# A layout is a plan: applying it changes nothing


def test_applying_a_layout_twice_gives_the_same_notes_once(tmp_path):
    more = {**TABLE_FACTORS, **WHOLE_NORM, **Q0_BIAS}
    settings = {"modules_to_save": ["norm"], "lora_bias": True}
    path = adapter_with(more=more, without="1.self_attn.k", **settings)(tmp_path / "a")
    layout, adapter = Layout.prepare(load_adapter(path), "tgi")
    notes = layout.notes
    first = layout.applied(adapter.modules, adapter.modules)
    second = layout.applied(adapter.modules, adapter.modules)
    assert (
        first.notes
        == second.notes
        == (
            "1 module left out (TGI and LoRAX): model.embed_tokens",
            "1 tensor saved whole or by rows left out (TGI and LoRAX): model.norm.weight",
            "1 bias left out",
            "1 module of zeros added, because a program needs them",
        )
    )
    assert first.added == second.added == ("model.layers.1.self_attn.k_proj",)
    assert first.modules.keys() == second.modules.keys()
    assert layout.notes == notes == first.notes[:-1]


def test_a_layout_is_frozen():
    with pytest.raises(FrozenInstanceError):
        Layout().biases_left_out = 1  # type: ignore[misc]


def test_a_joined_layout_counts_what_any_adapter_leaves_out(tmp_path):
    one = adapter_with(more={**TABLE_FACTORS, **Q0_BIAS}, lora_bias=True)(tmp_path / "a")
    two = adapter_with(more={**TABLE_FACTORS, **WHOLE_NORM}, modules_to_save=["norm"])(tmp_path / "b")
    layouts = [Layout.prepare(load_adapter(path), "tgi")[0] for path in (one, two)]
    before = [layout.notes for layout in layouts]
    joined = Layout.joined(layouts, {"model.embed_tokens": 2.5})
    assert joined.energy_left_out == {"model.embed_tokens": 2.5}
    assert joined.whole_left_out == ("model.norm.weight",) and joined.biases_left_out == 1
    assert joined.notes == (
        "1 module left out (TGI and LoRAX): model.embed_tokens",
        "1 tensor saved whole or by rows left out (TGI and LoRAX): model.norm.weight",
        "1 bias left out",
    )
    assert [layout.notes for layout in layouts] == before


def test_without_consumers_nothing_is_left_out_or_added(tmp_path):
    adapter = load_adapter(adapter_with(more=TABLE_FACTORS)(tmp_path / "a"))
    layout, prepared = Layout.prepare(adapter)
    assert prepared.modules == adapter.modules and layout == Layout()
    applied = layout.realised(prepared.modules)
    assert applied.modules == prepared.modules and applied.added == applied.notes == ()
    assert layout.statement(applied, np.dtype(np.float32), 0) is None and layout.format is None


# Refusals


@pytest.mark.parametrize("names", ["vllm,comfyui", "diffusers,peft", "llama.cpp,diffusers"])
def test_programs_without_a_common_format_are_refused(names, tmp_path):
    path = adapter_with()(tmp_path / "a")
    with pytest.raises(UsageError, match=r"no format is read by all: .* reads peft"):
        resize(path, tmp_path / "out", rank=4, consumers=names)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("names", ["ollama", "vllm,ollama", "v l l m"])
def test_an_unknown_program_is_refused_before_anything_is_written(names, tmp_path):
    with pytest.raises(UsageError, match="consumers"):
        resize(adapter_with()(tmp_path / "a"), tmp_path / "out", rank=4, consumers=names)
    assert not (tmp_path / "out").exists()


def test_programs_that_read_experts_in_different_layouts_are_refused(tmp_path):
    path = adapter_with_fused_experts(tmp_path / "a")
    with pytest.raises(UsageError, match="no layout of experts is read by all"):
        resize(path, tmp_path / "out", rank=4, consumers="peft,vllm")


def test_an_adapter_of_which_a_program_loads_nothing_is_refused(tmp_path):
    path = write_peft(tmp_path / "a", TABLE_FACTORS)
    message = r"no module would remain, because TGI and LoRAX would not load model\.embed_tokens"
    with pytest.raises(AdapterError, match=message):
        resize(path, tmp_path / "out", rank=4, consumers="tgi")


def test_a_missing_module_of_unknown_shape_needs_the_base(tmp_path):
    path = adapter_with(without="v_proj")(tmp_path / "a")
    with pytest.raises(AdapterError, match=r"its shape is not known\. Pass the base model as base"):
        resize(path, tmp_path / "out", rank=4, consumers="sglang")
    base = write_base(tmp_path / "base")
    done = resize(path, tmp_path / "out", rank=4, consumers="sglang", base=base)
    assert done.statement.layout.modules_added == 2
    assert error(intended(path), computed("sglang", tmp_path / "out")) < EXACT


# Extract and combine


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    pytest.importorskip("torch")
    from support import tuned_models

    return tuned_models.make_pair(tmp_path_factory.mktemp("pair"), tuned_models.llama)


RULES = [{}, {"include": ["q_proj"]}, {"include": [r"layers\.0\."]}]


@pytest.mark.parametrize("rule", RULES, ids=["all", "q_proj only", "one layer only"])
@pytest.mark.parametrize("consumer", PEFT_READERS)
def test_extract_for_a_program_equals_extract_for_peft(tuned, consumer, rule, tmp_path):
    settings = {"energy": 0.8, "dtype": "F32", **rule}
    if consumer == "tensorrt-llm":
        settings["exclude"] = ["lm_head"]  # it drops factors of the head, which are then left out
    eckart.extract(tuned.base, tuned.tuned, tmp_path / "plain", **settings)
    done = eckart.extract(tuned.base, tuned.tuned, tmp_path / "out", consumers=[consumer], **settings)
    after = computed(consumer, tmp_path / "out")
    before = intended(tmp_path / "plain")
    assert error(before, after) < EXACT
    assert len({round(float(np.linalg.norm(u)), 9) for u in before.values()}) > 1
    change = {name: change_of(tuned, name) for name in before}
    assert done.statement.error == pytest.approx(error(change, after), rel=1e-4)
    layout = done.statement.layout
    assert layout.consumers == (consumer,) and layout.bytes_of_zeros == bytes_of_zeros(tmp_path / "out")
    assert layout.modules_added == len(set(after) - set(before))
    assert check(tmp_path / "out", consumer).holds


def change_of(pair, name: str) -> np.ndarray:
    before, after = (load_file(folder / "model.safetensors") for folder in (pair.base, pair.tuned))
    return after[f"{name}.weight"].astype(np.float64) - before[f"{name}.weight"]


@pytest.mark.parametrize("experts", ["fused", "bogus"])
def test_extract_refuses_a_layout_of_experts_before_any_work(experts, tmp_path):
    """The checkpoints do not even exist."""
    missing = tmp_path / "base", tmp_path / "tuned"
    with pytest.raises(UsageError, match=f"`experts={experts!r}`"):
        eckart.extract(*missing, tmp_path / "out", rank=4, consumers="vllm", experts=experts)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("consumer", PEFT_READERS)
def test_combine_for_a_program_equals_the_weighted_sum(consumer, tmp_path):
    first = adapter_with(ranks=VARIED_RANKS, **ALPHAS)(tmp_path / "a")
    second = adapter_with(ranks=3, without="o_proj|0.mlp.down", **RSLORA)(tmp_path / "b")
    done = combine([first, second], tmp_path / "out", [0.5, -2.0], consumers=consumer)
    one, two = intended(first), intended(second)
    expected = {n: 0.5 * one[n] - 2.0 * two.get(n, np.zeros_like(one[n])) for n in one}
    assert error(expected, computed(consumer, tmp_path / "out")) < EXACT
    assert done.statement.error < EXACT
    assert done.statement.layout.bytes_of_zeros == bytes_of_zeros(tmp_path / "out")
    assert check(tmp_path / "out", consumer).holds


def test_combine_states_the_energy_of_the_sum_that_a_program_cannot_load(tmp_path):
    """The energy left out is that of the sum, not the sum of the two adapters' own energies."""
    first = adapter_with(more=TABLE_FACTORS)(tmp_path / "a")
    second = adapter_with(more=TABLE_FACTORS)(tmp_path / "b")
    done = combine([first, second], tmp_path / "out", [0.5, 0.25], consumers="tgi")
    before = {name: 0.75 * update for name, update in intended(first).items()}
    expected = error(before, computed("tgi", tmp_path / "out"))
    assert expected > 0.1
    assert done.statement.error == pytest.approx(expected, rel=1e-5)


def test_a_known_base_adds_no_module_that_it_lacks(tmp_path):
    path = adapter_with(without="1.self_attn.k")(tmp_path / "a")
    model = Checkpoint.open(write_base(tmp_path / "base"))
    layout, adapter = Layout.prepare(load_adapter(path), "tgi", model)
    assert layout.shapes["model.layers.1.self_attn.k_proj"] == (24, 24)
    assert layout.applied(adapter.modules, adapter.modules).added == ("model.layers.1.self_attn.k_proj",)
    smaller = {name: shape for name, shape in layout.shapes.items() if "1.self_attn.k" not in name}
    limited = Layout(layout.consumers, shapes=smaller)
    assert limited.applied(adapter.modules, adapter.modules).added == ()
