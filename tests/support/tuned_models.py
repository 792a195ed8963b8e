"""Tiny models that are built from their configurations, and fine-tuned by known updates.

A fine-tune here adds a random update to every parameter of the base: matrices with a decaying spectrum, and
noise for vectors. `by_hand` applies an adapter independently of Eckart: it reads the file as PEFT's
documentation describes it, multiplies, and adds to a copy of the base.
"""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
peft = pytest.importorskip("peft")

from safetensors.torch import load_file  # noqa: E402

PREFIX = "base_model.model."
TOKENS = 53  # of every tiny vocabulary; a prime number, so that no other size equals it by accident


def bert(**more):
    config = dict(
        vocab_size=TOKENS,
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=40,
        max_position_embeddings=16,
        num_labels=5,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    return transformers.BertForSequenceClassification(transformers.BertConfig(**{**config, **more}))


def gpt2(**more):
    config = dict(vocab_size=TOKENS, n_embd=24, n_layer=2, n_head=2, n_positions=16)
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(**{**config, **more}))


def llama(tied=False, layers=2, **more):
    config = dict(
        vocab_size=TOKENS,
        hidden_size=24,
        intermediate_size=40,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=16,
        tie_word_embeddings=tied,
    )
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**{**config, **more}))


def tied_llama():
    return llama(tied=True)


def deep_llama():
    return llama(layers=12)


MODELS: dict[str, Callable] = {
    "bert": bert,
    "gpt2": gpt2,
    "llama": llama,
    "tied llama": tied_llama,
    "deep llama": deep_llama,
}


@dataclass(frozen=True)
class Tuned:
    """A pair on disk, and the models as they were saved, in float32."""

    base: Path
    tuned: Path
    base_model: torch.nn.Module
    tuned_model: torch.nn.Module

    def fresh_base(self):
        return copy.deepcopy(self.base_model)


def update(shape: Iterable[int], size: float, generator: torch.Generator) -> torch.Tensor:
    """Return a random update of root mean square ``size``; sigma_i of a matrix falls as 1 / i."""
    noise = torch.randn(tuple(shape), generator=generator)
    if noise.ndim == 2:
        U, s, Vh = torch.linalg.svd(noise, full_matrices=False)
        noise = (U / torch.arange(1, len(s) + 1)) @ Vh
    return noise * (size / noise.square().mean().sqrt())


def make_pair(
    folder: Path,
    build: Callable,
    dtype: str = "float32",
    *,
    size: float = 0.02,
    seed: int = 0,
    change: Callable[[torch.nn.Module], None] | None = None,
    as_base: Callable[[torch.nn.Module], torch.nn.Module] | None = None,
) -> Tuned:
    """Build a model, save it, add an update to every parameter, and save it again.

    ``change`` may alter the tuned model before it is saved; ``as_base`` selects the part of the base
    that is saved.
    """
    torch.manual_seed(seed)
    base = build().to(getattr(torch, dtype)).eval()
    for parameter in base.parameters():  # transformers starts biases at zero, which would hide mistakes
        if parameter.ndim == 1:
            parameter.data += (0.02 * torch.randn(parameter.shape)).to(parameter.dtype)
    tuned = copy.deepcopy(base)
    generator = torch.Generator().manual_seed(seed + 1)
    for parameter in tuned.parameters():
        parameter.data = (parameter.data.float() + update(parameter.shape, size, generator)).to(
            parameter.dtype
        )
    if change is not None:
        change(tuned)
    (as_base(base) if as_base else base).save_pretrained(folder / "base")
    tuned.save_pretrained(folder / "tuned")
    return Tuned(folder / "base", folder / "tuned", base.float(), tuned.float())


def read_config(adapter: Path) -> dict:
    return json.loads((adapter / "adapter_config.json").read_text())


def products(adapter: Path) -> dict[str, torch.Tensor]:
    """Return B A of every module by name, (d_out, d_in), from the file alone."""
    tensors = {
        k.removeprefix(PREFIX): v.float() for k, v in load_file(adapter / "adapter_model.safetensors").items()
    }
    products_by_name = {}
    for key in tensors:
        if key.endswith(".lora_A.weight"):
            name = key.removesuffix(".lora_A.weight")
            products_by_name[name] = tensors[f"{name}.lora_B.weight"] @ tensors[key]
        elif key.endswith(".lora_embedding_A"):
            name = key.removesuffix(".lora_embedding_A")
            products_by_name[name] = tensors[f"{name}.lora_embedding_B"] @ tensors[key]
    return products_by_name


def by_hand(pair: Tuned, adapter: Path) -> torch.nn.Module:
    """Return a copy of the base with B A added to it. A tied head follows its embedding."""
    model = pair.fresh_base()
    head = model.get_output_embeddings()
    tied = head is not None and head.weight is model.get_input_embeddings().weight
    for name, product in products(adapter).items():
        module = model.get_submodule(name)
        if tied and module is head:
            continue
        turned = isinstance(module, (torch.nn.Embedding, transformers.pytorch_utils.Conv1D))
        module.weight.data += product.T if turned else product
    return model


# PEFT advises against wrapping one side of a tied pair; Eckart gives both sides the same factors.
TIED = "Model has `tie_word_embeddings=True`"
# One flag for all modules: PEFT corrects it for modules that it does not fit, with this warning.
MIXED = "fan_in_fan_out is set to True but the target module is `torch.nn.Linear`"
# A Qwen2 layer has biases on some modules only, and `lora_bias` is one switch for all.
NO_BIAS = "`lora_bias=True` was passed but the targeted layer"


def load_peft(model: torch.nn.Module, adapter: Path, *allowed: str):
    """Load an adapter with PEFT, and fail on a missing or unexpected key.

    PEFT warns about missing keys, which is an error here, and ignores unexpected keys silently.
    ``allowed`` are beginnings of warnings that the test ignores.
    """
    with warnings.catch_warnings():
        # A deprecation inside transformers, which PEFT triggers.
        warnings.filterwarnings("ignore", ".is_gradient_checkpointing. is deprecated")
        for message in allowed:
            warnings.filterwarnings("ignore", message)
        loaded = peft.PeftModel.from_pretrained(model, adapter).eval()
    result = peft.set_peft_model_state_dict(loaded, peft.utils.load_peft_weights(str(adapter), device="cpu"))
    missing = [k for k in result.missing_keys if ".lora_" in k or ".modules_to_save." in k]
    assert not missing
    assert not result.unexpected_keys
    return loaded


def adapted(loaded) -> dict[str, int]:
    """Return the rank of each module that PEFT wrapped; assert that its scale is 1."""
    ranks = {}
    for name, module in loaded.get_base_model().named_modules():
        if isinstance(module, peft.tuners.lora.LoraLayer):
            assert module.scaling["default"] == 1.0, name
            ranks[name] = module.r["default"]
    return ranks


@torch.no_grad()
def logits(model: torch.nn.Module) -> torch.Tensor:
    generator = torch.Generator().manual_seed(7)
    ids = torch.randint(0, 50, (3, 11), generator=generator)
    return model(input_ids=ids).logits


def assert_same_logits(ours, theirs, apart=None, tolerance: float = 1e-4) -> None:
    """Assert that logits near 1 agree to 1e-4: about 1e3 roundings of float32.

    ``apart`` is a model that must *not* agree, which shows that the comparison can fail.
    """
    actual, expected = logits(ours), logits(theirs)
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance)
    if apart is not None:
        assert (logits(apart) - expected).abs().max() > 20 * tolerance
