"""The forward pass of a Llama model, in NumPy, to be read from top to bottom.

A token becomes a vector of `d` numbers, its row of the embedding. Each layer adds two things to
that vector: what attention gathers from the tokens before it, and what a small network makes of the
vector alone. The head compares the result with every token of the vocabulary:

    x = embedding[tokens]
    for each layer:
        x = x + attention(norm(x))
        x = x + mlp(norm(x))
    logits = norm(x) @ head.T

Shapes at the line ends: `T` tokens, `d` hidden size, `heads` query heads in `kv_heads` groups that
share one key and one value each; `...` is a batch of texts, or nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eckart.checkpoint.checkpoint import Checkpoint
from eckart.errors import CheckpointError, UsageError

Array = NDArray[np.float32]

# At 256 tokens and five heads a window's attention scores take 1.3 MB: eight windows stay close to
# the cache, and more were no quicker.
WINDOWS_AT_ONCE = 8


class Llama:
    """A Llama language model that runs in float32 on the processor.

    Parameters
    ----------
    config : mapping
        The model's ``config.json``. Tied and untied heads and grouped-query attention are
        understood; biases, other activations and scaled rotary frequencies are refused.
    weights : mapping of str to (m, n) or (n,) float32 array
        By the names they have in the checkpoint, e.g. ``model.layers.0.self_attn.q_proj.weight``.
        Looked up at every use: what is put into the mapping later counts.

    Raises
    ------
    CheckpointError
        If the configuration asks for what is not computed here.

    Notes
    -----
    There is no cache of keys and values: each call computes its whole text, in about two flops a
    parameter and token, and attention on top that grows with the square of T. Against
    ``transformers`` in float32 the logits differ by rounding, about 1e-5.
    """

    def __init__(self, config: Mapping[str, Any], weights: Mapping[str, Array]) -> None:
        rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
        for key, found, expected in (
            ("model_type", config.get("model_type", "llama"), "llama"),
            ("hidden_act", config.get("hidden_act", "silu"), "silu"),
            ("attention_bias", config.get("attention_bias", False), False),
            ("mlp_bias", config.get("mlp_bias", False), False),
            ("rope_type", rope.get("rope_type", rope.get("type", "default")), "default"),
        ):
            if found != expected:
                raise CheckpointError(
                    f"config.json: {key}",
                    f"expected {expected!r}, found {found!r}",
                    "Run this model with transformers",
                )
        self.weights = weights
        self.layers = int(config["num_hidden_layers"])
        self.heads = int(config["num_attention_heads"])
        self.kv_heads = int(config.get("num_key_value_heads") or self.heads)
        self.head_dim = int(config.get("head_dim") or config["hidden_size"] // self.heads)
        self.eps = float(config.get("rms_norm_eps", 1e-6))
        self.theta = float(rope.get("rope_theta") or config.get("rope_theta") or 10000.0)
        tied = config.get("tie_word_embeddings", False)
        self.head = "model.embed_tokens.weight" if tied else "lm_head.weight"

    @classmethod
    def from_folder(cls, folder: Path) -> Llama:
        """Read a model from a folder that holds ``config.json`` and safetensors."""
        checkpoint = Checkpoint.open(folder)
        weights = {name: checkpoint.read_float(name) for name in checkpoint.names()}
        return cls(checkpoint.config, weights)

    def logits(self, tokens: NDArray[np.integer]) -> Array:
        """Score every token of the vocabulary as the successor of each token of a text.

        Parameters
        ----------
        tokens : (..., T) integer array
            One text, or a batch of texts of one length.

        Returns
        -------
        (..., T, vocab) float32 array
            Before the softmax. Row t depends on tokens 0 to t only.
        """
        x: Array = self.weights["model.embed_tokens.weight"][tokens]  # (..., T, d)
        rope = self._rope(x.shape[-2])
        for layer in range(self.layers):
            at = f"model.layers.{layer}."
            x = x + self._attention(at, self._norm(at + "input_layernorm", x), rope)
            x = x + self._mlp(at, self._norm(at + "post_attention_layernorm", x))
        return self._norm("model.norm", x) @ self.weights[self.head].T  # (..., T, vocab)

    def loss(self, text: bytes, context: int = 256) -> float:
        """Mean cross-entropy of the next byte, in nats, for a model whose tokens are bytes.

        Parameters
        ----------
        text : bytes
            At least two bytes. Cut into windows that do not overlap: every byte but the first is
            predicted once, from the bytes of its window that come before it.
        context : int, default 256
            Bytes a window. The first bytes of a window are guessed from little, so that a longer
            context gives a lower loss.

        Returns
        -------
        float
            ln 256 = 5.545 for a model that knows nothing, 0 for one that is never in doubt.

        Raises
        ------
        UsageError
            If there is nothing to predict.
        """
        if len(text) < 2 or context < 1:
            raise UsageError(
                f"loss(text, context={context})",
                f"expected two bytes or more and a context of 1 or more, found {len(text)} bytes",
            )
        tokens = np.frombuffer(text, np.uint8)
        full = (len(tokens) - 1) // context
        whole = full * context
        inputs = tokens[:whole].reshape(full, context)
        targets = tokens[1 : whole + 1].reshape(full, context)
        total = 0.0
        for start in range(0, full, WINDOWS_AT_ONCE):
            rows = slice(start, start + WINDOWS_AT_ONCE)
            total += self._surprise(inputs[rows], targets[rows])
        if whole < len(tokens) - 1:
            total += self._surprise(tokens[whole:-1], tokens[whole + 1 :])
        return total / (len(tokens) - 1)

    def _surprise(self, inputs: NDArray[np.uint8], targets: NDArray[np.uint8]) -> float:
        """Add up -log p(target) over all positions."""
        z = self.logits(inputs)  # (..., T, vocab)
        z -= z.max(axis=-1, keepdims=True)  # exp of the largest is 1: nothing overflows
        chosen = np.take_along_axis(z, targets[..., None].astype(np.intp), axis=-1)  # (..., T, 1)
        return float(np.log(np.exp(z).sum(axis=-1)).sum(dtype=np.float64) - chosen.sum(dtype=float))

    def _norm(self, name: str, x: Array) -> Array:
        """Scale each vector to a mean square of one, then each coordinate by its gain."""
        size: Array = np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + self.eps)  # (..., T, 1)
        return x / size * self.weights[name + ".weight"]

    def _mlp(self, at: str, x: Array) -> Array:
        gate = self._linear(at + "mlp.gate_proj", x)  # (..., T, intermediate)
        # tanh does not overflow where exp(-gate) would: 1 / (1 + e^-z) = (1 + tanh(z / 2)) / 2.
        opened = gate * (0.5 + 0.5 * np.tanh(0.5 * gate))
        return self._linear(at + "mlp.down_proj", opened * self._linear(at + "mlp.up_proj", x))

    def _attention(self, at: str, x: Array, rope: tuple[Array, Array]) -> Array:
        at += "self_attn."
        T, groups = x.shape[-2], self.kv_heads
        q = _rotate(self._split(at + "q_proj", x, self.heads), rope)  # (..., heads, T, head_dim)
        k = _rotate(self._split(at + "k_proj", x, groups), rope)  # (..., kv_heads, T, head_dim)
        v = self._split(at + "v_proj", x, groups)  # (..., kv_heads, T, head_dim)

        # Each query head finds the key and the value of its group by broadcasting.
        grouped = (*x.shape[:-2], groups, self.heads // groups, T, self.head_dim)
        q = q.reshape(grouped) * self.head_dim**-0.5
        k, v = k[..., None, :, :], v[..., None, :, :]  # (..., kv_heads, 1, T, head_dim)
        scores: Array = q @ k.swapaxes(-1, -2)  # (..., kv_heads, heads / kv_heads, T, T)
        scores += np.triu(np.full((T, T), -np.inf, np.float32), k=1)  # no token sees a later one
        scores -= scores.max(axis=-1, keepdims=True)
        np.exp(scores, out=scores)
        scores /= scores.sum(axis=-1, keepdims=True)

        seen: Array = scores @ v  # (..., kv_heads, heads / kv_heads, T, head_dim)
        seen = seen.reshape(*x.shape[:-2], self.heads, T, self.head_dim).swapaxes(-3, -2)
        seen = seen.reshape(*x.shape[:-1], self.heads * self.head_dim)  # (..., T, heads * head_dim)
        return self._linear(at + "o_proj", seen)  # (..., T, d)

    def _linear(self, name: str, x: Array) -> Array:
        return x @ self.weights[name + ".weight"].T  # (..., T, out)

    def _split(self, name: str, x: Array, heads: int) -> Array:
        """Project, then cut the last axis into heads."""
        y = self._linear(name, x).reshape(*x.shape[:-1], heads, self.head_dim)
        return y.swapaxes(-3, -2)  # (..., heads, T, head_dim)

    def _rope(self, T: int) -> tuple[Array, Array]:
        """Cosines and sines of the angle by which position t turns each plane of a head."""
        frequencies = self.theta ** -(np.arange(0, self.head_dim, 2) / self.head_dim)
        angles = np.outer(np.arange(T), frequencies)  # (T, head_dim / 2)
        return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)


def _rotate(x: Array, rope: tuple[Array, Array]) -> Array:
    """Turn each plane (i, i + head_dim / 2), the pairing of published Llama checkpoints."""
    cos, sin = rope  # (T, head_dim / 2)
    a, b = np.split(x, 2, axis=-1)  # (..., heads, T, head_dim / 2)
    return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)
