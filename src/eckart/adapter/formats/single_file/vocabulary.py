"""The words of module paths, with which a flat name gets its dots back.

kohya's format writes ``down_blocks.0.attentions.0.proj_in`` as ``down_blocks_0_attentions_0_proj_in``. The
file no longer shows which underscores were dots; splitting needs to know that ``down_blocks`` and
``proj_in`` are one part each. A name with an unknown word is not split at all, because a wrong path is
worse than none.
"""

from __future__ import annotations

# Parts of several words. If two fit, the longer one is used. A part that ends in "$" is used only at the
# end of a name: "shared_expert_gate", but "shared_expert.gate_proj". "img_attn_qkv" becomes FLUX' path
# "img_attn.qkv"; HunyuanVideo's part "img_attn_qkv" cannot be distinguished from it.
_SEVERAL = """
down_blocks mid_block up_blocks down_block up_block transformer_blocks single_transformer_blocks
conv_in conv_out conv_shortcut proj_in proj_out proj_mlp time_embedding time_emb_proj add_embedding
class_embedding time_proj linear_1 linear_2 linear_3 linear_in linear_out conv_inverted conv_depth
conv_point out_projection joint_transformer_blocks to_q to_k to_v to_out to_qkv to_kv to_add_out
to_gate_logits
add_q_proj add_k_proj add_v_proj to_q_ip to_k_ip to_v_ip to_k_global to_qkv_mlp_proj
time_guidance_embed time_caption_embed caption_embedder aspect_ratio_embedder resolution_embedder
ff_context norm1_context norm_out norm_out_context distilled_guidance_layer all_final_layer
all_x_embedder pos_embed time_text_embed
timestep_embedder text_embedder guidance_embedder context_embedder x_embedder y_embedder t_embedder
time_step_proj caption_projection adaln_single img_mod txt_mod img_attn txt_attn img_mlp txt_mlp
input_blocks middle_block output_blocks in_layers out_layers emb_layers time_embed label_emb
skip_connection
double_blocks single_blocks joint_blocks context_block x_block final_layer adaLN_modulation
img_in txt_in time_in vector_in guidance_in in_layer out_layer
double_stream_modulation_img double_stream_modulation_txt single_stream_modulation
individual_token_refiner token_refiner refiner_blocks self_attn cross_attn k_img v_img patch_embedding
text_embedding text_proj
time_projection condition_embedder time_embedder image_embedder cap_embedder noise_refiner
context_refiner feed_forward adaLN_sa_ln
text_model text_projection visual_projection q_proj k_proj v_proj o_proj out_proj qkv_proj
position_embedding token_embedding position_embeddings token_type_embeddings
embed_positions embed_in patch_embeddings pre_classifier relative_attention_bias wi_0 wi_1
gate_proj up_proj down_proj gate_up_proj in_proj x_proj dt_proj in_proj_qkvz in_proj_ba in_proj_qkv
in_proj_z in_proj_a in_proj_b linear_attn
lm_head embed_tokens embed_out block_sparse_moe shared_expert shared_experts shared_expert_gate$
shared_mlp
input_linear output_linear router_logits
c_attn c_proj c_fc q_attn word_embeddings query_key_value self_attention dense_h_to_4h dense_4h_to_h
gpt_neox q_a_proj q_b_proj kv_a_proj_with_mqa kv_b_proj kv_a_proj
fc_in fc_out out_lin q_lin k_lin v_lin project_in project_out encoder_attn
vision_tower vision_model multi_modal_projector language_model patch_embed audio_tower
"""

_SINGLE = """
attentions resnets upsamplers downsamplers attn attn1 attn2 ff ff1 ff2 net proj conv conv1 conv2
linear linear1 linear2 norm norm1 norm2 img txt qkv lin modulation mlp mlp1 mlp2 fc1 fc2 fc3 op out
blocks block layers layer encoder decoder SelfAttention EncDecAttention DenseReluDense wi wo q k v o
attention output self query key value dense intermediate pooler classifier score
model transformer h wte wpe experts gate router w1 w2 w3 mixer embeddings bert roberta refiner
crossattention ffn ffn1 ffn2 visual merger head base bias attn3 temporal motion modules emb
shared conv1d distilbert vit backbone projection lin1 lin2
"""

# First parts which show that the image model is a transformer rather than a U-Net.
_FRONTS = """
double_blocks single_blocks joint_blocks joint_transformer_blocks transformer_blocks
single_transformer_blocks blocks layers
x_embedder context_embedder time_text_embed final_layer norm_out noise_refiner context_refiner
cap_embedder img_in txt_in time_in vector_in guidance_in condition_embedder
"""


def _tree() -> dict[tuple[str, ...], bool]:
    """Return the parts as tuples of words, and whether each may stand only at the end of a name."""
    return {tuple(part.rstrip("$").split("_")): part.endswith("$") for part in _SEVERAL.split()}


_PARTS = _tree()
_LONGEST = max(len(words) for words in _PARTS)
_WORDS = frozenset(_SINGLE.split())
TRANSFORMER_FRONTS = frozenset(_FRONTS.split())


def split_flat(flat: str) -> str | None:
    """Return the path of a flat name, or None if a word is unknown.

    Parameters
    ----------
    flat : str
        A path with underscores in place of dots.

    Examples
    --------
    >>> split_flat("down_blocks_0_attentions_1_transformer_blocks_0_attn1_to_out_0")
    'down_blocks.0.attentions.1.transformer_blocks.0.attn1.to_out.0'
    >>> split_flat("model_layers_3_mlp_shared_expert_gate_proj")
    'model.layers.3.mlp.shared_expert.gate_proj'
    >>> split_flat("some_new_thing") is None
    True
    """
    words = flat.split("_")
    parts: list[str] = []
    while words:
        count = _longest_part(words)
        if not count and not (words[0].isascii() and words[0].isdecimal()) and words[0] not in _WORDS:
            return None
        parts.append("_".join(words[: count or 1]))
        del words[: count or 1]
    return ".".join(parts)


def _longest_part(words: list[str]) -> int:
    """Return how many of the first words form one known part; 0 if none do."""
    for count in range(min(_LONGEST, len(words)), 1, -1):
        only_last = _PARTS.get(tuple(words[:count]))
        if only_last is not None and (not only_last or count == len(words)):
            return count
    return 0
