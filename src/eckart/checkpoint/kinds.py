"""The kind of layer a tensor belongs to, inferred from its name, its shape and the model configuration."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from enum import StrEnum


class Kind(StrEnum):
    """The kind of layer that a tensor, or the update of a tensor, belongs to.

    Every member is also a string, so ``Kind.LINEAR == "linear"``.

    Attributes
    ----------
    LINEAR
        A linear layer, stored as (d_out, d_in).
    CONV1D
        transformers' ``Conv1D``: a linear layer stored as (d_in, d_out).
    EMBEDDING
        An embedding table, stored as (entries, d_out).
    CONV
        A convolution, with one to three axes for its window.
    EXPERTS
        A fused tensor, which stacks the matrices of all experts along its first axis.
    EXPERT
        One expert of a fused tensor, stored as (d_out, d_in).
    EXPERT_TRANSPOSED
        One expert of a fused tensor that is stored as (d_in, d_out).
    ROUTER
        A matrix that is a bare parameter of its module, which PEFT lists under ``target_parameters``.
    VECTOR
        A tensor with fewer than two axes, such as a bias or the weight of a norm.
    OTHER
        Any other tensor.

    Examples
    --------
    >>> str(Kind("conv1d")), Kind.CONV1D.is_transposed, Kind.LINEAR.is_transposed
    ('conv1d', True, False)
    """

    LINEAR = "linear"
    CONV1D = "conv1d"
    EMBEDDING = "embedding"
    CONV = "conv"
    EXPERTS = "experts"
    EXPERT = "expert"
    EXPERT_TRANSPOSED = "expert_transposed"
    ROUTER = "router"
    VECTOR = "vector"
    OTHER = "other"

    @property
    def is_transposed(self) -> bool:
        """Whether the weight is stored as (d_in, d_out)."""
        return self in (Kind.CONV1D, Kind.EMBEDDING, Kind.EXPERT_TRANSPOSED)

    @property
    def is_linear(self) -> bool:
        """Whether this is a linear layer in either orientation: ``LINEAR`` or ``CONV1D``."""
        return self in (Kind.LINEAR, Kind.CONV1D)


# Model types whose fused experts are stored as (experts, d_in, d_out): is_transposed in transformers 5.23.
TRANSPOSED_EXPERTS = frozenset({"gpt_oss", "aria", "aria_text", "openai_privacy_filter"})

# Model types that use transformers.pytorch_utils.Conv1D, a linear layer stored as (d_in, d_out), and the
# names of the modules that do (as of transformers 5.23).
CONV1D_MODULES: Mapping[str, frozenset[str]] = {
    model: frozenset({"c_attn", "c_proj", "c_fc", "q_attn"})
    for model in ("gpt2", "openai-gpt", "imagegpt", "decision_transformer", "clvp_decoder")
}

_EMBEDDING = re.compile(
    r"(^|_)(embed|embeds|embedding|embeddings|emb)(_|$)|^(wte|wpe|shared|relative_attention_bias)$"
)
_NOT_EMBEDDING = re.compile(r"^(embed_out|lm_head)$|proj")
_HEADS = frozenset({"lm_head", "embed_out"})
# Output layers by architecture, where they are not called lm_head (as of transformers 5.23).
_OTHER_HEADS = {
    "BertForMaskedLM": "cls.predictions.decoder",
    "BertForPreTraining": "cls.predictions.decoder",
    "DistilBertForMaskedLM": "vocab_projector",
    "GPTNeoXForCausalLM": "embed_out",
    "RobertaForMaskedLM": "lm_head.decoder",
    "XLMRobertaForMaskedLM": "lm_head.decoder",
}
_INPUT_EMBEDDINGS = frozenset(
    {"embed_tokens", "wte", "word_embeddings", "embed_in", "tok_embeddings", "shared"}
)


def module_of(name: str) -> str:
    """Return the module that holds a parameter.

    Parameters
    ----------
    name : str
        Name of the parameter, e.g. ``"model.norm.weight"``.

    Returns
    -------
    str
        Path of the module, e.g. ``"model.norm"``.
    """
    return name.rpartition(".")[0]


def module_name(tensor: str) -> str:
    """Return the name of the adapter module that updates a tensor.

    Parameters
    ----------
    tensor : str
        Name of a tensor, or of an expert in a fused tensor, which ends in its index in brackets.

    Returns
    -------
    str
        Path of the module that holds the tensor. An expert keeps its own name.

    Examples
    --------
    >>> module_name("model.lm_head.weight"), module_name("mlp.experts.down_proj[3]")
    ('model.lm_head', 'mlp.experts.down_proj[3]')
    """
    return tensor if tensor.endswith("]") else module_of(tensor)


def tensor_of(module: str) -> str:
    """Return the name of the tensor that an adapter module updates, the inverse of `module_name`.

    Parameters
    ----------
    module : str
        Path of a module, or the name of an expert in a fused tensor.

    Returns
    -------
    str
        The weight of the module; other tensors of the same module are not updated. An expert keeps its name.

    Examples
    --------
    >>> tensor_of("model.lm_head"), tensor_of("mlp.experts.down_proj[3]")
    ('model.lm_head.weight', 'mlp.experts.down_proj[3]')
    """
    return module if module.endswith("]") else f"{module}.weight"


def kind_of(name: str, shape: Sequence[int], config: Mapping[str, object]) -> Kind:
    """Return the kind of layer that a tensor belongs to.

    Parameters
    ----------
    name : str
        Parameter name, e.g. ``"model.layers.0.mlp.up_proj.weight"``.
    shape : sequence of int
        Shape of the tensor.
    config : mapping
        The model's ``config.json``. Only ``model_type`` is used.

    Returns
    -------
    Kind
        Any kind but ``EXPERT`` and ``EXPERT_TRANSPOSED``, which are parts of a tensor, and ``ROUTER``, which
        only PEFT distinguishes from ``LINEAR``.

    Notes
    -----
    This is a heuristic on names, because the files do not tell the module class of a tensor. A ``.weight``
    with two axes is linear unless its module is named like an embedding table.

    Examples
    --------
    >>> kind_of("model.embed_tokens.weight", (100, 8), {})
    <Kind.EMBEDDING: 'embedding'>
    >>> kind_of("h.0.attn.c_attn.weight", (8, 24), {"model_type": "gpt2"})
    <Kind.CONV1D: 'conv1d'>
    """
    axes = len(shape)
    leaf = name.rpartition(".")[2]
    module = module_of(name).rpartition(".")[2]
    if axes < 2:
        return Kind.VECTOR
    if axes == 2 and leaf == "weight" and module:
        if module in CONV1D_MODULES.get(str(config.get("model_type")), frozenset()):
            return Kind.CONV1D
        if _EMBEDDING.search(module) and not _NOT_EMBEDDING.search(module):
            return Kind.EMBEDDING
        return Kind.LINEAR
    if axes == 3 and "experts" in name:
        return Kind.EXPERTS
    return Kind.CONV if axes in (3, 4, 5) and leaf == "weight" else Kind.OTHER


def is_head(name: str) -> bool:
    """Return whether a tensor is the output layer of a language model, judged by its name.

    Parameters
    ----------
    name : str
        Name of the tensor.

    Returns
    -------
    bool
        True for modules called ``lm_head`` or ``embed_out``.
    """
    return module_of(name).rpartition(".")[2] in _HEADS


def is_input_embedding(name: str) -> bool:
    """Return whether a tensor is an input embedding, which a head may be tied to, judged by its name.

    Parameters
    ----------
    name : str
        Name of the tensor.

    Returns
    -------
    bool
        True for modules called for example ``embed_tokens`` or ``wte``.
    """
    return module_of(name).rpartition(".")[2] in _INPUT_EMBEDDINGS


def tied_head(names: Sequence[str], config: Mapping[str, object]) -> str | None:
    """Return the output layer that shares the weight of the input embedding.

    Parameters
    ----------
    names : sequence of str
        Names of the tensors in the checkpoint. An output layer that is stored is not tied.
    config : mapping
        The model's ``config.json``.

    Returns
    -------
    str or None
        The path of the module, ``""`` if the layer is tied but its path is not known, or None if no output
        layer is tied.
    """
    text = config.get("text_config")
    inner = text if isinstance(text, Mapping) else {}
    is_tied = config.get("tie_word_embeddings", inner.get("tie_word_embeddings", True))
    architectures = config.get("architectures")
    architecture = str(architectures[0]) if isinstance(architectures, list) and architectures else ""
    if not is_tied or any(is_head(name) for name in names):
        return None
    if architecture in _OTHER_HEADS:
        return _OTHER_HEADS[architecture]
    if architecture.endswith(("ForCausalLM", "LMHeadModel")):
        return "lm_head"
    return (
        "" if architecture.endswith(("ForMaskedLM", "ForConditionalGeneration", "ForPreTraining")) else None
    )
