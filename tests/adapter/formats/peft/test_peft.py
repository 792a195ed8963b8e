"""PEFT folders: those that are read, and those that are refused, each with its message."""

import json
import re

import numpy as np
import pytest

from eckart.adapter import load_adapter
from eckart.checkpoint import write_safetensors
from eckart.errors import AdapterError, InputError
from support.weights import DTYPE

PREFIX = "base_model.model."
CONFIG = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q"]}


def tensors(**others):
    random = np.random.default_rng(0)
    good = {
        "h.0.q.lora_A.weight": random.standard_normal((2, 5)).astype(np.float32),
        "h.0.q.lora_B.weight": random.standard_normal((3, 2)).astype(np.float32),
        "h.1.q.lora_A.weight": random.standard_normal((2, 5)).astype(np.float32),
        "h.1.q.lora_B.weight": random.standard_normal((3, 2)).astype(np.float32),
    }
    return {PREFIX + k: v for k, v in (good | others).items() if v is not None}


def write(folder, config=CONFIG, arrays=None, text=None):
    folder.mkdir(exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps(config) if text is None else text)
    write_safetensors(folder / "adapter_model.safetensors", tensors() if arrays is None else arrays)
    return folder


def with_entry(key, value):
    arrays = tensors()
    arrays[PREFIX + key] = arrays[PREFIX + key].copy()
    arrays[PREFIX + key][1, 1] = value
    return arrays


def key(name, value):
    return tensors(**{name: value})


ones = np.ones
REFUSED = {
    "A without B": (
        {},
        key("h.1.q.lora_B.weight", None),
        r"h\.1\.q`: expected factors A and B, found .*lora_A\.weight without B",
    ),
    "B without A": (
        {},
        key("h.1.q.lora_A.weight", None),
        r"h\.1\.q`: expected factors A and B, found .*lora_B\.weight without A",
    ),
    "embedding halves": (
        {},
        key("e.lora_embedding_A", ones((2, 9), np.float32)),
        r"e`: .*lora_embedding_A without B",
    ),
    "shapes": (
        {},
        key("h.1.q.lora_B.weight", ones((3, 4), np.float32)),
        r"h\.1\.q`: .*\(3, 4\).*\(2, 5\) do not chain",
    ),
    "three axes": ({}, key("h.1.q.lora_A.weight", ones((2, 5, 1), np.float32)), r"h\.1\.q`: .*do not chain"),
    "rank": ({"r": 3}, None, r"h\.0\.q`: has rank 2, but the configuration states 3"),
    "rank pattern": (
        {"rank_pattern": {"h.1.q": 3}},
        None,
        r"h\.1\.q`: has rank 2, but the configuration states 3",
    ),
    "no rank": ({"r": None}, None, "has rank 2, but the configuration states None"),
    "NaN in A": (
        {},
        with_entry("h.1.q.lora_A.weight", np.nan),
        r"h\.1\.q\.lora_A\.weight`: expected finite numbers, found a NaN",
    ),
    "inf in B": (
        {},
        with_entry("h.1.q.lora_B.weight", np.inf),
        r"h\.1\.q\.lora_B\.weight`: expected finite numbers, found a NaN or an inf",
    ),
    "alpha 0": ({"lora_alpha": 0}, None, "alpha is 0"),
    "alpha 0 in a pattern": ({"alpha_pattern": {"h.1.q": 0}}, None, r"h\.1\.q`: alpha is 0"),
    "alpha as text": (
        {"lora_alpha": "four"},
        None,
        r'json: lora_alpha`: expected a number or null, found "four"',
    ),
    "alpha of 1e39": ({"lora_alpha": 1e39}, None, r"h\.0\.q`: alpha is 1e\+39, expected at most 1e\+30"),
    "alpha of 2^1000": ({"lora_alpha": -(2**1000)}, None, r"alpha is -1.07e\+301, expected at most 1e\+30"),
    "r of 10^300": ({"r": 10**300}, None, r"the configuration states 1000+\.\.\.00+\. Correct"),
    "no alpha": ({"lora_alpha": None}, None, "alpha is None"),
    "DoRA in the configuration": ({"use_dora": True}, None, "turns on DoRA"),
    "DoRA in the weights": ({}, key("h.0.q.lora_magnitude_vector", ones(3, np.float32)), "belongs to DoRA"),
    "another method": ({"peft_type": "IA3"}, None, "expected peft_type LORA, found 'IA3'"),
    "no method": ({"peft_type": None}, None, "expected peft_type LORA, found None"),
    "no factors": ({}, {}, "expected LoRA factors, found none"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_damaged_or_unsupported_adapter_is_refused(case, tmp_path):
    config, arrays, message = REFUSED[case]
    folder = write(tmp_path / "a", {**CONFIG, **config}, arrays)
    with pytest.raises(AdapterError, match=message) as caught:
        load_adapter(folder)
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", '"LORA"', "\x00"])
def test_a_configuration_that_is_not_an_object_is_refused(text, tmp_path):
    with pytest.raises(AdapterError, match=r"adapter_config\.json"):
        load_adapter(write(tmp_path / "a", text=text))


@pytest.mark.parametrize("text", ["", "{", "[1]"])
def test_a_statement_that_is_not_an_object_is_refused(text, tmp_path):
    folder = write(tmp_path / "a")
    (folder / "eckart.json").write_text(text)
    with pytest.raises(AdapterError, match=r"eckart\.json"):
        load_adapter(folder)


def test_the_message_names_a_missing_file(tmp_path):
    with pytest.raises(AdapterError, match=r"nowhere`: there is no such file or folder"):
        load_adapter(tmp_path / "nowhere")
    (tmp_path / "adapter_config.json").write_text(json.dumps(CONFIG))
    with pytest.raises(InputError, match=r"adapter_model\.safetensors"):
        load_adapter(tmp_path)


@pytest.mark.parametrize("pattern", [["h.1.q"], {"(": 3}])
def test_a_damaged_pattern_is_refused(pattern, tmp_path):
    with pytest.raises(AdapterError):
        load_adapter(write(tmp_path / "a", {**CONFIG, "rank_pattern": pattern}))


def test_a_nan_in_a_bias_is_refused(tmp_path):
    arrays = tensors(**{"h.0.q.lora_B.bias": np.full(3, np.nan, np.float32)})
    with pytest.raises(AdapterError, match="bias"):
        load_adapter(write(tmp_path / "a", {**CONFIG, "lora_bias": True}, arrays))


@pytest.mark.parametrize("dtype", DTYPE)
@pytest.mark.parametrize("rslora, scale", [(False, 2.0), (True, 4 / np.sqrt(2))])
def test_a_valid_adapter_is_read_with_its_scale(rslora, scale, dtype, tmp_path):
    arrays = {k: v.astype(DTYPE[dtype]) for k, v in tensors().items()}
    adapter = load_adapter(write(tmp_path / "a", {**CONFIG, "use_rslora": rslora}, arrays))
    assert list(adapter.modules) == ["h.0.q", "h.1.q"] and adapter.parameters == 2 * (2 * 5 + 3 * 2)
    module = adapter.modules["h.0.q"]
    left, right = module.float_factors()
    B, A = (arrays[f"{PREFIX}h.0.q.{half}.weight"].astype(np.float32) for half in ("lora_B", "lora_A"))
    assert (module.rank, module.shape) == (2, (3, 5))
    # a few roundings of float32
    np.testing.assert_allclose(left @ right, scale * (B @ A), rtol=1e-5, atol=1e-6)


def test_patterns_are_matched_as_peft_matches_them(tmp_path):
    """First match wins; a key is a regular expression for the end of the name."""
    config = {**CONFIG, "alpha_pattern": {r"h\.(0|7)\.q": 6, "q": 8}}
    adapter = load_adapter(write(tmp_path / "a", config))
    assert {m.name: m.scale for m in adapter} == {"h.0.q": 3.0, "h.1.q": 4.0}


def test_an_embedding_is_read_in_the_orientation_of_its_table(tmp_path):
    A = np.arange(18, dtype=np.float32).reshape(2, 9)
    B = np.arange(8, dtype=np.float32).reshape(4, 2)
    arrays = {f"{PREFIX}e.lora_embedding_A": A, f"{PREFIX}e.lora_embedding_B": B}
    (module,) = load_adapter(write(tmp_path / "a", CONFIG, arrays))
    left, right = module.float_factors()
    assert (module.kind, module.shape) == ("embedding", (9, 4))
    np.testing.assert_array_equal(left @ right, 2.0 * (B @ A).T)  # small whole numbers: exact


def test_names_without_the_prefix_are_read_too(tmp_path):
    arrays = {k.removeprefix(PREFIX): v for k, v in tensors().items()}
    assert re.fullmatch("h.0.q", next(iter(load_adapter(write(tmp_path / "a", CONFIG, arrays)))).name)


def test_a_convolution_with_groups_is_refused(tmp_path):
    """PEFT's factors of such a layer do not chain: B has the components of one group only."""
    arrays = tensors(
        **{
            "h.2.g.lora_A.weight": np.ones((4, 6, 3, 3), np.float32),
            "h.2.g.lora_B.weight": np.ones((8, 2, 1, 1), np.float32),
        }
    )
    with pytest.raises(AdapterError, match=r"h\.2\.g`: is a convolution of 2 groups, which is not supported"):
        load_adapter(write(tmp_path / "a", arrays=arrays))
