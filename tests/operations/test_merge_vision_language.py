"""Adapters of vision-language models, whose tensors have other names in files than in code.

transformers 5 renames tensors on loading, and back on saving. An adapter that PEFT makes therefore has other
names than the files of its base: ``model.language_model.layers`` instead of ``model.layers`` or
``language_model.model.layers``.
"""

import pytest
from safetensors import safe_open

from eckart.adapter import load_adapter
from eckart.checkpoint import Checkpoint
from eckart.errors import AdapterError
from eckart.operations.merge import merge
from eckart.serving import check
from support.tuned_models import torch, transformers
from support.zoo import json_of, load_peft, make_adapter, save_base

TEXT = dict(
    vocab_size=64,
    hidden_size=16,
    intermediate_size=24,
    num_hidden_layers=2,
    num_attention_heads=2,
    num_key_value_heads=1,
)
VISION = dict(
    hidden_size=16,
    intermediate_size=24,
    num_hidden_layers=1,
    num_attention_heads=2,
    image_size=32,
    patch_size=16,
)


def qwen2_vl():
    rope = {"rope_type": "default", "mrope_section": [2, 1, 1], "rope_theta": 1e4}
    vision = dict(depth=1, embed_dim=16, hidden_size=16, num_heads=2, mlp_ratio=2)
    config = transformers.Qwen2VLConfig(text_config=TEXT | {"rope_parameters": rope}, vision_config=vision)
    return transformers.Qwen2VLForConditionalGeneration(config)


def llava():
    config = transformers.LlavaConfig(
        text_config=transformers.LlamaConfig(**TEXT), vision_config=transformers.CLIPVisionConfig(**VISION)
    )
    return transformers.LlavaForConditionalGeneration(config)


def gemma3():
    config = transformers.Gemma3Config(text_config=TEXT | {"head_dim": 8}, vision_config=VISION)
    return transformers.Gemma3ForConditionalGeneration(config)


MODELS = {
    "qwen2-vl": (qwen2_vl, ["q_proj", "qkv", "lm_head"], "visual."),
    "llava": (llava, ["q_proj", "lm_head"], "vision_tower."),
    "gemma 3": (gemma3, ["q_proj", "down_proj"], "vision_tower."),
}


def case_of(name, folder):
    build, targets, _ = MODELS[name]
    torch.manual_seed(1)
    model = build().eval()
    save_base(model, folder / "base")
    make_adapter(model, folder / "a", r=2, lora_alpha=3, target_modules=targets)
    return model


def keys(folder):
    with safe_open(folder / "model.safetensors", "pt") as file:
        return set(file.keys())


@pytest.mark.parametrize("name", MODELS)
def test_the_merged_model_equals_that_of_peft(name, tmp_path):
    model = case_of(name, tmp_path)
    adapter = load_adapter(tmp_path / "a")
    front = MODELS[name][2]
    assert any(k.startswith(front) for k in keys(tmp_path / "base"))  # there is something to rename
    assert any(m.startswith(f"model.{front}") for m in adapter.modules)
    done = merge(tmp_path / "base", [tmp_path / "a"], tmp_path / "m")
    assert len(done.changed) == len(adapter)
    assert keys(tmp_path / "m") == keys(tmp_path / "base")
    before = {k: v.clone() for k, v in model.state_dict().items()}
    ours = type(model).from_pretrained(tmp_path / "m").state_dict()
    theirs = load_peft(model, tmp_path / "a").merge_and_unload().state_dict()
    for key, expected in theirs.items():
        torch.testing.assert_close(ours[key], expected)
    assert sum(not torch.equal(before[key], ours[key]) for key in ours) == len(adapter)


@pytest.mark.parametrize("name", MODELS)
def test_check_matches_the_same_names(name, tmp_path):
    case_of(name, tmp_path)
    adapter, base = load_adapter(tmp_path / "a"), Checkpoint.open(tmp_path / "base")
    assert check(adapter, "", base).holds


def test_the_language_model_alone_is_refused_as_a_base(tmp_path):
    """Its layers have the same names as in the files of the whole model, but it has no vision tower."""
    case_of("qwen2-vl", tmp_path)
    text = transformers.Qwen2Config(**TEXT)
    save_base(transformers.Qwen2ForCausalLM(text), tmp_path / "text")
    assert "vision" not in json_of(tmp_path / "a")
    with pytest.raises(AdapterError, match=r"model\.visual\..*`: the base has no model\.visual\."):
        merge(tmp_path / "text", [tmp_path / "a"], tmp_path / "m")
    assert not (tmp_path / "m").exists()
