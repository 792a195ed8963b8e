"""One small LoRA of a U-Net and a text encoder, written in every format by its documentation alone."""

import json

import numpy as np

from eckart.checkpoint import write_safetensors

WRITTEN = ("peft", "kohya", "diffusers")
EPS32 = float(np.finfo(np.float32).eps)

# Modules of a U-Net and a text encoder: (d_out, d_in, window), rank, alpha
MODULES = {
    "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q": ((12, 10, ()), 4, 2.0),
    "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_k": ((12, 10, ()), 3, 3.0),
    "unet.mid_block.attentions.0.proj_in": ((8, 8, (1, 1)), 2, 1.0),
    "unet.mid_block.resnets.0.conv1": ((8, 6, (3, 3)), 5, 7.0),
    "text_encoder.text_model.encoder.layers.0.self_attn.q_proj": ((9, 9, ()), 3, 1.5),
}
STEM = {
    name: name.replace("text_encoder.", "lora_te_").replace("unet.", "lora_unet_").replace(".", "_")
    for name in MODULES
}


def factors(name, dtype=np.float32):
    """Return B and A of a module, shaped as the formats store them."""
    (m, n, window), rank, _ = MODULES[name]
    random = np.random.default_rng(len(name))
    ones = (1,) * len(window)
    B, A = random.standard_normal((m, rank, *ones)), random.standard_normal((rank, n, *window))
    return B.astype(dtype), A.astype(dtype)


def write_peft_pipeline(folder, dtype):
    """Write a PEFT folder for each model of the pipeline."""
    for part in ("unet", "text_encoder"):
        (folder / part).mkdir(parents=True)
        names = [n for n in MODULES if n.startswith(f"{part}.")]
        inner = {n: n.removeprefix(f"{part}.") for n in names}
        config = {
            "peft_type": "LORA",
            "r": 4,
            "lora_alpha": 4,
            "target_modules": list(inner.values()),
            "rank_pattern": {inner[n]: MODULES[n][1] for n in names},
            "alpha_pattern": {inner[n]: MODULES[n][2] for n in names},
        }
        (folder / part / "adapter_config.json").write_text(json.dumps(config))
        arrays = {}
        for n in names:
            B, A = factors(n, dtype)
            key = f"base_model.model.{inner[n]}"
            arrays |= {f"{key}.lora_A.weight": A, f"{key}.lora_B.weight": B}
        write_safetensors(folder / part / "adapter_model.safetensors", arrays)
    return folder


def write_one_file(path, dtype, up, down, alpha, names):
    """Write a single file with these names for the tensors of a module."""
    arrays = {}
    for n in MODULES:
        B, A = factors(n, dtype)
        arrays |= {
            f"{names[n]}.{up}": B,
            f"{names[n]}.{down}": A,
            f"{names[n]}.{alpha}": np.float32(MODULES[n][2]),
        }
    write_safetensors(path, arrays)
    return path


def write_lora_as(format, folder, dtype=np.float32):
    """Write the adapter in a format, without the library's writers, and return its path."""
    if format == "peft":
        return write_peft_pipeline(folder / "peft", dtype)
    if format == "kohya":
        return write_one_file(
            folder / "k.safetensors", dtype, "lora_up.weight", "lora_down.weight", "alpha", STEM
        )
    return write_one_file(
        folder / "d.safetensors", dtype, "lora_B.weight", "lora_A.weight", "alpha", {n: n for n in MODULES}
    )


def expected(name, dtype=np.float32):
    """Return scale * B A of a module in float64."""
    B, A = (f.astype(np.float64).reshape(len(f), -1) for f in factors(name, dtype))
    _, rank, alpha = MODULES[name]
    return alpha / rank * (B @ A)


def products(adapter):
    """Return the updates of an adapter in float64."""
    return {m.name: np.matmul(*m.product()) for m in adapter}


def path_for(folder, format, name="out"):
    """Return a path that fits a format: a folder for PEFT, a file for the others."""
    return folder / (name if format == "peft" else f"{name}.safetensors")


def assert_same_updates(adapter, factor=1.0, tolerance=10 * EPS32, dtype=np.float32):
    """Check that an adapter has the expected updates, times a factor."""
    updates = products(adapter)
    assert updates.keys() == MODULES.keys()
    for name, update in updates.items():
        whole = factor * expected(name, dtype)
        assert np.linalg.norm(update - whole) <= tolerance * np.linalg.norm(whole), name
