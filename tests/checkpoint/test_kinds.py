"""The kinds of layers: strings that know how their weight is stored."""

import json
import pickle

import pytest

from eckart.checkpoint.kinds import Kind, kind_of


def test_a_kind_is_a_string_in_comparisons_text_and_json():
    assert Kind.EXPERT_TRANSPOSED == "expert_transposed" and {"linear": 1}[Kind.LINEAR] == 1
    assert f"{Kind.CONV1D}" == "conv1d" and json.dumps({"kind": Kind.ROUTER}) == '{"kind": "router"}'
    assert pickle.loads(pickle.dumps(Kind.CONV)) is Kind.CONV


def test_kinds_know_their_orientation():
    assert [kind for kind in Kind if kind.is_transposed] == ["conv1d", "embedding", "expert_transposed"]
    assert [kind for kind in Kind if kind.is_linear] == ["linear", "conv1d"]


@pytest.mark.parametrize(
    ("name", "shape", "config", "kind"),
    [
        ("layers.0.q_proj.weight", (4, 4), {}, Kind.LINEAR),
        ("h.0.attn.c_attn.weight", (4, 12), {"model_type": "gpt2"}, Kind.CONV1D),
        ("model.embed_tokens.weight", (9, 4), {}, Kind.EMBEDDING),
        ("conv_in.weight", (4, 3, 3, 3), {}, Kind.CONV),
        ("mlp.experts.down_proj", (2, 4, 3), {}, Kind.EXPERTS),
        ("norm.weight", (4,), {}, Kind.VECTOR),
        ("table", (4, 4), {}, Kind.OTHER),
    ],
)
def test_the_kind_of_a_tensor_is_inferred(name, shape, config, kind):
    assert kind_of(name, shape, config) is kind
