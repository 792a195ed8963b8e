"""The table of programs: its sources, its limits, and how programs are looked up by name."""

import re

import pytest

from eckart.errors import UsageError
from eckart.serving import CONSUMERS, Treatment, consumers_named
from eckart.serving.consumers import ALIASES, common_formats
from support.consumers_emulated import VLLM_RANKS


@pytest.mark.parametrize("name", CONSUMERS)
def test_every_consumer_cites_its_source(name):
    consumer = CONSUMERS[name]
    assert re.match(r"[\w-]+/[\w.-]+[ :]", consumer.source), "begins with owner/project"
    assert re.search(r"\w+\.(py|h|cpp)\b", consumer.source), "names a file"
    assert consumer.name == name and consumer.title and consumer.formats


def test_only_a_loaded_part_is_read():
    assert [t for t in Treatment if t.is_read] == [Treatment.LOADS]


def test_the_limits_of_vllm_are_its_option_values():
    vllm, older = CONSUMERS["vllm"], CONSUMERS["vllm-0.30"]
    assert vllm.limits == VLLM_RANKS and vllm.max_rank == VLLM_RANKS[-1]
    for limit, above in zip(VLLM_RANKS, [*VLLM_RANKS[1:], None], strict=True):
        assert vllm.limit_for(limit) == limit
        assert vllm.limit_for(limit + 1) == above
    assert older.limits == vllm.limits
    assert all(c.limits == () for c in CONSUMERS.values() if c not in (vllm, older))


def test_a_start_option_admits_the_rank():
    assert CONSUMERS["vllm"].start_option(17) == "--max-lora-rank 32"
    assert CONSUMERS["tensorrt-llm"].start_option(17) == "max_lora_rank 17"
    assert CONSUMERS["peft"].start_option(17) == ""


def test_consumers_are_found_by_name_alias_and_capitals():
    names = ["vLLM , LoRAX", "tgi", "llamacpp,", ""]
    assert [c.name for c in consumers_named(names)] == ["vllm", "tgi", "llama.cpp"]
    assert consumers_named("") == consumers_named([]) == []
    assert set(ALIASES.values()) <= set(CONSUMERS) and not set(ALIASES) & set(CONSUMERS)


@pytest.mark.parametrize("names", ["ollama", "vllm,ollama", "v l l m"])
def test_an_unknown_consumer_is_refused(names):
    with pytest.raises(UsageError, match=r"='(ollama|v l l m)'`: expected some of peft, vllm, .*comfyui"):
        consumers_named(names)


def test_common_formats_keep_the_order_of_the_first_consumer():
    assert common_formats(consumers_named("diffusers,comfyui")) == ["diffusers", "kohya"]
    assert common_formats(consumers_named("comfyui,diffusers")) == ["kohya", "diffusers"]
    with pytest.raises(UsageError, match="no format is read by all: vLLM reads peft; ComfyUI reads"):
        common_formats(consumers_named("vllm,comfyui"))
