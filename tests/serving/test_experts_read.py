"""The layout of a mixture's experts that programs need, and what a user may ask for."""

import pytest

from eckart.adapter import load_adapter
from eckart.adapter.experts import ExpertsLayout, experts_layouts
from eckart.errors import UsageError
from eckart.serving import consumers_named
from eckart.serving.experts_read import arrange_experts_for, check_experts
from support.adapter_files import adapter_with_fused_experts, adapter_with_split_experts

FUSED, SPLIT = ExpertsLayout.FUSED, ExpertsLayout.SPLIT
QWEN3_MOE = {"model_type": "qwen3_moe", "num_experts": 4}


@pytest.mark.parametrize(
    "experts, names, layout",
    [
        (None, "", None),
        (None, "vllm,peft", None),
        ("fused", "", FUSED),
        ("split", "", SPLIT),
        (SPLIT, "", SPLIT),
        ("fused", "peft", FUSED),
        ("split", "vllm,llama.cpp,sglang", SPLIT),
        ("split", "tgi", SPLIT),  # TGI reads experts in neither layout
        ("fused", "tgi", FUSED),
    ],
)
def test_a_layout_of_experts_that_no_consumer_contradicts_is_accepted(experts, names, layout):
    assert check_experts(experts, consumers_named(names)) is layout


@pytest.mark.parametrize(
    "experts, names, message",
    [
        (
            "fused",
            "vllm",
            r"`experts='fused'`: vLLM reads experts only split\. Remove experts, or",
        ),
        ("split", "vllm,peft", r"`experts='split'`: PEFT reads experts only fused"),
        ("bogus", "", r"`experts='bogus'`: expected one of fused, split"),
        ("bogus", "vllm", r"`experts='bogus'`: expected one of fused, split"),
        ("Fusion", "", r"`experts='Fusion'`: expected one of fused, split"),
    ],
)
def test_a_layout_of_experts_that_contradicts_a_consumer_is_refused(experts, names, message):
    with pytest.raises(UsageError, match=message):
        check_experts(experts, consumers_named(names))


@pytest.mark.parametrize(
    "make, names, config, expected",
    [
        (adapter_with_fused_experts, "vllm", {}, {SPLIT}),
        (adapter_with_fused_experts, "peft", {}, {FUSED}),
        (adapter_with_fused_experts, "tgi", {}, {FUSED}),
        (adapter_with_split_experts, "vllm", QWEN3_MOE, {SPLIT}),
        (adapter_with_split_experts, "peft", QWEN3_MOE, {FUSED}),
        (adapter_with_split_experts, "peft", {}, {SPLIT}),  # not known to be fused on loading
    ],
)
def test_experts_are_arranged_as_the_consumers_read_them(make, names, config, expected, tmp_path):
    modules = load_adapter(make(tmp_path / "a")).modules
    arranged = arrange_experts_for(consumers_named(names), modules, config)
    assert experts_layouts(arranged) == expected


def test_the_layout_that_a_user_asks_for_needs_no_known_model(tmp_path):
    modules = load_adapter(adapter_with_split_experts(tmp_path / "a")).modules
    arranged = arrange_experts_for(consumers_named("peft"), modules, {}, FUSED)
    assert experts_layouts(arranged) == {FUSED}


def test_consumers_that_read_different_layouts_are_refused(tmp_path):
    modules = load_adapter(adapter_with_fused_experts(tmp_path / "a")).modules
    message = "no layout of experts is read by all: PEFT reads experts fused, vLLM reads experts split"
    with pytest.raises(UsageError, match=message):
        arrange_experts_for(consumers_named("peft,vllm"), modules, {})
