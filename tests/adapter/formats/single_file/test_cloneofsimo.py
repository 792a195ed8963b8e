"""cloneofsimo's format: numbers become paths if everything matches Stable Diffusion 1.x."""

import numpy as np
import pytest

from eckart.adapter import load_adapter
from eckart.adapter.formats.single_file.stable_diffusion import text_encoder_layers, unet_layers
from eckart.errors import AdapterError
from support.adapters import file_of


def tensors_of(component, layers, rank=1):
    """Return down and up of every layer; the first entry of down is its number."""
    tensors = {}
    for number, layer in enumerate(layers):
        down, up = np.zeros((rank, layer.columns), np.float16), np.zeros((layer.rows, rank), np.float16)
        down[0, 0], up[0, 0] = number, 1
        tensors |= {f"{component}:{number}:down": down, f"{component}:{number}:up": up}
    return tensors


def test_numbers_become_paths_of_stable_diffusion(tmp_path):
    tensors = tensors_of("unet", unet_layers()) | tensors_of("text_encoder", text_encoder_layers(), 2)
    tensors["<s1>"] = np.ones(768, np.float32)
    metadata = {
        "unet": '["CrossAttention"]',
        "unet:3:rank": "1",
        "text_encoder:0:rank": "2",
        "<s1>": "<embed>",
    }
    read = load_adapter(file_of(tmp_path / "a.safetensors", tensors, **metadata))
    assert read.components == ("unet", "text_encoder") and len(read) == 192
    at = {
        "unet.down_blocks.0.attentions.1.transformer_blocks.0.attn1.to_k": 10,
        "unet.down_blocks.2.attentions.0.transformer_blocks.0.ff.net.0.proj": 40,
        "unet.up_blocks.1.attentions.0.transformer_blocks.0.attn2.to_q": 59,
        "unet.up_blocks.3.attentions.2.transformer_blocks.0.attn2.to_out.0": 134,
        "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_v": 142,
        "text_encoder.text_model.encoder.layers.11.self_attn.out_proj": 47,
        "text_encoder.text_model.encoder.layers.1.self_attn.k_proj": 4,
    }
    for name, number in at.items():
        m = read.modules[name]
        assert (float(m.right[0, 0]), m.scale, m.alpha, m.dtype) == (number, 1.0, None, np.float16)
    assert list(read.unknown) == ["<s1>"]
    assert read.notes[0] == "Word vectors of a textual inversion: <s1>"


@pytest.mark.parametrize("change", ["one less", "another width", "a gap"])
def test_the_modules_of_another_model_keep_their_numbers(change, tmp_path):
    layers = text_encoder_layers()
    tensors = tensors_of("text_encoder", layers[:-1] if change == "one less" else layers)
    if change == "another width":
        tensors["text_encoder:5:up"] = np.zeros((1024, 1), np.float16)
    if change == "a gap":
        tensors["text_encoder:99:up"] = tensors.pop("text_encoder:7:up")
        tensors["text_encoder:99:down"] = tensors.pop("text_encoder:7:down")
    read = load_adapter(file_of(tmp_path / "a.safetensors", tensors))
    assert next(iter(read.modules)) == "text_encoder.0"
    assert "text_encoder does not match Stable Diffusion 1.x" in read.notes[0]


def test_a_rank_that_contradicts_the_metadata_is_refused(tmp_path):
    path = file_of(tmp_path / "a.safetensors", tensors_of("unet", unet_layers()[:2]), **{"unet:1:rank": "4"})
    with pytest.raises(AdapterError, match=r"unet\.1`: has rank 1, but the metadata states unet:1:rank = 4"):
        load_adapter(path)


@pytest.mark.parametrize("half", ["up", "down"])
def test_one_factor_without_the_other_is_refused(half, tmp_path):
    tensors = tensors_of("unet", unet_layers()[:2])
    del tensors[f"unet:1:{half}"]
    with pytest.raises(AdapterError, match=r"unet\.1`: expected factors A and B, found .* without"):
        load_adapter(file_of(tmp_path / "a.safetensors", tensors))
