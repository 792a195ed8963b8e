"""Names of Stable Diffusion's U-Net: from those of its original code to those of diffusers.

The original code (CompVis, Stability's ``sgm``) numbers all blocks in sequence: ``input_blocks.4.1``.
diffusers numbers them within each level: ``down_blocks.1.attentions.0``. kohya's trainer uses the original
names for SDXL.
"""

from __future__ import annotations

import re

# Blocks per level in SD 1, SD 2, SDXL and its refiner: two, and one that changes the resolution.
PER_LEVEL = 3

_OUTSIDE = {
    "input_blocks.0.0": "conv_in",
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "label_emb.0.0": "add_embedding.linear_1",
    "label_emb.0.2": "add_embedding.linear_2",
    "out.2": "conv_out",
}
_IN_RESNET = {
    "in_layers.2": "conv1",
    "out_layers.3": "conv2",
    "emb_layers.1": "time_emb_proj",
    "skip_connection": "conv_shortcut",
}
_IN_ATTENTION = ("proj_in", "proj_out", "transformer_blocks.")
_MIDDLE = {("0", True): "resnets.0", ("1", False): "attentions.0", ("2", True): "resnets.1"}
_BLOCK = re.compile(r"(input_blocks|output_blocks)\.(\d+)\.\d+\.(.+)|middle_block\.(\d+)\.(.+)")


def is_sgm(path: str) -> bool:
    """Whether a path belongs to the original code's U-Net.

    Parameters
    ----------
    path : str
        Module path within the U-Net.
    """
    return path in _OUTSIDE or path.startswith(("input_blocks.", "output_blocks.", "middle_block."))


def from_sgm(path: str) -> str | None:
    """Return diffusers' name of a module, or None if it has none.

    Parameters
    ----------
    path : str
        Module path in the names of the original code.

    Examples
    --------
    >>> from_sgm("input_blocks.4.1.transformer_blocks.0.attn1.to_q")
    'down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q'
    >>> from_sgm("output_blocks.2.2.conv")
    'up_blocks.0.upsamplers.0.conv'
    """
    if path in _OUTSIDE:
        return _OUTSIDE[path]
    block_match = _BLOCK.fullmatch(path)
    if not block_match:
        return None
    side = block_match[1]
    number, rest = block_match[2] or block_match[4], block_match[3] or block_match[5]
    is_resnet = rest in _IN_RESNET
    if side is None:
        place = _MIDDLE.get((number, is_resnet))
        if place is None or not (is_resnet or rest.startswith(_IN_ATTENTION)):
            return None
        return f"mid_block.{place}.{_IN_RESNET.get(rest, rest)}"
    count = int(number) - 1 if side == "input_blocks" else int(number)
    if count < 0:
        return None
    level, place_in_level = divmod(count, PER_LEVEL)
    block = f"{'down' if side == 'input_blocks' else 'up'}_blocks.{level}"
    # The name within the block shows the kind of layer. The number before that name does not: it depends on
    # whether the level has attention.
    if is_resnet:
        return f"{block}.resnets.{place_in_level}.{_IN_RESNET[rest]}"
    if rest.startswith(_IN_ATTENTION):
        return f"{block}.attentions.{place_in_level}.{rest}"
    if rest == "op" and side == "input_blocks":
        return f"{block}.downsamplers.0.conv"
    if rest == "conv" and side == "output_blocks":
        return f"{block}.upsamplers.0.conv"
    return None
