"""Adapters as PEFT sees them: no key missing or left over, and the logits of base + B A."""

from dataclasses import replace

import pytest

import eckart
from eckart.errors import AdapterError
from support.tuned_models import (
    MIXED,
    MODELS,
    TIED,
    TOKENS,
    adapted,
    assert_same_logits,
    bert,
    by_hand,
    deep_llama,
    gpt2,
    llama,
    load_peft,
    logits,
    make_pair,
    products,
    read_config,
    tied_llama,
    torch,
    transformers,
)

LLAMA_LAYER = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
               "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")  # fmt: skip
BERT_LAYER = ("attention.self.query", "attention.self.key", "attention.self.value",
              "attention.output.dense", "intermediate.dense", "output.dense")  # fmt: skip
GPT2_LAYER = ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")


def layers(stem, parts, count=2):
    return {f"{stem}.{i}.{part}" for i in range(count) for part in parts}


LINEAR = {
    "bert": layers("bert.encoder.layer", BERT_LAYER) | {"bert.pooler.dense", "classifier"},
    "gpt2": layers("transformer.h", GPT2_LAYER),
    "llama": layers("model.layers", LLAMA_LAYER) | {"lm_head"},
    "tied llama": layers("model.layers", LLAMA_LAYER),
    "deep llama": layers("model.layers", LLAMA_LAYER, 12) | {"lm_head"},
}
EMBEDDINGS = {
    "bert": {f"bert.embeddings.{part}_embeddings" for part in ("word", "position", "token_type")},
    "gpt2": {"transformer.wte", "transformer.wpe", "lm_head"},
    "llama": {"model.embed_tokens"},
    "tied llama": {"model.embed_tokens", "lm_head"},
    "deep llama": {"model.embed_tokens"},
}
ALLOWED = {"gpt2": (TIED, MIXED), "tied llama": (TIED,)}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", MODELS)
def test_logits_are_those_of_base_plus_BA(name, dtype, tmp_path):
    pair = make_pair(tmp_path, MODELS[name], dtype)
    done = eckart.extract(pair.base, pair.tuned, tmp_path / "a", energy=0.8)
    loaded = load_peft(pair.fresh_base(), tmp_path / "a")
    assert set(adapted(loaded)) == LINEAR[name]
    assert adapted(loaded) == {m.name: m.rank for m in done.adapter}
    assert_same_logits(loaded, by_hand(pair, tmp_path / "a"), apart=pair.base_model)


@pytest.mark.parametrize("name", MODELS)
def test_embeddings_get_factors_and_a_tied_head_the_same(name, tmp_path):
    pair = make_pair(tmp_path, MODELS[name])
    eckart.extract(pair.base, pair.tuned, tmp_path / "a", energy=0.8, embeddings=True)
    loaded = load_peft(pair.fresh_base(), tmp_path / "a", *ALLOWED.get(name, ()))
    assert set(adapted(loaded)) == LINEAR[name] | EMBEDDINGS[name]
    # `by_hand` writes the embedding alone, and the head follows because it is the same tensor.
    assert_same_logits(loaded, by_hand(pair, tmp_path / "a"), apart=pair.base_model)


@pytest.mark.parametrize("build, table", [(tied_llama, "model.embed_tokens"), (gpt2, "transformer.wte")])
def test_only_a_tied_head_changes_with_its_embedding(build, table, tmp_path):
    pair = make_pair(tmp_path, build)
    eckart.extract(pair.base, pair.tuned, tmp_path / "a", rank=24, dtype="F32", embeddings=True,
                   include=[rf"{table}\.weight"])  # fmt: skip
    loaded = load_peft(pair.fresh_base(), tmp_path / "a", TIED, MIXED)
    expected = pair.fresh_base()
    expected.get_input_embeddings().weight.data[:] = pair.tuned_model.get_input_embeddings().weight
    assert expected.lm_head.weight is expected.get_input_embeddings().weight
    assert adapted(loaded) == {table: 24, "lm_head": 24}
    assert_same_logits(loaded, expected, apart=pair.base_model)


def test_the_tied_head_is_stated_and_verified(tmp_path):
    pair = make_pair(tmp_path, tied_llama)
    done = eckart.extract(pair.base, pair.tuned, tmp_path / "a", rank=4, embeddings=True)
    stated = done.statement.modules
    assert stated["lm_head"] == replace(stated["model.embed_tokens"], tied="model.embed_tokens")
    checked = eckart.verify(pair.base, pair.tuned, tmp_path / "a")
    assert checked.holds and {"lm_head", "model.embed_tokens"} <= {m.name for m in checked.modules}


def test_peft_loads_twelve_layers_of_twelve_ranks(tmp_path):
    """Layer 1 is the beginning of 10 and 11: a careless expression gives them its rank."""
    pair = make_pair(tmp_path, deep_llama)
    found = eckart.extract(pair.base, pair.tuned, tmp_path / "all", rank=2)
    wanted = {name: 1 + int(name.split(".")[2]) if "layers" in name else 5 for name in found.plan.ranks}
    plan = eckart.RankPlan(wanted, {}, "a rank per layer", 0, 1.0)
    eckart.extract(pair.base, pair.tuned, tmp_path / "a", plan=plan)
    loaded = load_peft(pair.fresh_base(), tmp_path / "a")
    assert adapted(loaded) == {name.removesuffix(".weight"): rank for name, rank in wanted.items()}
    assert len(read_config(tmp_path / "a")["rank_pattern"]) == 11  # twelve ranks, one of them the default
    assert_same_logits(loaded, by_hand(pair, tmp_path / "a"), apart=pair.base_model)


@pytest.mark.parametrize(
    "selection, kept",
    [
        ({"include": [r"layers\.1\."]}, lambda name: ".layers.1." in name),
        ({"exclude": [r"layers\.(1|11)\.mlp"]},
         lambda name: not (".layers.1.mlp" in name or ".layers.11.mlp" in name)),
        ({"include": ["q_proj", "v_proj"], "exclude": [r"layers\.0\."]},
         lambda name: name.endswith(("q_proj", "v_proj")) and ".layers.0." not in name),
        ({"include": ["lm_head"]}, lambda name: name == "lm_head"),
    ],
)  # fmt: skip
def test_layers_left_out_are_not_wrapped(selection, kept, tmp_path):
    pair = make_pair(tmp_path, deep_llama)
    eckart.extract(pair.base, pair.tuned, tmp_path / "a", rank=3, **selection)
    loaded = load_peft(pair.fresh_base(), tmp_path / "a")
    assert adapted(loaded) == {name: 3 for name in LINEAR["deep llama"] if kept(name)}
    assert_same_logits(loaded, by_hand(pair, tmp_path / "a"))


def test_an_unchanged_layer_gets_no_factors_and_is_not_wrapped(tmp_path):
    def freeze(model):
        model.model.layers[1].mlp.up_proj.weight.data[:] = frozen

    torch.manual_seed(0)
    frozen = llama().model.layers[1].mlp.up_proj.weight.data.clone()  # as `make_pair` will draw it
    pair = make_pair(tmp_path, llama, change=freeze)
    eckart.extract(pair.base, pair.tuned, tmp_path / "a", rank=3)
    loaded = load_peft(pair.fresh_base(), tmp_path / "a")
    assert set(adapted(loaded)) == LINEAR["llama"] - {"model.layers.1.mlp.up_proj"}


def test_full_rank_and_whole_tensors_give_the_tuned_model(tmp_path):
    """BERT: biases by lora_bias, norms and embeddings whole. Rank 24 is full: every min(m, n) <= 24."""
    pair = make_pair(tmp_path, bert)
    done = eckart.extract(pair.base, pair.tuned, tmp_path / "a", rank=24, dtype="F32", modules_to_save=True)
    config = read_config(tmp_path / "a")
    assert config["lora_bias"] and "bert.embeddings.LayerNorm" in config["modules_to_save"]
    assert not done.statement.not_carried and done.statement.error_of_whole_change < 1e-6
    assert_same_logits(load_peft(pair.fresh_base(), tmp_path / "a"), pair.tuned_model, apart=pair.base_model)


@pytest.mark.parametrize("embeddings", [False, True])
def test_full_rank_llama_with_norms_gives_the_tuned_model(embeddings, tmp_path):
    pair = make_pair(tmp_path, llama)
    eckart.extract(pair.base, pair.tuned, tmp_path / "a", rank=24, dtype="F32", modules_to_save=True,
                   embeddings=embeddings)  # fmt: skip
    saved = read_config(tmp_path / "a")["modules_to_save"]
    assert "model.norm" in saved and ("model.embed_tokens" in saved) != embeddings
    assert_same_logits(load_peft(pair.fresh_base(), tmp_path / "a"), pair.tuned_model, apart=pair.base_model)


def test_full_rank_tied_llama_with_factored_embeddings_gives_the_tuned_model(tmp_path):
    pair = make_pair(tmp_path, tied_llama)
    eckart.extract(pair.base, pair.tuned, tmp_path / "a", rank=24, dtype="F32", modules_to_save=True,
                   embeddings=True)  # fmt: skip
    loaded = load_peft(pair.fresh_base(), tmp_path / "a", TIED)
    assert_same_logits(loaded, pair.tuned_model, apart=pair.base_model)


@pytest.mark.parametrize("build", [tied_llama, gpt2])
def test_full_rank_tied_models_with_whole_embeddings_give_the_tuned_model(build, tmp_path):
    pair = make_pair(tmp_path, build)
    done = eckart.extract(pair.base, pair.tuned, tmp_path / "a", rank=24, dtype="F32", modules_to_save=True)
    assert done.statement.error_of_whole_change < 1e-6  # so it says
    loaded = load_peft(pair.fresh_base(), tmp_path / "a", TIED)
    assert_same_logits(loaded, pair.tuned_model, apart=pair.base_model)


def test_biases_of_conv1d_are_saved(tmp_path):
    """GPT-2 with its embeddings as in the base: then lora_bias and norms give the tuned model."""
    torch.manual_seed(0)
    base = gpt2()

    def keep_embeddings(model):
        model.transformer.wte.weight.data[:] = base.transformer.wte.weight
        model.transformer.wpe.weight.data[:] = base.transformer.wpe.weight

    pair = make_pair(tmp_path, gpt2, change=keep_embeddings)
    eckart.extract(pair.base, pair.tuned, tmp_path / "a", rank=24, dtype="F32", modules_to_save=True)
    assert read_config(tmp_path / "a")["fan_in_fan_out"] is True
    assert_same_logits(load_peft(pair.fresh_base(), tmp_path / "a"), pair.tuned_model, apart=pair.base_model)


def test_a_base_saved_without_its_head_gets_an_adapter_in_the_full_models_names(tmp_path):
    pair = make_pair(tmp_path, bert, as_base=lambda model: model.bert)
    done = eckart.extract(pair.base, pair.tuned, tmp_path / "a", energy=0.8)
    assert any("begin with bert." in note for note in done.notes)
    loaded = load_peft(pair.fresh_base(), tmp_path / "a")
    assert set(adapted(loaded)) == LINEAR["bert"] - {"classifier"}
    assert_same_logits(loaded, by_hand(pair, tmp_path / "a"), apart=pair.base_model)
    lost = {item.name: item.why for item in done.statement.not_carried}
    assert lost["classifier.weight"] == "not in the base"
    assert eckart.verify(pair.base, pair.tuned, tmp_path / "a").holds


def roberta():
    return transformers.RobertaForSequenceClassification(
        transformers.RobertaConfig(vocab_size=TOKENS, hidden_size=24, num_hidden_layers=1, num_labels=5,
                                   num_attention_heads=2, intermediate_size=40, max_position_embeddings=20)
    )  # fmt: skip


def test_a_new_head_whose_name_ends_like_an_adapted_layer_is_not_wrapped(tmp_path):
    pair = make_pair(tmp_path, roberta, as_base=lambda model: model.roberta)
    eckart.extract(pair.base, pair.tuned, tmp_path / "a", rank=3)
    loaded = load_peft(pair.fresh_base(), tmp_path / "a")  # warns: missing classifier.dense.lora_A
    assert "classifier.dense" not in adapted(loaded)


def masked_bert():
    return transformers.BertForMaskedLM(
        transformers.BertConfig(vocab_size=TOKENS, hidden_size=24, num_hidden_layers=1, num_attention_heads=2,
                                intermediate_size=40, max_position_embeddings=16)
    )  # fmt: skip


def test_a_tied_head_of_another_name_gets_the_factors(tmp_path):
    pair = make_pair(tmp_path, masked_bert)
    eckart.extract(pair.base, pair.tuned, tmp_path / "a", rank=24, dtype="F32", embeddings=True)
    loaded = load_peft(pair.fresh_base(), tmp_path / "a", TIED)  # lm_head.lora_A is unexpected
    assert_same_logits(loaded, by_hand(pair, tmp_path / "a"))


def test_saving_a_parameter_does_not_save_the_submodules_next_to_it(tmp_path):
    pair = make_pair(tmp_path, masked_bert)
    eckart.extract(pair.base, pair.tuned, tmp_path / "a", rank=24, dtype="F32", modules_to_save=True)
    load_peft(pair.fresh_base(), tmp_path / "a", TIED)


def only_norms(model):
    torch.manual_seed(0)
    base = dict(llama().named_parameters())
    for name, parameter in model.named_parameters():
        parameter.data[:] = base[name] + (0.3 if "norm" in name else 0.0)


def test_an_adapter_of_norms_alone_is_refused(tmp_path):
    """PEFT does not load a LoRA adapter with no target module, whatever else it saves."""
    pair = make_pair(tmp_path, llama, change=only_norms)
    with pytest.raises(AdapterError, match="would be empty"):
        eckart.extract(pair.base, pair.tuned, tmp_path / "a", rank=4, modules_to_save=True)
    assert not (tmp_path / "a").exists()


def test_the_configuration_states_alpha_equal_to_r_and_nothing_that_a_server_refuses(tmp_path):
    pair = make_pair(tmp_path, llama)
    eckart.extract(pair.base, pair.tuned, tmp_path / "a", energy=0.8, base_name="org/base")
    config = read_config(tmp_path / "a")
    assert config["alpha_pattern"] == config["rank_pattern"] and config["lora_alpha"] == config["r"]
    assert config["r"] == max(eckart.load_adapter(tmp_path / "a").modules[n].rank for n in LINEAR["llama"])
    assert config["modules_to_save"] is None and config["bias"] == "none" and not config["lora_bias"]
    assert config["task_type"] == "CAUSAL_LM" and config["base_model_name_or_path"] == "org/base"


# --- a vocabulary that has grown ---


@pytest.mark.parametrize("embeddings", [False, True])
def test_new_rows_of_a_grown_vocabulary_are_listed_and_its_shared_rows_adapted(embeddings, tmp_path):
    pair = make_pair(
        tmp_path, llama, change=lambda model: model.resize_token_embeddings(TOKENS + 3, mean_resizing=False)
    )
    done = eckart.extract(pair.base, pair.tuned, tmp_path / "a", rank=24, dtype="F32", embeddings=embeddings)
    for table in ("lm_head", "model.embed_tokens"):
        assert (
            f"The vocabulary {table}.weight went from 53 to 56 rows; the first 53 are compared." in done.notes
        )

    base = pair.base_model.state_dict()
    tuned = pair.tuned_model.state_dict()
    shared = sum(float((tuned[n][: len(w)].double() - w.double()).square().sum()) for n, w in base.items())
    new = {
        n: float(tuned[f"{n}.weight"][TOKENS:].double().square().sum())
        for n in ("lm_head", "model.embed_tokens")
    }
    everything = shared + sum(new.values())
    stated = {i.name: i.share for i in done.statement.not_carried if i.why == "3 new rows"}
    # float64 sums of the same float32 numbers: 1e-9 is roundings of the sum.
    assert stated == {f"{n}.weight": pytest.approx(v / everything, rel=1e-6) for n, v in new.items()}

    loaded = load_peft(pair.fresh_base(), tmp_path / "a")  # the base has not grown
    assert_same_logits(loaded, by_hand(pair, tmp_path / "a"), apart=pair.base_model)
    handed = products(tmp_path / "a")["lm_head"]
    expected = tuned["lm_head.weight"][:TOKENS] - base["lm_head.weight"]
    torch.testing.assert_close(handed, expected, rtol=0, atol=1e-6)  # full rank: all of it
    assert eckart.verify(pair.base, pair.tuned, tmp_path / "a").holds


def test_a_grown_tied_vocabulary(tmp_path):
    pair = make_pair(
        tmp_path,
        tied_llama,
        change=lambda model: model.resize_token_embeddings(TOKENS + 3, mean_resizing=False),
    )
    eckart.extract(pair.base, pair.tuned, tmp_path / "a", rank=4, embeddings=True)
    loaded = load_peft(pair.fresh_base(), tmp_path / "a", TIED)
    assert logits(loaded).shape[-1] == TOKENS
    assert_same_logits(loaded, by_hand(pair, tmp_path / "a"), apart=pair.base_model)


def test_a_grown_vocabulary_carried_whole_loads_on_a_resized_base(tmp_path):
    pair = make_pair(
        tmp_path, llama, change=lambda model: model.resize_token_embeddings(TOKENS + 3, mean_resizing=False)
    )
    eckart.extract(pair.base, pair.tuned, tmp_path / "a", rank=4, modules_to_save=True)
    model = pair.fresh_base()
    model.resize_token_embeddings(TOKENS + 3, mean_resizing=False)
    load_peft(model, tmp_path / "a")


@pytest.mark.parametrize("embeddings", [False, True])
def test_a_shrunk_vocabulary_loads_on_the_base(embeddings, tmp_path):
    pair = make_pair(
        tmp_path, llama, change=lambda model: model.resize_token_embeddings(TOKENS - 3, mean_resizing=False)
    )
    eckart.extract(pair.base, pair.tuned, tmp_path / "a", rank=4, embeddings=embeddings)
    load_peft(pair.fresh_base(), tmp_path / "a")
