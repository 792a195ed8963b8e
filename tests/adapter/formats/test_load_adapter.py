"""Files of one adapter that are refused, each with its message."""

import json

import ml_dtypes
import numpy as np
import pytest

from eckart.adapter import load_adapter
from eckart.errors import AdapterError, InputError
from support.adapters import file_of, kohya, matrix, peft_style

STEM, NAME = "lora_unet_conv_in", "unet.conv_in"
BAD = np.float32(np.nan)


def without(tensors, key):
    return {k: v for k, v in tensors.items() if k != key}


def alpha(value):
    return kohya(STEM) | {f"{STEM}.alpha": np.asarray(value)}


def with_bad(tensors, key, value=BAD):
    array = tensors[key].copy()
    array[0, 1] = value
    return tensors | {key: array}


REFUSED = {
    "down without up": (
        without(kohya(STEM), f"{STEM}.lora_up.weight"),
        r"unet\.conv_in`: expected factors A and B, found .*lora_down.* without B",
    ),
    "up without down": (
        without(kohya(STEM), f"{STEM}.lora_down.weight"),
        r"conv_in`: expected factors A and B, found .*lora_up.* without A",
    ),
    "A without B": (
        without(peft_style(NAME), f"{NAME}.lora_B.weight"),
        r"conv_in`: expected factors A and B, found .*lora_A.* without B",
    ),
    "bias alone": (
        {f"{NAME}.lora_B.bias": matrix(3)} | peft_style("unet.conv_out"),
        r"conv_in`: .*lora_B\.bias without A",
    ),
    "shapes": (
        kohya(STEM) | {f"{STEM}.lora_up.weight": matrix(6, 3)},
        r"B \(6, 3\) and A \(2, 5\) do not chain",
    ),
    "shapes, diffusers": (peft_style(NAME) | {f"{NAME}.lora_B.weight": matrix(6, 3)}, "do not chain"),
    "a window on both": (
        {f"{STEM}.lora_down.weight": matrix(2, 5, 3, 3), f"{STEM}.lora_up.weight": matrix(6, 2, 3, 3)},
        "do not chain",
    ),
    "a window on one": (
        {f"{STEM}.lora_down.weight": matrix(2, 5, 3, 3), f"{STEM}.lora_up.weight": matrix(6, 2)},
        "do not chain",
    ),
    "rank 0": (
        {f"{STEM}.lora_down.weight": matrix(0, 5), f"{STEM}.lora_up.weight": matrix(6, 0)},
        "factors without entries",
    ),
    "NaN": (
        with_bad(kohya(STEM), f"{STEM}.lora_up.weight"),
        r"lora_up\.weight`: expected finite numbers, found a NaN",
    ),
    "inf": (
        with_bad(peft_style(NAME), f"{NAME}.lora_A.weight", np.inf),
        r"lora_A\.weight`: expected finite numbers, found a NaN or an inf",
    ),
    "integers": (
        kohya(STEM) | {f"{STEM}.lora_up.weight": np.ones((6, 2), np.int32)},
        "expected a floating dtype, found int32",
    ),
    "alpha 0": (alpha(np.float32(0)), r"conv_in`: alpha is 0\.0, expected a number other than 0"),
    "alpha NaN": (alpha(BAD), r"conv_in\.alpha`: expected a finite number, found nan"),
    "alpha NaN in bf16": (
        alpha(np.asarray(BAD, ml_dtypes.bfloat16)),
        r"alpha`: expected a finite number, found nan",
    ),
    "two alphas": (
        alpha(np.ones(2, np.float32)),
        r"conv_in\.alpha`: expected one number, found shape \(2,\)",
    ),
    "no alpha in it": (alpha(np.ones(0, np.float32)), "expected one number"),
    "DoRA, kohya": (kohya(STEM) | {f"{STEM}.dora_scale": matrix(6, 1)}, r"dora_scale`: belongs to DoRA"),
    "DoRA, diffusers": (peft_style(NAME) | {f"{NAME}.lora_magnitude_vector": matrix(6)}, "belongs to DoRA"),
    "LoHa": ({f"{STEM}.hada_w1_a": matrix(2, 2), f"{STEM}.alpha": np.float32(1)}, "belongs to LoHa"),
    "LoKr": ({f"{STEM}.lokr_w1": matrix(2, 2)}, "belongs to LoKr"),
    "LoKr, diffusers": ({f"{NAME}.lokr_w1": matrix(2, 2)}, "belongs to LoKr"),
    "kohya and diffusers": (
        kohya(STEM) | peft_style("unet.conv_out"),
        r"lora_A\.weight`: is in the diffusers format, .* in the kohya format",
    ),
    "kohya and peft": (
        kohya(STEM) | peft_style("base_model.model.q"),
        "is in the peft format, .* in the kohya format",
    ),
    "diffusers and cloneofsimo": (
        peft_style(NAME) | {"unet:0:up": matrix(2, 1), "unet:0:down": matrix(1, 2)},
        "is in the diffusers format, .* in the cloneofsimo format",
    ),
    "one module twice": (
        kohya("lora_unet_input_blocks_0_0") | kohya(STEM),
        r"is a second update of unet\.conv_in",
    ),
    "two spellings": (peft_style(NAME) | {f"{NAME}.lora.down.weight": matrix(2, 5)}, "is a second A of unet"),
    "only a prefix": ({f"{STEM}.weight": matrix(3, 3)}, "expected LoRA factors, found none"),
    "nothing": ({}, "expected LoRA factors in a supported format, found no tensors"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_damaged_or_unsupported_file_is_refused(case, tmp_path):
    tensors, message = REFUSED[case]
    path = file_of(tmp_path / "a.safetensors", tensors)
    with pytest.raises(AdapterError, match=message) as caught:
        load_adapter(path)
    assert str(path) in str(caught.value)


METADATA = {
    "names, invalid JSON": ({"eckart.names": "{"}, "eckart.names`: the entry is not valid JSON"),
    "names, a list": (
        {"eckart.names": "[1]"},
        "the entry: expected an object of strings, found a list of 1 value",
    ),
    "names, of numbers": ({"eckart.names": '{"a": 1}'}, "eckart.names: a`: expected a string, found 1"),
    "names, empty": ({"eckart.names": '{"a": ""}'}, "expected the name of a module, found an empty"),
    "names, long": ({"eckart.names": json.dumps({"a": "." * 64})}, "the name has 65 parts separated by dots"),
    "components, many": (
        {"eckart.components": json.dumps([f"unet{i}" for i in range(17)])},
        "expected at most 16 components, found 17 components",
    ),
    "components, a way out": (
        {"eckart.components": '["../../unet"]'},
        "expected a component, found .*unet",
    ),
    "components, another": (
        {"eckart.components": '["vae"]'},
        "expected a name that begins with a component: vae",
    ),
    "components, text": (
        {"eckart.components": '"unet"'},
        'the entry: expected a list of strings, found "unet"',
    ),
}


@pytest.mark.parametrize("case", METADATA)
def test_invalid_metadata_is_refused(case, tmp_path):
    metadata, message = METADATA[case]
    for tensors in (kohya(STEM), peft_style(NAME)):
        path = file_of(tmp_path / "a.safetensors", tensors, **metadata)
        if "names" in case and NAME in next(iter(tensors)):
            continue  # diffusers' keys are names already
        with pytest.raises(AdapterError, match=message):
            load_adapter(path)


@pytest.mark.parametrize("raw", [b"", b"\x08\0\0\0\0\0\0\0{}      ", b"not safetensors at all"])
def test_a_file_that_is_not_safetensors_is_refused(raw, tmp_path):
    (tmp_path / "a.safetensors").write_bytes(raw)
    with pytest.raises(InputError):
        load_adapter(tmp_path / "a.safetensors")
