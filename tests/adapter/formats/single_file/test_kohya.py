"""kohya's format, read and written key by key."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eckart.adapter import load_adapter
from eckart.checkpoint import read_header
from eckart.errors import AdapterError
from support.adapters import BLOCK, adapter, file_of, kohya, matrix, module, pair, same

FLAT = "lora_unet_" + BLOCK.replace(".", "_")
NAME = f"unet.{BLOCK}"


def test_scale_is_alpha_over_rank_and_1_without_alpha(tmp_path):
    tensors = kohya(f"{FLAT}_attn1_to_q", alpha=1) | kohya(f"{FLAT}_attn1_to_k", rank=4, seed=9)
    tensors |= kohya("lora_te_text_model_encoder_layers_0_mlp_fc1", alpha=6, rank=3)
    read = load_adapter(file_of(tmp_path / "a.safetensors", tensors))
    assert (read.format, sorted(read.components), read.unknown, read.notes) == (
        "kohya",
        ["text_encoder", "unet"],
        {},
        (),
    )
    q, k = read.modules[f"{NAME}.attn1.to_q"], read.modules[f"{NAME}.attn1.to_k"]
    fc1 = read.modules["text_encoder.text_model.encoder.layers.0.mlp.fc1"]
    assert (q.scale, q.alpha, q.rank) == (0.5, 1.0, 2)
    assert (k.scale, k.alpha, k.rank) == (1.0, None, 4)
    assert (fc1.scale, fc1.alpha, fc1.rank) == (2.0, 6.0, 3)
    A, B = pair()
    np.testing.assert_array_equal(q.left, B)
    np.testing.assert_array_equal(q.right, A)


def test_convolutions_are_read_with_their_window(tmp_path):
    down, up = matrix(2, 3, 3, 3), matrix(4, 2, 1, 1, seed=1)
    one = {"lora_unet_conv_in.lora_down.weight": down, "lora_unet_conv_in.lora_up.weight": up}
    tiny = {
        "lora_unet_conv_out.lora_down.weight": matrix(2, 3, 1, 1),
        "lora_unet_conv_out.lora_up.weight": up,
    }
    read = load_adapter(file_of(tmp_path / "a.safetensors", one | tiny))
    m = read.modules["unet.conv_in"]
    assert (m.kind, m.window, m.shape) == ("conv", (3, 3), (4, 27))
    by_hand = np.einsum("orxy,rihw->oihw", up, down)
    np.testing.assert_allclose((m.left @ m.right).reshape(4, 3, 3, 3), by_hand, rtol=1e-5, atol=1e-6)
    assert (read.modules["unet.conv_out"].kind, read.modules["unet.conv_out"].window) == ("conv", (1, 1))


def test_the_middle_factor_of_a_convolution_is_folded_into_the_first(tmp_path):
    down, mid, up = matrix(2, 3, 1, 1), matrix(2, 2, 3, 3, seed=1), matrix(4, 2, 1, 1, seed=2)
    stem = "lora_unet_conv_in"
    tensors = {
        f"{stem}.lora_down.weight": down,
        f"{stem}.lora_mid.weight": mid,
        f"{stem}.lora_up.weight": up,
        f"{stem}.alpha": np.float32(1),
    }
    read = load_adapter(file_of(tmp_path / "a.safetensors", tensors))
    m = read.modules["unet.conv_in"]
    by_hand = np.einsum("or,rqhw,qi->oihw", up[..., 0, 0], mid, down[..., 0, 0])  # LyCORIS' rebuild
    np.testing.assert_allclose((m.left @ m.right).reshape(by_hand.shape), by_hand, rtol=1e-5, atol=1e-6)
    assert m.scale == 0.5
    read.save(tmp_path / "b.safetensors")
    assert same(read, load_adapter(tmp_path / "b.safetensors"))


@pytest.mark.parametrize(
    ("stem", "name"),
    [
        ("diffusion_model.double_blocks.0.img_attn.qkv", "transformer.double_blocks.0.img_attn.qkv"),
        ("diffusion_model.input_blocks.1.1.proj_in", "unet.down_blocks.0.attentions.0.proj_in"),
        ("unet.mid_block.attentions.0.proj_in", "unet.mid_block.attentions.0.proj_in"),
        ("lora_transformer_transformer_blocks_0_attn_to_q", "transformer.transformer_blocks.0.attn.to_q"),
        ("lycoris_blocks_0_self_attn_q", "transformer.blocks.0.self_attn.q"),
    ],
)
def test_other_trainers_prefixes_are_read_and_kept(stem, name, tmp_path):
    read = load_adapter(file_of(tmp_path / "a.safetensors", kohya(stem, alpha=1)))
    assert list(read.modules) == [name] and read.components == (name.partition(".")[0],)
    read.save(tmp_path / "b.safetensors")
    assert f"{stem}.lora_down.weight" in read_header(tmp_path / "b.safetensors").tensors
    assert same(read, load_adapter(tmp_path / "b.safetensors"))


def test_names_and_training_metadata_of_a_file_are_kept(tmp_path):
    flat = "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q"
    tensors = kohya(flat, alpha=2) | kohya("lora_te1_text_model_encoder_layers_0_mlp_fc1", alpha=2)
    path = file_of(
        tmp_path / "a.safetensors",
        tensors,
        ss_base_model_version="sdxl",
        ss_network_dim="9",
        sshs_model_hash="0",
    )
    read = load_adapter(path)
    assert "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q" in read.modules
    read.save(tmp_path / "b.safetensors")
    written = read_header(tmp_path / "b.safetensors")
    assert set(written.tensors) == set(tensors)
    assert written.metadata["ss_base_model_version"] == "sdxl"
    assert written.metadata["ss_network_dim"] == "2"
    assert "sshs_model_hash" not in written.metadata


def test_two_kinds_of_names_are_not_mixed(tmp_path):
    tensors = kohya("lora_unet_input_blocks_4_1_proj_in", alpha=2)
    read = load_adapter(file_of(tmp_path / "a.safetensors", tensors))
    read = replace(read, modules={**read.modules, "unet.conv_in": module("unet.conv_in")})
    read.save(tmp_path / "b.safetensors")
    stems = {key.partition(".")[0] for key in read_header(tmp_path / "b.safetensors").tensors}
    assert stems == {"lora_unet_down_blocks_1_attentions_0_proj_in", "lora_unet_conv_in"}
    assert same(read, load_adapter(tmp_path / "b.safetensors"))


def test_keys_shapes_and_metadata_are_written_as_kohya_writes_them(tmp_path):
    original = adapter(
        module(f"{NAME}.attn1.to_q", scale=0.5),
        module("unet.conv_in", window=(3, 3), rank=4, scale=0.25),
        module("text_encoder.text_model.encoder.layers.0.mlp.fc1", scale=1.0),
        components=("unet", "text_encoder"),
    )
    original.save(tmp_path / "a.safetensors", "kohya")
    header = read_header(tmp_path / "a.safetensors")
    shapes = {key: info.shape for key, info in header.tensors.items()}
    te = "lora_te_text_model_encoder_layers_0_mlp_fc1"
    assert shapes == {
        f"{FLAT}_attn1_to_q.lora_down.weight": (2, 5),
        f"{FLAT}_attn1_to_q.lora_up.weight": (6, 2),
        f"{FLAT}_attn1_to_q.alpha": (),
        "lora_unet_conv_in.lora_down.weight": (4, 5, 3, 3),
        "lora_unet_conv_in.lora_up.weight": (6, 4, 1, 1),
        "lora_unet_conv_in.alpha": (),
        f"{te}.lora_down.weight": (2, 5),
        f"{te}.lora_up.weight": (6, 2),
        f"{te}.alpha": (),
    }
    read = load_adapter(tmp_path / "a.safetensors")
    assert [read.modules[m.name].alpha for m in original] == [1.0, 1.0, 2.0]
    assert header.metadata["ss_network_module"] == "networks.lora"
    assert (header.metadata["ss_network_dim"], header.metadata["ss_network_alpha"]) == ("Dynamic", "Dynamic")
    assert json.loads(header.metadata["eckart.names"])["lora_unet_conv_in"] == "unet.conv_in"


def test_two_text_encoders_get_numbered_prefixes(tmp_path):
    paths = [f"text_encoder{end}.text_model.encoder.layers.0.mlp.fc1" for end in ("", "_2")]
    original = adapter(*map(module, paths), components=("text_encoder", "text_encoder_2"))
    original.save(tmp_path / "a.safetensors", "kohya")
    stems = {key.partition(".")[0] for key in read_header(tmp_path / "a.safetensors").tensors}
    assert stems == {f"lora_te{n}_text_model_encoder_layers_0_mlp_fc1" for n in (1, 2)}


def test_a_name_with_an_unknown_word_is_kept_whole_and_noted(tmp_path):
    path = file_of(tmp_path / "a.safetensors", kohya("lora_unet_blk_7_new_thing"))
    read = load_adapter(path)
    assert list(read.modules) == ["unet.blk_7_new_thing"]
    assert "Unknown words in 1 flat name, " in read.notes[0]


def test_unknown_tensors_are_kept_in_this_format_and_noted_in_others(tmp_path):
    tensors = kohya(f"{FLAT}_attn1_to_q") | {"lora_unet_norm.diff_b": matrix(3), "bundle_emb.x": matrix(2)}
    read = load_adapter(file_of(tmp_path / "a.safetensors", tensors))
    assert set(read.unknown) == {"lora_unet_norm.diff_b", "bundle_emb.x"}
    assert "The file also holds 2 tensors" in read.notes[-1]
    read.save(tmp_path / "b.safetensors")
    assert set(load_adapter(tmp_path / "b.safetensors").unknown) == set(read.unknown)
    for format in ("diffusers", "peft"):
        target = tmp_path / (f"{format}.safetensors" if format == "diffusers" else format)
        (note,) = read.save(target, format)
        assert note.startswith("2 tensors (") and f"left out: the {format} format" in note
        assert not load_adapter(target).unknown


REFUSED = {
    "an expert": (module("experts.up[3]"), r"experts\.up\[3\]`: is an expert.*split the experts"),
    "an embedding": (module("embed").transposed("embedding"), "embed`: is an update of an embedding table"),
    "a bias": (module("q", bias=matrix(6)), "q`: is an update of a bias.*Use the format peft"),
    "scale 0": (module("q", scale=0.0), "q`: has scale 0"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_updates_that_the_format_cannot_store_are_refused(case, tmp_path):
    one, message = REFUSED[case]
    with pytest.raises(AdapterError, match=message):
        adapter(module("k"), one).save(tmp_path / "a.safetensors", "kohya")
    assert not list(tmp_path.iterdir())


def test_whole_tensors_are_refused(tmp_path):
    original = adapter(module("k"), dense={"norm.weight": matrix(3)})
    for format in ("kohya", "diffusers"):
        with pytest.raises(AdapterError, match=r"norm\.weight`: is a whole tensor"):
            original.save(tmp_path / "a.safetensors", format)


def test_two_names_that_become_one_are_refused(tmp_path):
    with pytest.raises(AdapterError, match=r"`a_b`: this name and a\.b both become lora_unet_a_b"):
        adapter(module("a.b"), module("a_b")).save(tmp_path / "a.safetensors", "kohya")


PART = st.from_regex(r"[A-Za-z0-9_]{1,8}", fullmatch=True)
PATH = st.lists(PART, min_size=1, max_size=5).map(".".join).filter(lambda path: not path.isdecimal())


@settings(max_examples=40)
@given(st.lists(PATH, min_size=1, max_size=4, unique_by=lambda name: name.replace(".", "_")), st.booleans())
def test_any_name_is_read_back(tmp_path_factory, names, in_unet):
    names = [f"unet.{name}" for name in names] if in_unet else names
    original = adapter(*map(module, names), components=("unet",) if in_unet else ())
    folder = tmp_path_factory.mktemp("names")
    for format in ("kohya", "diffusers"):
        original.save(folder / f"{format}.safetensors", format)
        assert same(original, load_adapter(folder / f"{format}.safetensors"))
