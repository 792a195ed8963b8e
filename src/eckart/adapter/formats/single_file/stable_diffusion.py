"""The modules of Stable Diffusion 1.x in the order in which they are registered.

cloneofsimo's format names a module by its position in this order among the modules that it trains: the linear
layers of attention, and the first layer of each feed-forward network. The order is that of diffusers' U-Net
and of transformers' CLIP text encoder in early 2023. Readers check the widths against it.
"""

from __future__ import annotations

from typing import NamedTuple

CONTEXT = 768  # width of the text encoder, and of the inputs of keys and values in cross-attention


class Layer(NamedTuple):
    """A linear layer.

    Parameters
    ----------
    path : str
        Module path within the model.
    rows, columns : int
        Shape of its weight.
    """

    path: str
    rows: int
    columns: int


def unet_layers() -> list[Layer]:
    """Return the 144 layers of the U-Net; its middle block was registered after both sides."""
    layers: list[Layer] = []
    for level, width in enumerate((320, 640, 1280)):
        for place in range(2):
            layers += _block(f"down_blocks.{level}.attentions.{place}", width)
    for level, width in ((1, 1280), (2, 640), (3, 320)):
        for place in range(3):
            layers += _block(f"up_blocks.{level}.attentions.{place}", width)
    return layers + _block("mid_block.attentions.0", 1280)


def text_encoder_layers() -> list[Layer]:
    """Return the 48 layers of the text encoder, in the order of the fields of CLIPAttention."""
    return [
        Layer(f"text_model.encoder.layers.{layer}.self_attn.{leaf}", CONTEXT, CONTEXT)
        for layer in range(12)
        for leaf in ("k_proj", "v_proj", "q_proj", "out_proj")
    ]


def _block(path: str, width: int) -> list[Layer]:
    """Return the layers of a transformer block: attn1, ff, attn2, the order in which diffusers made them."""
    block = f"{path}.transformer_blocks.0"
    first = [Layer(f"{block}.attn1.{leaf}", width, width) for leaf in ("to_q", "to_k", "to_v", "to_out.0")]
    # The first layer of the feed-forward network computes values and gates, four times the width each.
    return [
        *first,
        Layer(f"{block}.ff.net.0.proj", 8 * width, width),
        Layer(f"{block}.attn2.to_q", width, width),
        Layer(f"{block}.attn2.to_k", width, CONTEXT),
        Layer(f"{block}.attn2.to_v", width, CONTEXT),
        Layer(f"{block}.attn2.to_out.0", width, width),
    ]
