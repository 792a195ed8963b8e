"""Small adapters with known numbers, and files in the formats that hold them."""

from __future__ import annotations

import itertools
import json

import numpy as np

from eckart.adapter import Adapter, Module
from eckart.checkpoint import write_safetensors

BLOCK = "down_blocks.0.attentions.0.transformer_blocks.0"


def matrix(*shape, seed=0, dtype=np.float32):
    """Return standard normal numbers."""
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def module(name, rows=6, columns=5, rank=2, scale=1.0, window=(), seed=0, dtype=np.float32, **fields):
    wide = columns * int(np.prod(window, initial=1))
    return Module(
        name,
        "conv" if window else "linear",
        matrix(rows, rank, seed=seed, dtype=dtype),
        matrix(rank, wide, seed=seed + 1, dtype=dtype),
        scale,
        window=window,
        **fields,
    )


def adapter(*modules, **fields):
    """Return an adapter of modules; other fields of `Adapter` are keyword arguments."""
    return Adapter({m.name: m for m in modules}, **fields)


def pair(rows=6, columns=5, rank=2, seed=0, dtype=np.float32):
    """Return A (rank, columns) and B (rows, rank)."""
    return matrix(rank, columns, seed=seed, dtype=dtype), matrix(rows, rank, seed=seed + 1, dtype=dtype)


def kohya(stem, alpha=None, **shape):
    """Return the tensors of one module in kohya's format; the shape as for `pair`."""
    A, B = pair(**shape)
    tensors = {f"{stem}.lora_down.weight": A, f"{stem}.lora_up.weight": B}
    return tensors if alpha is None else tensors | {f"{stem}.alpha": np.asarray(alpha, np.float32)}


def peft_style(stem, **shape):
    """Return the tensors of one module in the format of diffusers; the shape as for `pair`."""
    A, B = pair(**shape)
    return {f"{stem}.lora_A.weight": A, f"{stem}.lora_B.weight": B}


def file_of(path, tensors, **metadata):
    """Write tensors to a file and return its path; metadata other than text is written as JSON."""
    write_safetensors(
        path, tensors, {k: v if isinstance(v, str) else json.dumps(v) for k, v in metadata.items()}
    )
    return path


def same(first, second, exact=True):
    """Assert that two adapters have the same modules, bit for bit.

    Scales may differ by one rounding if the comparison is not exact.
    """
    assert list(first.modules) == list(second.modules) or sorted(first.modules) == sorted(second.modules)
    assert sorted(first.components) == sorted(second.components)
    for one in first:
        other = second.modules[one.name]
        assert one.left.dtype == other.left.dtype and one.right.dtype == other.right.dtype
        assert one.left.tobytes() == np.ascontiguousarray(other.left).tobytes()
        assert one.right.tobytes() == np.ascontiguousarray(other.right).tobytes()
        assert one.window == other.window and one.kind == other.kind
        if exact:
            assert one.scale == other.scale, one.name
        else:
            assert abs(one.scale - other.scale) <= np.spacing(one.scale), one.name
    return True


def pipeline_cases():
    """Return adapters that every format can store."""
    unet = f"unet.{BLOCK}"
    count = itertools.count(step=2)
    plain = adapter(
        module(f"{unet}.attn1.to_q", seed=next(count)),
        module(f"{unet}.attn1.to_out.0", seed=next(count)),
        module("text_encoder.text_model.encoder.layers.0.self_attn.q_proj", seed=next(count)),
        components=("unet", "text_encoder"),
    )
    scaled = adapter(
        module(f"{unet}.attn1.to_q", scale=0.5),
        module(f"{unet}.attn1.to_k", scale=0.5, seed=4),
        components=("unet",),
    )
    varying = adapter(
        module(f"{unet}.attn1.to_q", rank=1, scale=4.0),
        module(f"{unet}.attn1.to_k", rank=4, scale=0.125),
        module(f"{unet}.ff.net.0.proj", rank=2, scale=-1.0),
        module("text_encoder_2.text_model.encoder.layers.0.mlp.fc1", rank=3, scale=2.0),
        components=("unet", "text_encoder_2"),
    )
    convolutions = adapter(
        module("unet.conv_in", window=(3, 3), scale=2.0),
        module("unet.mid_block.attentions.0.proj_in", window=(1, 1)),
        module("unet.down_blocks.0.resnets.0.conv1", window=(3, 3), dtype=np.float16),
        components=("unet",),
    )
    language = adapter(
        module("model.layers.0.self_attn.q_proj", scale=0.25),
        module("transformer.h.0.attn.c_attn", rank=3),
        module("odd_name.with.dots_and_under_scores", rank=1),
    )
    flux = adapter(
        module("transformer.transformer_blocks.0.attn.to_q", scale=2.0),
        module("transformer.single_transformer_blocks.0.proj_out"),
        components=("transformer",),
    )
    return {
        "scale 1": plain,
        "scale 1/2": scaled,
        "ranks vary": varying,
        "convolutions": convolutions,
        "language model": language,
        "transformer": flux,
    }
