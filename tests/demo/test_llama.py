"""The NumPy Llama compared with `transformers`, and the packaged pair with its published figures."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eckart.demo import BASE, ENGLISH, FIGURES, PYTHON, TUNED
from eckart.demo.llama import Llama
from eckart.errors import CheckpointError, UsageError

# Two float32 implementations add the same products in different orders. Each of the few dozen sums in a row
# has a relative error of about sqrt(d) eps = 1e-6, and the logits are of order 10.
LOGITS_TOLERANCE = 2e-4
LOSS_TOLERANCE = 1e-5

CONFIG: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": 256,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 16,  # differs from hidden_size / heads
    "hidden_act": "silu",
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-3,
    "rope_theta": 500.0,
    "tie_word_embeddings": False,
}


def random_weights(config: dict[str, Any]) -> dict[str, np.ndarray]:
    """Return weights so large that every part of the model and every position affects the logits."""
    rng = np.random.default_rng(3142)
    d, inner = config["hidden_size"], config["intermediate_size"]
    q = config["num_attention_heads"] * config["head_dim"]
    kv = config["num_key_value_heads"] * config["head_dim"]
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (config["vocab_size"], d),
        "model.norm.weight": (d,),
    }
    if not config["tie_word_embeddings"]:
        shapes["lm_head.weight"] = (config["vocab_size"], d)
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."
        shapes |= {
            prefix + "input_layernorm.weight": (d,),
            prefix + "post_attention_layernorm.weight": (d,),
            prefix + "self_attn.q_proj.weight": (q, d),
            prefix + "self_attn.k_proj.weight": (kv, d),
            prefix + "self_attn.v_proj.weight": (kv, d),
            prefix + "self_attn.o_proj.weight": (d, q),
            prefix + "mlp.gate_proj.weight": (inner, d),
            prefix + "mlp.up_proj.weight": (inner, d),
            prefix + "mlp.down_proj.weight": (d, inner),
        }
    return {
        name: rng.normal(len(shape) == 1, 0.2, shape).astype(np.float32) for name, shape in shapes.items()
    }


@pytest.fixture
def tiny() -> Llama:
    return Llama(CONFIG, random_weights(CONFIG))


def reference_loss(model: Any, text: bytes, context: int) -> float:
    """Return the loss by its definition: the cross-entropy by torch of one window after the other."""
    import torch

    tokens = torch.tensor(list(text))
    total = 0.0
    with torch.no_grad():
        for start in range(0, len(text) - 1, context):
            window = tokens[start : start + context + 1]
            scores = model(window[None, :-1]).logits[0]
            total += torch.nn.functional.cross_entropy(scores, window[1:], reduction="sum").item()
    return total / (len(text) - 1)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("kv_heads", [1, 2, 6])
def test_model_with_random_weights_agrees_with_transformers(tied: bool, kv_heads: int) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    config = CONFIG | {"tie_word_embeddings": tied, "num_key_value_heads": kv_heads}
    weights = random_weights(config)
    reference = transformers.LlamaForCausalLM(transformers.LlamaConfig(**config)).eval()
    missing, unexpected = reference.load_state_dict(
        {name: torch.from_numpy(w) for name, w in weights.items()}, strict=False
    )
    assert missing == (["lm_head.weight"] if tied else []) and not unexpected
    model = Llama(config, weights)

    tokens = np.random.default_rng(2718).integers(0, 256, (3, 50))
    with torch.no_grad():
        expected = reference(torch.from_numpy(tokens)).logits.numpy()
    logits = model.logits(tokens)
    assert logits.dtype == np.float32 and expected.std() > 0.5
    np.testing.assert_allclose(logits, expected, rtol=0, atol=LOGITS_TOLERANCE)

    text = bytes(tokens.astype(np.uint8).ravel())
    for context in (1, 32, 64, 200):
        assert model.loss(text, context) == pytest.approx(
            reference_loss(reference, text, context), abs=LOSS_TOLERANCE
        )


@pytest.mark.parametrize("folder", [BASE, TUNED], ids=["base", "tuned"])
def test_packaged_pair_agrees_with_transformers(folder: Path) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    reference = transformers.LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    model = Llama.from_folder(folder)
    text = PYTHON.read_bytes()[:2000]
    tokens = np.frombuffer(text, np.uint8)[:256].astype(np.int64)
    with torch.no_grad():
        expected = reference(torch.from_numpy(tokens[None])).logits[0].numpy()
    np.testing.assert_allclose(model.logits(tokens), expected, rtol=0, atol=LOGITS_TOLERANCE)
    assert model.loss(text) == pytest.approx(reference_loss(reference, text, 256), abs=LOSS_TOLERANCE)


@pytest.mark.parametrize("folder", [BASE, TUNED], ids=["base", "tuned"])
def test_packaged_pair_has_its_published_losses(folder: Path) -> None:
    stated = json.loads(FIGURES.read_text())["heldout_loss_nats_per_byte"][folder.name]
    model = Llama.from_folder(folder)
    for text, key in ((ENGLISH, "english"), (PYTHON, "python")):
        assert model.loss(text.read_bytes()) == pytest.approx(stated[key], abs=1e-3)


def test_fine_tuning_lowers_the_loss_on_python() -> None:
    stated = json.loads(FIGURES.read_text())["heldout_loss_nats_per_byte"]
    assert stated["base"]["english"] < 1.6 and stated["base"]["python"] > 3.0
    assert stated["tuned"]["python"] < 1.7


def test_fine_tuning_changed_every_weight_matrix() -> None:
    base, tuned = Llama.from_folder(BASE), Llama.from_folder(TUNED)
    assert set(base.weights) == set(tuned.weights)
    for name, before in base.weights.items():
        assert before.dtype == np.float32
        assert np.linalg.norm(tuned.weights[name] - before) > 0.01 * np.linalg.norm(before), name


def test_batch_equals_its_texts_one_by_one(tiny: Llama) -> None:
    tokens = np.random.default_rng(0).integers(0, 256, (4, 20))
    one_by_one = np.stack([tiny.logits(text) for text in tokens])  # (4, 20, 256)
    np.testing.assert_allclose(tiny.logits(tokens), one_by_one, atol=LOGITS_TOLERANCE)


def test_logits_do_not_depend_on_later_tokens(tiny: Llama) -> None:
    tokens = np.arange(20)
    changed = np.where(np.arange(20) < 12, tokens, 255)
    before, after = tiny.logits(tokens), tiny.logits(changed)
    np.testing.assert_allclose(before[:12], after[:12], atol=LOGITS_TOLERANCE)
    assert np.abs(before[12:] - after[12:]).max() > 0.1


def test_head_of_zeros_guesses_uniformly(tiny: Llama) -> None:
    weights = {**tiny.weights, "lm_head.weight": np.zeros((256, 48), np.float32)}
    assert Llama(CONFIG, weights).loss(b"In the beginning") == pytest.approx(math.log(256))


def test_large_logits_do_not_overflow(tiny: Llama) -> None:
    head = 1e4 * tiny.weights["lm_head.weight"]  # logits near 1e4; exp(89) exceeds float32
    loss = Llama(CONFIG, {**tiny.weights, "lm_head.weight": head}).loss(b"In the beginning")
    assert math.isfinite(loss) and loss > 100


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "gpt2"}, "model_type.*'llama'.*'gpt2'"),
        ({"hidden_act": "gelu"}, "hidden_act"),
        ({"attention_bias": True}, "attention_bias"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "rope_type.*'llama3'"),
    ],
)
def test_unsupported_configuration_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        Llama(CONFIG | change, {})


def test_rope_base_is_read_in_both_spellings() -> None:
    newer = {key: value for key, value in CONFIG.items() if key != "rope_theta"}
    newer["rope_parameters"] = {"rope_type": "default", "rope_theta": 500.0}
    weights, tokens = random_weights(CONFIG), np.arange(30)
    older = Llama(CONFIG, weights).logits(tokens)
    np.testing.assert_array_equal(Llama(newer, weights).logits(tokens), older)


def test_text_without_a_byte_to_predict_is_refused(tiny: Llama) -> None:
    with pytest.raises(UsageError, match="two bytes"):
        tiny.loss(b"a")
