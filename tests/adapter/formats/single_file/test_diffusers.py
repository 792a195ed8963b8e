"""The format of diffusers: its spellings by hand, and what diffusers itself computes from our files."""

import json
import math

import numpy as np
import pytest

from eckart.adapter import load_adapter
from eckart.checkpoint import read_header
from eckart.errors import AdapterError
from support.adapters import adapter, file_of, matrix, module, peft_style, same

ATTN = "down_blocks.0.attentions.0.transformer_blocks.0.attn1"
CLIP = "text_model.encoder.layers.0"
LINEAR = "lora_linear_layer"

SPELLINGS = {
    f"unet.{ATTN}.to_q.lora_A.weight": f"unet.{ATTN}.to_q",
    f"unet.{ATTN}.to_out.0.lora_A.default.weight": f"unet.{ATTN}.to_out.0",
    f"unet.{ATTN}.to_q.lora.down.weight": f"unet.{ATTN}.to_q",
    f"unet.{ATTN}.processor.to_q_lora.down.weight": f"unet.{ATTN}.to_q",
    f"unet.{ATTN}.processor.to_out_lora.down.weight": f"unet.{ATTN}.to_out.0",
    f"unet.{ATTN}.processor.add_k_proj_lora.down.weight": f"unet.{ATTN}.add_k_proj",
    "unet.down_blocks.0.attentions.0.proj_in.lora.down.weight": "unet.down_blocks.0.attentions.0.proj_in",
    f"text_encoder.{CLIP}.self_attn.to_q_lora.down.weight": f"text_encoder.{CLIP}.self_attn.q_proj",
    f"text_encoder.{CLIP}.self_attn.to_k_lora.down.weight": f"text_encoder.{CLIP}.self_attn.k_proj",
    f"text_encoder_2.{CLIP}.self_attn.to_v_lora.down.weight": f"text_encoder_2.{CLIP}.self_attn.v_proj",
    f"text_encoder.{CLIP}.self_attn.to_out_lora.down.weight": f"text_encoder.{CLIP}.self_attn.out_proj",
    f"text_encoder.{CLIP}.self_attn.q_proj.{LINEAR}.down.weight": f"text_encoder.{CLIP}.self_attn.q_proj",
    f"text_encoder.{CLIP}.mlp.fc1.lora_linear_layer.down.weight": f"text_encoder.{CLIP}.mlp.fc1",
    "transformer.transformer_blocks.0.attn.to_q.lora_A.weight": "transformer.transformer_blocks.0.attn.to_q",
    "diffusion_model.double_blocks.0.img_attn.qkv.lora_A.weight": "transformer.double_blocks.0.img_attn.qkv",
    "diffusion_model.blocks.0.self_attn.q.lora_A.weight": "transformer.blocks.0.self_attn.q",
    f"{ATTN}.to_q.lora_A.weight": f"{ATTN}.to_q",
}


def partner(key):
    return key.replace(".lora_A.", ".lora_B.").replace(".down.", ".up.")


@pytest.mark.parametrize("key", SPELLINGS)
def test_all_spellings_of_keys_are_read(key, tmp_path):
    tensors = {key: matrix(2, 5), partner(key): matrix(6, 2, seed=1)}
    read = load_adapter(file_of(tmp_path / "a.safetensors", tensors))
    name = SPELLINGS[key]
    assert (list(read.modules), read.format) == ([name], "diffusers")
    assert read.components == (() if key.startswith("down_blocks") else (name.partition(".")[0],))
    m = read.modules[name]
    np.testing.assert_array_equal(m.right, tensors[key])
    np.testing.assert_array_equal(m.left, tensors[partner(key)])
    assert (m.scale, m.alpha) == (1.0, None)
    read.save(tmp_path / "b.safetensors")
    assert same(read, load_adapter(tmp_path / "b.safetensors"))


@pytest.mark.parametrize(
    "ending",
    [
        ".to_q.lora_A.weight|.to_q.alpha",
        ".processor.to_q_lora.down.weight|.processor.to_q_lora.alpha",
        ".to_q.lora.down.weight|.to_q.alpha",
        ".to_q.lora.down.weight|.to_q.lora.down.weight.alpha",
    ],
)
def test_an_alpha_next_to_the_factors_is_read(ending, tmp_path):
    key, alpha = (f"unet.{ATTN}{end}" for end in ending.split("|"))
    tensors = {key: matrix(2, 5), partner(key): matrix(6, 2), alpha: np.float16(6)}
    read = load_adapter(file_of(tmp_path / "a.safetensors", tensors))
    assert (read.modules[f"unet.{ATTN}.to_q"].scale, read.unknown) == (3.0, {})


def test_scales_are_read_from_the_metadata(tmp_path):
    names = [f"unet.{ATTN}.to_q", f"unet.{ATTN}.to_k", f"text_encoder.{CLIP}.self_attn.q_proj"]
    tensors = peft_style(names[0], rank=4) | peft_style(names[1], rank=2) | peft_style(names[2], rank=4)
    entry = {
        "unet.r": 4,
        "unet.lora_alpha": 8,
        "unet.rank_pattern": {f"^{ATTN}.to_k": 2},
        "unet.alpha_pattern": {"to_k": 6},
        "text_encoder.r": 4,
        "text_encoder.lora_alpha": 1,
        "text_encoder.use_rslora": True,
        "text_encoder.init_lora_weights": "gaussian",
    }
    read = load_adapter(file_of(tmp_path / "a.safetensors", tensors, lora_adapter_metadata=entry))
    assert [read.modules[name].scale for name in names] == [2.0, 3.0, 0.5]
    read.save(tmp_path / "b.safetensors")
    assert same(read, load_adapter(tmp_path / "b.safetensors"))


def test_metadata_of_a_file_with_one_model_is_read(tmp_path):
    entry = {"r": 2, "lora_alpha": 1}
    path = file_of(tmp_path / "a.safetensors", peft_style("conv_in"), lora_adapter_metadata=entry)
    read = load_adapter(path)
    assert (read.components, read.modules["conv_in"].scale) == ((), 0.5)


BAD = {
    "another rank": (
        {"unet.r": 3, "unet.lora_alpha": 3},
        r"unet\.q`: has rank 2, but the file's metadata states 3",
    ),
    "alpha 0": ({"unet.r": 2, "unet.lora_alpha": 0}, r"unet\.q`: alpha is 0"),
    "alpha of text": (
        {"unet.r": 2, "unet.lora_alpha": "2"},
        r'metadata: lora_alpha`: expected a number or null, found "2"',
    ),
    "DoRA": ({"unet.r": 2, "unet.use_dora": True}, "turns on DoRA"),
    "a pattern that is a list": (
        {"unet.r": 2, "unet.rank_pattern": [1]},
        "rank_pattern`: expected an object of whole numbers or null, found a list of 1 value",
    ),
    "an invalid expression": (
        {"unet.r": 2, "unet.rank_pattern": {"(": 1}},
        r'rank_pattern`: the key "\(" is not a regular expression that PEFT accepts',
    ),
    "a list": ([], "the entry: expected an object, found an empty list"),
    "invalid JSON": ("{", "is not valid JSON"),
}


@pytest.mark.parametrize("case", BAD)
def test_invalid_metadata_is_refused(case, tmp_path):
    entry, message = BAD[case]
    path = file_of(tmp_path / "a.safetensors", peft_style("unet.q"), lora_adapter_metadata=entry)
    with pytest.raises(AdapterError, match=message):
        load_adapter(path)


def test_metadata_is_written_only_if_it_is_needed(tmp_path):
    """It then covers all components: diffusers gives a component without fields alpha 8 and rank 8."""
    plain = adapter(module("unet.q"), module("text_encoder.q"), components=("unet", "text_encoder"))
    plain.save(tmp_path / "a.safetensors", "diffusers")
    header = read_header(tmp_path / "a.safetensors")
    assert set(header.metadata) == {"format", "eckart.components"}
    assert set(header.tensors) == {f"{c}.q.lora_{x}.weight" for c in ("unet", "text_encoder") for x in "AB"}
    scaled = adapter(
        module("unet.q", scale=0.5), module("text_encoder.q", rank=3), components=("unet", "text_encoder")
    )
    scaled.save(tmp_path / "b.safetensors", "diffusers")
    entry = json.loads(read_header(tmp_path / "b.safetensors").metadata["lora_adapter_metadata"])
    fields = ("r", "lora_alpha", "rank_pattern", "alpha_pattern")
    assert [entry[f"unet.{f}"] for f in fields] == [2, 1.0, {}, {}]
    assert [entry[f"text_encoder.{f}"] for f in fields] == [3, 3.0, {}, {}]


def test_comfyui_names_are_kept_and_get_an_alpha(tmp_path):
    stem = "diffusion_model.blocks.0.self_attn.q"
    tensors = peft_style(stem) | {f"{stem}.alpha": np.float32(1)}
    read = load_adapter(file_of(tmp_path / "a.safetensors", tensors))
    read.save(tmp_path / "b.safetensors")
    assert set(read_header(tmp_path / "b.safetensors").tensors) == set(tensors)
    assert same(read, load_adapter(tmp_path / "b.safetensors"))


def test_names_that_diffusers_cannot_read_are_noted(tmp_path):
    original = adapter(module("transformer.double_blocks.0.img_attn.qkv"), components=("transformer",))
    (note,) = original.save(tmp_path / "a.safetensors", "diffusers")
    assert "diffusers reads names such as transformer.double_blocks.0.img_attn.qkv in the kohya" in note


def test_updates_that_the_format_cannot_store_are_refused(tmp_path):
    for one in (module("experts.up[0]"), module("e").transposed("embedding")):
        with pytest.raises(AdapterError, match="which the diffusers format cannot store"):
            adapter(one).save(tmp_path / "a.safetensors", "diffusers")


# --- what diffusers computes ---


def small_unet():
    torch, diffusers = pytest.importorskip("torch"), pytest.importorskip("diffusers")
    torch.manual_seed(0)
    return diffusers.UNet2DConditionModel(
        sample_size=8,
        layers_per_block=1,
        block_out_channels=(8, 16),
        norm_num_groups=4,
        cross_attention_dim=12,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        attention_head_dim=4,
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    ).eval()


def small_text_encoder():
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.CLIPTextConfig(
        vocab_size=53,
        hidden_size=12,
        intermediate_size=20,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=8,
    )
    return transformers.CLIPTextModel(config).eval()


def uniform(modules):
    """Return updates of one rank and scale: diffusers reads kohya's alphas correctly only if they agree."""
    return [
        module(m.name, m.shape[0], m.shape[1] // math.prod(m.window), scale=0.5, window=m.window)
        for m in modules
    ]


def updates_of(model, component, ends, prefix="", bias=False):
    """Return a module for each layer whose name has one of these endings; ranks and scales differ."""
    torch = pytest.importorskip("torch")
    modules = []
    for name, layer in model.named_modules():
        if not name.endswith(ends) or not isinstance(layer, (torch.nn.Linear, torch.nn.Conv2d)):
            continue
        n = len(modules)
        window = tuple(layer.kernel_size) if isinstance(layer, torch.nn.Conv2d) else ()
        modules.append(
            module(
                f"{component}.{prefix}{name}",
                rows=layer.weight.shape[0],
                columns=layer.weight.shape[1],
                rank=1 + n % 3,
                scale=(0.5, 3.0, 1.0, 1.7, -0.25)[n % 5],
                window=window,
                seed=2 * n,
                bias=matrix(layer.weight.shape[0], seed=n) if bias else None,
            )
        )
    return modules


def merged(model, modules, component, prefix=""):
    """Return weights by name, base + scale * B A by hand."""
    weights = {k: v.detach().double().numpy() for k, v in model.state_dict().items()}
    for m in modules:
        name = m.name.removeprefix(f"{component}.{prefix}")
        weight = weights[f"{name}.weight"]
        product = m.left.astype(np.float64) @ m.right.astype(np.float64)
        weights[f"{name}.weight"] = weight + m.scale * product.reshape(weight.shape)
        if m.bias is not None:
            weights[f"{name}.bias"] = weights[f"{name}.bias"] + m.scale * m.bias
    return weights


def by_merging(model):
    """Return weights by name after PEFT's own merge."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for layer in model.modules():
        if isinstance(layer, BaseTunerLayer):
            layer.merge()
    return {
        key.replace(".base_layer.", "."): value.detach().double().numpy()
        for key, value in model.state_dict().items()
        if ".lora_" not in key
    }


UNET = (
    "to_q",
    "to_k",
    "to_out.0",
    "ff.net.2",
    "proj_in",
    "conv1",
    "conv_in",
    "time_emb_proj",
    "conv_shortcut",
)
BIASED = ("to_out.0", "ff.net.2", "proj_in", "conv1", "conv_in", "time_emb_proj")
TEXT = ("q_proj", "v_proj", "out_proj", "fc1")


@pytest.mark.parametrize("case", ["diffusers", "diffusers with biases", "kohya"])
@pytest.mark.filterwarnings("ignore")  # torch and PEFT warn about their own code
def test_diffusers_computes_what_the_file_says(case, tmp_path):
    pipelines = pytest.importorskip("diffusers.loaders.lora_pipeline")
    pytest.importorskip("peft")
    loader = pipelines.StableDiffusionLoraLoaderMixin
    unet, text_encoder = small_unet(), small_text_encoder()
    prefix = "" if hasattr(text_encoder, "text_model") else "text_model."
    # PEFT turns biases on for all modules or none, and to_q has none in the base.
    biases = case == "diffusers with biases"
    of_unet = updates_of(unet, "unet", BIASED if biases else UNET, bias=biases)
    of_text = updates_of(text_encoder, "text_encoder", TEXT, prefix)
    assert len(of_unet) > 12 and len(of_text) == 8
    if case == "kohya":
        of_unet, of_text = uniform(of_unet), uniform(of_text)
    path = tmp_path / "a.safetensors"
    adapter(*of_unet, *of_text, components=("unet", "text_encoder")).save(path, case.split()[0])

    tensors, alphas, metadata = loader.lora_state_dict(
        str(tmp_path), weight_name=path.name, unet_config=unet.config, return_lora_metadata=True
    )
    assert (alphas is None) == (metadata is not None) == (case != "kohya")
    expected = merged(unet, of_unet, "unet"), merged(text_encoder, of_text, "text_encoder", prefix)
    loader.load_lora_into_unet(tensors, alphas, unet=unet, metadata=metadata)
    loader.load_lora_into_text_encoder(tensors, alphas, text_encoder=text_encoder, metadata=metadata)
    for model, weights in zip((unet, text_encoder), expected, strict=True):
        actual = by_merging(model)
        assert set(actual) == set(weights)
        for name, weight in weights.items():
            # two roundings to float32 of entries of a few units
            np.testing.assert_allclose(actual[name], weight, rtol=1e-6, atol=1e-5, err_msg=name)


@pytest.mark.filterwarnings("ignore")
def test_files_written_by_diffusers_are_read(tmp_path):
    pytest.importorskip("diffusers")
    peft = pytest.importorskip("peft")
    torch = pytest.importorskip("torch")
    unet = small_unet()
    config = peft.LoraConfig(
        r=4,
        lora_alpha=6,
        target_modules=["to_q", "to_k", "conv1"],
        rank_pattern={"to_k": 2},
        alpha_pattern={"to_k": 5},
        init_lora_weights=False,
    )
    base = {k: v.detach().double().numpy() for k, v in unet.state_dict().items()}
    unet.add_adapter(config)
    unet.save_lora_adapter(tmp_path, weight_name="a.safetensors")
    read = load_adapter(tmp_path / "a.safetensors")
    with torch.no_grad():
        actual = by_merging(unet)
    assert len(read) and {m.scale for m in read} == {1.5, 2.5}
    for m in read:
        weight = base[f"{m.name}.weight"]
        expected = weight + m.scale * (m.left.astype(np.float64) @ m.right).reshape(weight.shape)
        np.testing.assert_allclose(actual[f"{m.name}.weight"], expected, rtol=1e-6, atol=1e-5)
