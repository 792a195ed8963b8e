"""The forward pass of a Llama model in NumPy.

A token becomes a vector of `d` numbers, which is its row of the embedding. Each layer adds two terms to that
vector: information from earlier tokens (attention), and the output of a small network applied to the vector
itself (MLP). The head compares the result with every token of the vocabulary:

    x = embedding[tokens]
    for each layer:
        x = x + attention(norm(x))
        x = x + mlp(norm(x))
    logits = norm(x) @ head.T

The comments give shapes: `T` is the number of tokens, `d` the hidden size, and `heads` the number of query
heads, in `kv_heads` groups that share one key and one value each. `...` is empty or a batch of texts.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eckart.checkpoint.checkpoint import Checkpoint
from eckart.errors import CheckpointError, UsageError
from eckart.strictjson import JsonObject
from eckart.text import count

Array = NDArray[np.float32]

# With 256 tokens and five heads the attention scores of a window take 1.3 MB. Eight windows stay close to the
# cache, and larger batches were not faster.
WINDOWS_AT_ONCE = 8


class Llama:
    """A Llama language model that runs in float32 on the processor.

    Parameters
    ----------
    config : mapping
        The model's ``config.json``. Tied and untied heads and grouped-query attention are supported. Biases,
        other activations and scaled rotary frequencies are refused.
    weights : mapping of str to ndarray (m, n) or (n,) of float32
        Weights by their names in the checkpoint, e.g. ``model.layers.0.self_attn.q_proj.weight``. They are
        looked up at each use, so later changes to the mapping take effect.

    Raises
    ------
    CheckpointError
        If the configuration asks for a feature that is not supported.

    Notes
    -----
    Keys and values are not cached: each call computes the whole text, at about two flops per parameter and
    token plus the cost of attention, which grows with the square of T. The logits differ from those of
    ``transformers`` in float32 by rounding error, about 1e-5.
    """

    def __init__(self, config: JsonObject, weights: Mapping[str, Array]) -> None:
        rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
        for key, value, expected in (
            ("model_type", config.get("model_type", "llama"), "llama"),
            ("hidden_act", config.get("hidden_act", "silu"), "silu"),
            ("attention_bias", config.get("attention_bias", False), False),
            ("mlp_bias", config.get("mlp_bias", False), False),
            ("rope_type", rope.get("rope_type", rope.get("type", "default")), "default"),
        ):
            if value != expected:
                raise CheckpointError(
                    f"config.json: {key}",
                    f"expected {expected!r}, found {value!r}",
                    "Use transformers to run this model",
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
        """Read a model from a checkpoint folder.

        Parameters
        ----------
        folder : Path
            A folder that holds ``config.json`` and the weights in safetensors files.

        Returns
        -------
        Llama

        Raises
        ------
        CheckpointError
            If the checkpoint cannot be read, or asks for a feature that is not supported.
        """
        checkpoint = Checkpoint.open(folder)
        weights = {name: checkpoint.read_float(name) for name in checkpoint.names()}
        return cls(checkpoint.config, weights)

    def logits(self, tokens: NDArray[np.integer]) -> Array:
        """Return the logits of the next token after each token of a text.

        Parameters
        ----------
        tokens : ndarray (..., T) of int
            One text, or a batch of texts of equal length.

        Returns
        -------
        ndarray (..., T, vocab) of float32
            Scores before the softmax. Row t depends only on tokens 0 to t.
        """
        x: Array = self.weights["model.embed_tokens.weight"][tokens]  # (..., T, d)
        rope = self._rope(x.shape[-2])
        for layer in range(self.layers):
            prefix = f"model.layers.{layer}."
            x = x + self._attention(prefix, self._norm(prefix + "input_layernorm", x), rope)
            x = x + self._mlp(prefix, self._norm(prefix + "post_attention_layernorm", x))
        return self._norm("model.norm", x) @ self.weights[self.head].T  # (..., T, vocab)

    def loss(self, text: bytes, context: int = 256) -> float:
        """Return the mean cross-entropy of the next byte, in nats, for a model whose tokens are bytes.

        Parameters
        ----------
        text : bytes
            At least two bytes. The text is cut into windows that do not overlap. Every byte except the first
            is predicted once, from the earlier bytes of its window.
        context : int
            Number of bytes in a window. A longer context gives a lower loss, because the first bytes of a
            window are predicted from few bytes.

        Returns
        -------
        float
            The loss in nats per byte: ln 256 = 5.545 for a uniform guess, 0 for certain and correct
            predictions.

        Raises
        ------
        UsageError
            If there is no byte to predict, or the context is less than 1.
        """
        if len(text) < 2 or context < 1:
            raise UsageError(
                f"loss(text, context={context})",
                f"expected at least two bytes and a context of at least 1, found {count(len(text), 'byte')}",
            )
        tokens = np.frombuffer(text, np.uint8)
        full = (len(tokens) - 1) // context
        whole = full * context
        inputs = tokens[:whole].reshape(full, context)
        targets = tokens[1 : whole + 1].reshape(full, context)
        total = 0.0
        for start in range(0, full, WINDOWS_AT_ONCE):
            rows = slice(start, start + WINDOWS_AT_ONCE)
            total += self._total_loss(inputs[rows], targets[rows])
        if whole < len(tokens) - 1:
            total += self._total_loss(tokens[whole:-1], tokens[whole + 1 :])
        return total / (len(tokens) - 1)

    def _total_loss(self, inputs: NDArray[np.uint8], targets: NDArray[np.uint8]) -> float:
        """Return the sum of -log p(target) over all positions."""
        z = self.logits(inputs)  # (..., T, vocab)
        z -= z.max(axis=-1, keepdims=True)  # the largest exponential is 1, so nothing overflows
        chosen = np.take_along_axis(z, targets[..., None].astype(np.intp), axis=-1)  # (..., T, 1)
        return float(np.log(np.exp(z).sum(axis=-1)).sum(dtype=np.float64) - chosen.sum(dtype=float))

    def _norm(self, name: str, x: Array) -> Array:
        """Scale each vector to a mean square of one, and multiply each coordinate by its gain."""
        size: Array = np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + self.eps)  # (..., T, 1)
        return x / size * self.weights[name + ".weight"]

    def _mlp(self, prefix: str, x: Array) -> Array:
        gate = self._linear(prefix + "mlp.gate_proj", x)  # (..., T, intermediate)
        # exp(-gate) could overflow, tanh cannot: 1 / (1 + e^-z) = (1 + tanh(z / 2)) / 2.
        activated = gate * (0.5 + 0.5 * np.tanh(0.5 * gate))
        return self._linear(prefix + "mlp.down_proj", activated * self._linear(prefix + "mlp.up_proj", x))

    def _attention(self, prefix: str, x: Array, rope: tuple[Array, Array]) -> Array:
        prefix += "self_attn."
        T, groups = x.shape[-2], self.kv_heads
        q = _rotate(self._split(prefix + "q_proj", x, self.heads), rope)  # (..., heads, T, head_dim)
        k = _rotate(self._split(prefix + "k_proj", x, groups), rope)  # (..., kv_heads, T, head_dim)
        v = self._split(prefix + "v_proj", x, groups)  # (..., kv_heads, T, head_dim)

        # Broadcasting gives each query head the key and the value of its group.
        grouped = (*x.shape[:-2], groups, self.heads // groups, T, self.head_dim)
        q = q.reshape(grouped) * self.head_dim**-0.5
        k, v = k[..., None, :, :], v[..., None, :, :]  # (..., kv_heads, 1, T, head_dim)
        scores: Array = q @ k.swapaxes(-1, -2)  # (..., kv_heads, heads / kv_heads, T, T)
        scores += np.triu(np.full((T, T), -np.inf, np.float32), k=1)  # masks later tokens
        scores -= scores.max(axis=-1, keepdims=True)
        np.exp(scores, out=scores)
        scores /= scores.sum(axis=-1, keepdims=True)

        gathered: Array = scores @ v  # (..., kv_heads, heads / kv_heads, T, head_dim)
        gathered = gathered.reshape(*x.shape[:-2], self.heads, T, self.head_dim).swapaxes(-3, -2)
        gathered = gathered.reshape(*x.shape[:-1], self.heads * self.head_dim)  # (..., T, heads * head_dim)
        return self._linear(prefix + "o_proj", gathered)  # (..., T, d)

    def _linear(self, name: str, x: Array) -> Array:
        return x @ self.weights[name + ".weight"].T  # (..., T, out)

    def _split(self, name: str, x: Array, heads: int) -> Array:
        """Project, then split the last axis into heads."""
        y = self._linear(name, x).reshape(*x.shape[:-1], heads, self.head_dim)
        return y.swapaxes(-3, -2)  # (..., heads, T, head_dim)

    def _rope(self, T: int) -> tuple[Array, Array]:
        """Return the cosine and sine of the angle by which position t rotates each plane of a head."""
        frequencies = self.theta ** -(np.arange(0, self.head_dim, 2) / self.head_dim)
        angles = np.outer(np.arange(T), frequencies)  # (T, head_dim / 2)
        return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)


def _rotate(x: Array, rope: tuple[Array, Array]) -> Array:
    """Rotate each plane (i, i + head_dim / 2), which is the pairing of published Llama checkpoints."""
    cos, sin = rope  # (T, head_dim / 2)
    a, b = np.split(x, 2, axis=-1)  # (..., heads, T, head_dim / 2)
    return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)
