"""From the tensors of a file to modules: the checks that all formats share."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np

from eckart.adapter.adapter import Array, Module
from eckart.adapter.formats.file import AdapterFile
from eckart.errors import AdapterError

AGAIN = "The file is damaged or incomplete; download or make it again"

# Parts of keys that only other kinds of adapter have.
OTHER_KINDS = {
    "lora_magnitude_vector": "DoRA",
    "dora_scale": "DoRA",
    "hada_": "LoHa",
    "lokr_": "LoKr",
    "oft_": "OFT",
    "ia3_l": "(IA)^3",
    "vera_lambda": "VeRA",
    "hra_u": "HRA",
}


def refuse_other_kinds(path: object, keys: Iterable[str]) -> None:
    """Raise if a key belongs to an adapter that is not a plain low-rank product."""
    for key in keys:
        for part, kind in OTHER_KINDS.items():
            if any(piece.startswith(part) for piece in key.split(".")):
                raise AdapterError(
                    f"{path}: {key}",
                    f"belongs to {kind}, which is not a plain low-rank product and is not handled",
                    "Give a LoRA adapter, or merge this one with the tool that made it and extract again",
                )


def build_module(
    file: AdapterFile,
    name: str,
    keys: Mapping[str, str],
    alpha: float | None,
    rslora: bool = False,
    kind: str = "linear",
) -> Module:
    """Make a module of its tensors.

    Parameters
    ----------
    file : AdapterFile
    name : str
    keys : mapping of str to str
        The keys of ``A`` (r, d_in, *window), ``B`` (d_out, r, *ones), and perhaps of ``mid``
        (r, r, *window), LyCORIS' third factor of a convolution, and ``bias`` (d_out,).
    alpha : float, optional
        None for a scale of 1.
    rslora : bool
        Whether alpha is divided by the root of the rank.
    kind : str
        ``linear`` or ``embedding``; more axes make it ``conv``.

    Raises
    ------
    AdapterError
        If a half is missing, shapes do not chain, or an entry is NaN or infinite.
    """
    where = f"{file.path}: {name}"
    missing = [part for part in ("A", "B") if part not in keys]
    if missing:
        raise AdapterError(where, f"has {', '.join(keys.values())} and lacks its {missing[0]}", AGAIN)
    A, B = file.array(keys["A"]), file.array(keys["B"])
    if "mid" in keys:
        A = _with_mid(A, file.array(keys["mid"]), where)
    if A.ndim < 2 or A.ndim != B.ndim or math.prod(B.shape[2:]) != 1:
        raise AdapterError(where, f"shapes of B {B.shape} and A {A.shape} do not chain", AGAIN)
    if A.shape[0] != B.shape[1]:
        if A.ndim > 2 and B.shape[1] and A.shape[0] % B.shape[1] == 0:
            groups = A.shape[0] // B.shape[1]
            raise AdapterError(
                where, f"is a convolution of {groups} groups, which is not handled", "Merge it with PEFT"
            )
        raise AdapterError(where, f"shapes of B {B.shape} and A {A.shape} do not chain", AGAIN)
    if 0 in A.shape + B.shape:
        raise AdapterError(where, f"has factors without entries, B {B.shape} and A {A.shape}", "Leave it out")
    bias = file.array(keys["bias"]) if "bias" in keys else None
    if A.ndim > 2:
        kind = "conv"
    left: Array = B.reshape(B.shape[:2])
    right: Array = A.reshape(len(A), -1)
    if kind == "embedding":
        left, right = right.T, left.T
    scale = 1.0 if alpha is None else scale_of(alpha, len(A), rslora, where)
    return Module(name, kind, left, right, scale, bias, tuple(A.shape[2:]), alpha)


def scale_of(alpha: object, rank: int, rslora: bool, where: str) -> float:
    """Return alpha / r, or alpha / sqrt(r) for rsLoRA (Kalajdzievski, 2023, arXiv:2312.03732)."""
    number = isinstance(alpha, (int, float)) and not isinstance(alpha, bool)
    if not number or not math.isfinite(alpha) or alpha == 0:  # type: ignore[arg-type]
        raise AdapterError(
            where,
            f"alpha is {alpha!r}, expected a number other than 0",
            "Correct the alpha where it is stored",
        )
    return float(alpha / math.sqrt(rank) if rslora else alpha / rank)  # type: ignore[operator]


def alpha_tensor(alpha: float) -> Array:
    """Return an alpha as a tensor: float32 where that holds it, else float64."""
    narrow = np.float32(alpha)
    return np.asarray(narrow if float(narrow) == alpha else np.float64(alpha))


def conv_shaped(module: Module) -> tuple[Array, Array]:
    """Return B and A with the axes that a file gives them: a convolution's window on A."""
    B, A = module.BA
    if not module.window:
        return B, A
    ones = (1,) * len(module.window)
    inner = A.shape[1] // math.prod(module.window)
    return B.reshape(*B.shape, *ones), A.reshape(len(A), inner, *module.window)


def _with_mid(A: Array, mid: Array, where: str) -> Array:
    """Fold the middle factor of a convolution into A: (r, q, *window) times (q, d_in)."""
    if mid.ndim < 3 or mid.shape[1] != A.shape[0] or math.prod(A.shape[2:]) != 1:
        raise AdapterError(where, f"shapes of the middle factor {mid.shape} and A {A.shape} do not chain")
    flat = A.reshape(A.shape[:2]).astype(np.float64)
    folded: Array = np.moveaxis(np.tensordot(mid.astype(np.float64), flat, axes=(1, 0)), -1, 1)
    return folded.astype(np.float32 if A.dtype.itemsize <= 4 else np.float64)  # (r, d_in, *window)
