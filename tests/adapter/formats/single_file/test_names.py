"""Flat names and paths: tables by hand, and the models and converters of diffusers and transformers."""

import itertools

import pytest

from eckart.adapter.formats.single_file.names import flat_stem, image_model_of, stem_to_name
from eckart.adapter.formats.single_file.sgm import from_sgm
from eckart.adapter.formats.single_file.stable_diffusion import text_encoder_layers, unet_layers
from eckart.adapter.formats.single_file.vocabulary import split_flat

SD = """
conv_in | conv_in
conv_out | conv_out
time_embedding_linear_1 | time_embedding.linear_1
time_embedding_linear_2 | time_embedding.linear_2
add_embedding_linear_1 | add_embedding.linear_1
down_blocks_0_attentions_0_proj_in | down_blocks.0.attentions.0.proj_in
down_blocks_0_attentions_0_proj_out | down_blocks.0.attentions.0.proj_out
down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q | down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q
down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_k | down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_k
down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_v | down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_v
down_blocks_2_attentions_1_transformer_blocks_9_attn1_to_out_0 | down_blocks.2.attentions.1.transformer_blocks.9.attn1.to_out.0
down_blocks_2_attentions_1_transformer_blocks_9_attn2_to_q | down_blocks.2.attentions.1.transformer_blocks.9.attn2.to_q
down_blocks_1_attentions_1_transformer_blocks_0_ff_net_0_proj | down_blocks.1.attentions.1.transformer_blocks.0.ff.net.0.proj
down_blocks_1_attentions_1_transformer_blocks_0_ff_net_2 | down_blocks.1.attentions.1.transformer_blocks.0.ff.net.2
down_blocks_0_resnets_1_conv1 | down_blocks.0.resnets.1.conv1
down_blocks_0_resnets_1_conv2 | down_blocks.0.resnets.1.conv2
down_blocks_1_resnets_0_conv_shortcut | down_blocks.1.resnets.0.conv_shortcut
down_blocks_1_resnets_0_time_emb_proj | down_blocks.1.resnets.0.time_emb_proj
down_blocks_1_downsamplers_0_conv | down_blocks.1.downsamplers.0.conv
mid_block_attentions_0_transformer_blocks_0_attn2_to_v | mid_block.attentions.0.transformer_blocks.0.attn2.to_v
mid_block_resnets_1_conv2 | mid_block.resnets.1.conv2
up_blocks_3_attentions_2_transformer_blocks_0_attn2_to_out_0 | up_blocks.3.attentions.2.transformer_blocks.0.attn2.to_out.0
up_blocks_1_upsamplers_0_conv | up_blocks.1.upsamplers.0.conv
up_blocks_2_resnets_2_conv_shortcut | up_blocks.2.resnets.2.conv_shortcut
"""  # noqa: E501

SGM = """
input_blocks_0_0 | conv_in
out_2 | conv_out
time_embed_0 | time_embedding.linear_1
time_embed_2 | time_embedding.linear_2
label_emb_0_0 | add_embedding.linear_1
label_emb_0_2 | add_embedding.linear_2
input_blocks_1_0_in_layers_2 | down_blocks.0.resnets.0.conv1
input_blocks_1_0_out_layers_3 | down_blocks.0.resnets.0.conv2
input_blocks_2_0_emb_layers_1 | down_blocks.0.resnets.1.time_emb_proj
input_blocks_3_0_op | down_blocks.0.downsamplers.0.conv
input_blocks_4_0_skip_connection | down_blocks.1.resnets.0.conv_shortcut
input_blocks_4_1_proj_in | down_blocks.1.attentions.0.proj_in
input_blocks_4_1_transformer_blocks_0_attn1_to_q | down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q
input_blocks_5_1_transformer_blocks_1_attn2_to_out_0 | down_blocks.1.attentions.1.transformer_blocks.1.attn2.to_out.0
input_blocks_6_0_op | down_blocks.1.downsamplers.0.conv
input_blocks_7_1_transformer_blocks_9_ff_net_0_proj | down_blocks.2.attentions.0.transformer_blocks.9.ff.net.0.proj
input_blocks_8_1_transformer_blocks_3_ff_net_2 | down_blocks.2.attentions.1.transformer_blocks.3.ff.net.2
input_blocks_8_1_proj_out | down_blocks.2.attentions.1.proj_out
middle_block_0_in_layers_2 | mid_block.resnets.0.conv1
middle_block_1_proj_in | mid_block.attentions.0.proj_in
middle_block_1_transformer_blocks_5_attn2_to_k | mid_block.attentions.0.transformer_blocks.5.attn2.to_k
middle_block_2_out_layers_3 | mid_block.resnets.1.conv2
output_blocks_0_0_skip_connection | up_blocks.0.resnets.0.conv_shortcut
output_blocks_0_1_transformer_blocks_0_attn1_to_q | up_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q
output_blocks_2_1_transformer_blocks_9_attn2_to_v | up_blocks.0.attentions.2.transformer_blocks.9.attn2.to_v
output_blocks_2_2_conv | up_blocks.0.upsamplers.0.conv
output_blocks_5_1_proj_out | up_blocks.1.attentions.2.proj_out
output_blocks_5_2_conv | up_blocks.1.upsamplers.0.conv
output_blocks_8_0_emb_layers_1 | up_blocks.2.resnets.2.time_emb_proj
output_blocks_2_1_conv | up_blocks.0.upsamplers.0.conv
"""  # noqa: E501

TEXT = """
lora_te_text_model_encoder_layers_0_self_attn_q_proj | text_encoder.text_model.encoder.layers.0.self_attn.q_proj
lora_te_text_model_encoder_layers_11_self_attn_k_proj | text_encoder.text_model.encoder.layers.11.self_attn.k_proj
lora_te_text_model_encoder_layers_1_self_attn_v_proj | text_encoder.text_model.encoder.layers.1.self_attn.v_proj
lora_te1_text_model_encoder_layers_1_self_attn_out_proj | text_encoder.text_model.encoder.layers.1.self_attn.out_proj
lora_te1_text_model_encoder_layers_1_mlp_fc1 | text_encoder.text_model.encoder.layers.1.mlp.fc1
lora_te2_text_model_encoder_layers_31_mlp_fc2 | text_encoder_2.text_model.encoder.layers.31.mlp.fc2
lora_te2_text_projection | text_encoder_2.text_projection
lora_te3_encoder_block_0_layer_0_SelfAttention_q | text_encoder_3.encoder.block.0.layer.0.SelfAttention.q
lora_te3_encoder_block_23_layer_0_SelfAttention_o | text_encoder_3.encoder.block.23.layer.0.SelfAttention.o
lora_te3_encoder_block_1_layer_1_DenseReluDense_wi_0 | text_encoder_3.encoder.block.1.layer.1.DenseReluDense.wi_0
lora_te3_encoder_block_1_layer_1_DenseReluDense_wo | text_encoder_3.encoder.block.1.layer.1.DenseReluDense.wo
"""  # noqa: E501

TRANSFORMERS = """
double_blocks_0_img_attn_qkv | double_blocks.0.img_attn.qkv
double_blocks_0_img_attn_proj | double_blocks.0.img_attn.proj
double_blocks_18_txt_attn_qkv | double_blocks.18.txt_attn.qkv
double_blocks_0_img_mlp_0 | double_blocks.0.img_mlp.0
double_blocks_0_txt_mlp_2 | double_blocks.0.txt_mlp.2
double_blocks_0_img_mod_lin | double_blocks.0.img_mod.lin
double_blocks_0_txt_mod_lin | double_blocks.0.txt_mod.lin
single_blocks_37_linear1 | single_blocks.37.linear1
single_blocks_37_linear2 | single_blocks.37.linear2
single_blocks_0_modulation_lin | single_blocks.0.modulation.lin
img_in | img_in
time_in_in_layer | time_in.in_layer
vector_in_out_layer | vector_in.out_layer
final_layer_linear | final_layer.linear
final_layer_adaLN_modulation_1 | final_layer.adaLN_modulation.1
joint_blocks_0_context_block_attn_qkv | joint_blocks.0.context_block.attn.qkv
joint_blocks_0_x_block_attn2_proj | joint_blocks.0.x_block.attn2.proj
joint_blocks_0_x_block_mlp_fc1 | joint_blocks.0.x_block.mlp.fc1
joint_blocks_0_x_block_adaLN_modulation_1 | joint_blocks.0.x_block.adaLN_modulation.1
transformer_blocks_0_attn_to_q | transformer_blocks.0.attn.to_q
transformer_blocks_0_attn_to_out_0 | transformer_blocks.0.attn.to_out.0
transformer_blocks_0_attn_add_q_proj | transformer_blocks.0.attn.add_q_proj
transformer_blocks_0_attn_to_add_out | transformer_blocks.0.attn.to_add_out
transformer_blocks_0_norm1_linear | transformer_blocks.0.norm1.linear
transformer_blocks_0_norm1_context_linear | transformer_blocks.0.norm1_context.linear
transformer_blocks_0_ff_net_0_proj | transformer_blocks.0.ff.net.0.proj
transformer_blocks_0_ff_context_net_2 | transformer_blocks.0.ff_context.net.2
single_transformer_blocks_0_attn_to_v | single_transformer_blocks.0.attn.to_v
single_transformer_blocks_0_proj_mlp | single_transformer_blocks.0.proj_mlp
single_transformer_blocks_0_proj_out | single_transformer_blocks.0.proj_out
time_text_embed_timestep_embedder_linear_1 | time_text_embed.timestep_embedder.linear_1
x_embedder | x_embedder
context_embedder | context_embedder
norm_out_linear | norm_out.linear
blocks_0_self_attn_q | blocks.0.self_attn.q
blocks_0_cross_attn_k_img | blocks.0.cross_attn.k_img
blocks_0_ffn_0 | blocks.0.ffn.0
layers_0_attention_qkv | layers.0.attention.qkv
layers_0_feed_forward_w1 | layers.0.feed_forward.w1
"""

LANGUAGE = """
model_layers_0_self_attn_q_proj | model.layers.0.self_attn.q_proj
model_layers_0_self_attn_o_proj | model.layers.0.self_attn.o_proj
model_layers_0_self_attn_qkv_proj | model.layers.0.self_attn.qkv_proj
model_layers_79_mlp_gate_proj | model.layers.79.mlp.gate_proj
model_layers_0_mlp_up_proj | model.layers.0.mlp.up_proj
model_layers_0_mlp_down_proj | model.layers.0.mlp.down_proj
model_layers_0_mlp_gate_up_proj | model.layers.0.mlp.gate_up_proj
model_layers_0_mlp_gate | model.layers.0.mlp.gate
model_layers_0_mlp_experts_7_down_proj | model.layers.0.mlp.experts.7.down_proj
model_layers_0_mlp_shared_expert_gate | model.layers.0.mlp.shared_expert_gate
model_layers_0_mlp_shared_expert_gate_proj | model.layers.0.mlp.shared_expert.gate_proj
model_layers_0_mlp_shared_experts_up_proj | model.layers.0.mlp.shared_experts.up_proj
model_layers_0_block_sparse_moe_gate | model.layers.0.block_sparse_moe.gate
model_layers_0_block_sparse_moe_experts_0_w1 | model.layers.0.block_sparse_moe.experts.0.w1
model_layers_0_self_attn_kv_a_proj_with_mqa | model.layers.0.self_attn.kv_a_proj_with_mqa
model_layers_0_linear_attn_in_proj_qkvz | model.layers.0.linear_attn.in_proj_qkvz
lm_head | lm_head
transformer_h_0_attn_c_attn | transformer.h.0.attn.c_attn
transformer_h_0_mlp_c_proj | transformer.h.0.mlp.c_proj
transformer_h_0_self_attention_query_key_value | transformer.h.0.self_attention.query_key_value
transformer_h_0_mlp_dense_4h_to_h | transformer.h.0.mlp.dense_4h_to_h
gpt_neox_layers_0_attention_query_key_value | gpt_neox.layers.0.attention.query_key_value
bert_encoder_layer_0_attention_self_query | bert.encoder.layer.0.attention.self.query
bert_encoder_layer_0_attention_output_dense | bert.encoder.layer.0.attention.output.dense
"""


def rows(table):
    return [tuple(part.strip() for part in line.split("|")) for line in table.strip().splitlines()]


@pytest.mark.parametrize(("flat", "path"), rows(SD) + rows(TRANSFORMERS) + rows(LANGUAGE))
def test_flat_names_get_their_dots_back(flat, path):
    assert split_flat(flat) == path
    assert path.replace(".", "_") == flat


@pytest.mark.parametrize(("flat", "path"), rows(SGM))
def test_original_names_of_stable_diffusion_become_those_of_diffusers(flat, path):
    assert stem_to_name(f"lora_unet_{flat}", "unet") == (f"unet.{path}", True)


@pytest.mark.parametrize(("stem", "name"), rows(TEXT))
def test_names_in_text_encoders_survive_both_ways(stem, name):
    assert stem_to_name(stem, "unet") == (name, True)
    component = name.partition(".")[0]
    others = ("unet", "text_encoder_2") if stem.startswith("lora_te1_") else ("unet",)
    assert flat_stem(name, (*others, component)) == stem


@pytest.mark.parametrize(
    "flat",
    [
        "brand_new_module",
        "down_blocks_0_surprise",
        "input_blocks_99",
        "middle_block_7_proj_in",
        "input_blocks_3_0_other",
        "output_blocks_2_2_op",
        "input_blocks_0_0_proj_in",
        "a__b",
        "down_blocks_0_norm_x",
        "to",
        "",
    ],
)
def test_a_name_with_an_unknown_word_is_kept_whole(flat):
    assert stem_to_name(f"lora_unet_{flat}", "unet") == (f"unet.{flat}", False)


@pytest.mark.parametrize(
    ("stem", "component"),
    [
        ("lora_unet_double_blocks_0_img_attn_qkv", "transformer"),
        ("lora_unet_single_transformer_blocks_0_proj_out", "transformer"),
        ("lora_unet_joint_blocks_0_x_block_mlp_fc1", "transformer"),
        ("lora_transformer_transformer_blocks_0_attn_to_q", "transformer"),
        ("diffusion_model.double_blocks.0.img_attn.qkv", "transformer"),
        ("lora_unet_down_blocks_0_attentions_0_proj_in", "unet"),
        ("lora_unet_input_blocks_4_1_proj_in", "unet"),
        ("lora_te1_text_model_encoder_layers_0_mlp_fc1", "unet"),
    ],
)
def test_the_first_parts_show_whether_the_image_model_is_a_transformer(stem, component):
    assert image_model_of([stem]) == component


def test_a_path_of_transformers_5_gets_the_part_that_readers_need():
    name = "text_encoder.encoder.layers.0.self_attn.q_proj"
    assert flat_stem(name, ("text_encoder",)) == "lora_te_text_model_encoder_layers_0_self_attn_q_proj"


def test_layers_of_stable_diffusion_are_in_order_of_registration():
    unet, text = unet_layers(), text_encoder_layers()
    assert (len(unet), len(text)) == (144, 48)
    assert len({layer.path for layer in unet + text}) == 192
    assert unet[0].path == "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
    assert unet[4] == ("down_blocks.0.attentions.0.transformer_blocks.0.ff.net.0.proj", 2560, 320)
    assert unet[51] == ("down_blocks.2.attentions.1.transformer_blocks.0.attn2.to_k", 1280, 768)
    assert unet[54].path == "up_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
    assert unet[135].path == "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
    assert text[2].path == "text_model.encoder.layers.0.self_attn.q_proj"


# --- compared with diffusers and transformers ---


def paths_of(model):
    torch = pytest.importorskip("torch")
    kinds = (torch.nn.Linear, torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)
    return {n: tuple(m.weight.shape) for n, m in model.named_modules() if isinstance(m, kinds) and n}


def on_meta(module, name, **config):
    torch = pytest.importorskip("torch")
    library = pytest.importorskip(module)
    with torch.device("meta"):
        return getattr(library, name)(**config)


SDXL = dict(
    down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    block_out_channels=(320, 640, 1280),
    transformer_layers_per_block=(1, 2, 10),
    cross_attention_dim=2048,
    addition_embed_type="text_time",
    addition_time_embed_dim=256,
    projection_class_embeddings_input_dim=2816,
    use_linear_projection=True,
)


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("UNet2DConditionModel", {}),
        ("UNet2DConditionModel", SDXL),
        ("FluxTransformer2DModel", dict(num_layers=1, num_single_layers=1, guidance_embeds=True)),
        ("SD3Transformer2DModel", dict(num_layers=2, dual_attention_layers=(0,))),
    ],
)
def test_all_names_of_a_model_get_their_dots_back(name, config):
    for path in paths_of(on_meta("diffusers", name, **config)):
        assert split_flat(path.replace(".", "_")) == path


def test_layers_of_stable_diffusion_are_those_of_the_model():
    model = paths_of(on_meta("diffusers", "UNet2DConditionModel", cross_attention_dim=768))
    for layer in unet_layers():
        assert model[layer.path] == (layer.rows, layer.columns)
    ours = {layer.path for layer in unet_layers()}
    attention = [p for p in model if p.endswith(("to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj"))]
    assert ours == set(attention)


def test_original_names_become_what_the_converter_of_diffusers_returns():
    """Every block of SDXL is compared with diffusers' converter of kohya's files."""
    torch = pytest.importorskip("torch")
    converter = pytest.importorskip("diffusers.loaders.lora_conversion_utils")
    from types import SimpleNamespace

    flat = [
        f"{side}_{number}_{rest}"
        for side, numbers in (("input_blocks", range(1, 9)), ("output_blocks", range(9)))
        for number, rest in itertools.product(
            numbers,
            (
                "0_in_layers_2",
                "0_out_layers_3",
                "0_emb_layers_1",
                "0_skip_connection",
                "1_proj_in",
                "1_proj_out",
                "1_transformer_blocks_1_attn1_to_q",
                "1_transformer_blocks_0_attn2_to_out_0",
                "1_transformer_blocks_0_ff_net_0_proj",
                "1_transformer_blocks_0_ff_net_2",
            ),
        )
    ]
    flat += ["middle_block_0_in_layers_2", "middle_block_1_proj_in", "middle_block_2_out_layers_3"]
    flat += ["input_blocks_3_0_op", "output_blocks_2_2_conv", "time_embed_0", "label_emb_0_2"]
    flat += ["middle_block_1_transformer_blocks_9_attn2_to_v", "input_blocks_0_0", "out_2"]
    for name in flat:
        file = {f"lora_unet_{name}.lora_{side}.weight": torch.zeros(1, 1) for side in ("down", "up")}
        file = converter._maybe_map_sgm_blocks_to_diffusers(file, SimpleNamespace(layers_per_block=2))
        theirs, _ = converter._convert_non_diffusers_lora_to_diffusers(file)
        (down,) = [key for key in theirs if ".down." in key]
        down = down.replace(".processor.", ".").replace("to_out_lora", "to_out.0.lora")
        path = down.removesuffix(".down.weight").removesuffix(".lora").removesuffix("_lora")
        assert stem_to_name(f"lora_unet_{name}", "unet") == (path, True)


def test_no_two_names_become_the_same_path():
    paths = [from_sgm(split_flat(flat)) for flat, _ in rows(SGM)[:-1]]
    assert len(set(paths)) == len(paths)
