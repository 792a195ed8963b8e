"""Modules built from the tensors of a file: the checks that all formats share."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np

from eckart.adapter.adapter import Module
from eckart.adapter.formats.file import AdapterFile
from eckart.arrays import Array
from eckart.checkpoint.kinds import Kind
from eckart.checks import is_number
from eckart.errors import AdapterError

DOWNLOAD_AGAIN = "The file is damaged or incomplete. Download it again, or export the adapter again"

MAX_ALPHA = 1e30  # beyond it, the factors times the scale can overflow float32

# The start of every key in a PEFT file. Other formats' patterns must not match such a key.
PEFT_PREFIX = "base_model.model."
NOT_PEFT = rf"(?!{PEFT_PREFIX.replace('.', '[.]')})"

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
    """Raise if a key belongs to an adapter that is not a plain low-rank product.

    Parameters
    ----------
    path : path
        The file, for the message.
    keys : iterable of str
        Its keys.

    Raises
    ------
    AdapterError
        Names the key and the kind of adapter.
    """
    for key in keys:
        for part, kind in OTHER_KINDS.items():
            if any(piece.startswith(part) for piece in key.split(".")):
                raise AdapterError(
                    f"{path}: {key}",
                    f"belongs to {kind}, which is not a plain low-rank product and is not supported",
                    "Use a LoRA adapter; or merge this one into its base with the tool that trained it, "
                    "then run eckart extract on the result",
                )


def build_module(
    file: AdapterFile,
    name: str,
    keys: Mapping[str, str],
    alpha: float | None,
    rslora: bool = False,
    kind: Kind = Kind.LINEAR,
) -> Module:
    """Build a module from its tensors.

    Parameters
    ----------
    file : AdapterFile
        The file that holds them.
    name : str
        The module's name.
    keys : mapping of str to str
        The keys of ``A`` (r, d_in, *window), ``B`` (d_out, r, *ones), and perhaps of ``mid``
        (r, r, *window), LyCORIS' third factor of a convolution, and ``bias`` (d_out,).
    alpha : float, optional
        None for a scale of 1.
    rslora : bool
        Whether alpha is divided by the square root of the rank.
    kind : Kind
        ``LINEAR`` or ``EMBEDDING``; tensors with more than two axes make it ``CONV``.

    Returns
    -------
    Module
        Its factors are views of the mapped file.

    Raises
    ------
    AdapterError
        If a factor is missing, shapes do not chain, or an entry is NaN or infinite.
    """
    where = f"{file.path}: {name}"
    missing = [part for part in ("A", "B") if part not in keys]
    if missing:
        raise AdapterError(
            where,
            f"expected factors A and B, found {', '.join(keys.values())} without {missing[0]}",
            DOWNLOAD_AGAIN,
        )
    A, B = file.array(keys["A"]), file.array(keys["B"])
    if "mid" in keys:
        A = _with_mid(A, file.array(keys["mid"]), where)
    if A.ndim < 2 or A.ndim != B.ndim or math.prod(B.shape[2:]) != 1:
        raise _do_not_chain(where, A, B)
    if A.shape[0] != B.shape[1]:
        if A.ndim > 2 and B.shape[1] and A.shape[0] % B.shape[1] == 0:
            groups = A.shape[0] // B.shape[1]
            raise AdapterError(
                where,
                f"is a convolution of {groups} groups, which is not supported",
                "Merge the adapter into its base with PEFT",
            )
        raise _do_not_chain(where, A, B)
    if 0 in A.shape + B.shape:
        raise AdapterError(
            where,
            f"has factors without entries, B {B.shape} and A {A.shape}",
            "Remove this module from the file",
        )
    bias = file.array(keys["bias"]) if "bias" in keys else None
    if A.ndim > 2:
        kind = Kind.CONV
    left: Array = B.reshape(B.shape[:2])  # (d_out, r)
    right: Array = A.reshape(len(A), -1)  # (r, d_in * prod(window))
    if kind == Kind.EMBEDDING:
        left, right = right.T, left.T
    scale = 1.0 if alpha is None else scale_of(alpha, len(A), rslora, where)
    return Module(name, kind, left, right, scale, bias, tuple(A.shape[2:]), alpha)


def check_alpha(alpha: object, where: str) -> float:
    """Return an alpha that a file states, unchanged, or refuse it.

    Parameters
    ----------
    alpha : object
        The entry, as it was parsed.
    where : str
        File and module, for the message.

    Raises
    ------
    AdapterError
        If it is not a finite number other than 0, or is larger than `MAX_ALPHA`.
    """
    fix = "Correct the alpha in the file that states it"
    if not isinstance(alpha, (int, float)) or not is_number(alpha) or alpha == 0:
        raise AdapterError(where, f"alpha is {alpha!r}, expected a number other than 0", fix)
    if abs(alpha) > MAX_ALPHA:
        raise AdapterError(where, f"alpha is {alpha:.3g}, expected at most {MAX_ALPHA:g}", fix)
    return alpha


def scale_of(alpha: object, rank: int, rslora: bool, where: str) -> float:
    """Return alpha / r, or alpha / sqrt(r) for rsLoRA (Kalajdzievski, 2023, arXiv:2312.03732).

    Parameters
    ----------
    alpha : object
        The entry, as it was parsed; see `check_alpha`.
    rank : int
        The rank r.
    rslora : bool
        Whether to divide by sqrt(r).
    where : str
        File and module, for the message.
    """
    number = check_alpha(alpha, where)
    return float(number / math.sqrt(rank) if rslora else number / rank)


def alpha_tensor(alpha: float) -> Array:
    """Return an alpha as a tensor: float32 if that is exact, else float64."""
    narrow = np.float32(alpha)
    return np.asarray(narrow if float(narrow) == alpha else np.float64(alpha))


def conv_shaped(module: Module) -> tuple[Array, Array]:
    """Return B and A with the axes that files give them: a convolution's window is on A.

    Parameters
    ----------
    module : Module
        A convolution, or any other kind, whose factors are returned as they are.

    Returns
    -------
    B : ndarray (d_out, r, *ones)
    A : ndarray (r, d_in, *window)
    """
    B, A = module.BA
    if not module.window:
        return B, A
    ones = (1,) * len(module.window)
    inner = A.shape[1] // math.prod(module.window)
    return B.reshape(*B.shape, *ones), A.reshape(len(A), inner, *module.window)


def _do_not_chain(where: str, A: Array, B: Array) -> AdapterError:
    return AdapterError(where, f"shapes of B {B.shape} and A {A.shape} do not chain", DOWNLOAD_AGAIN)


def _with_mid(A: Array, mid: Array, where: str) -> Array:
    """Fold the middle factor of a convolution into A: (r, q, *window) times (q, d_in)."""
    if mid.ndim < 3 or mid.shape[1] != A.shape[0] or math.prod(A.shape[2:]) != 1:
        raise AdapterError(where, f"shapes of the middle factor {mid.shape} and A {A.shape} do not chain")
    flat = A.reshape(A.shape[:2]).astype(np.float64)
    folded: Array = np.moveaxis(np.tensordot(mid.astype(np.float64), flat, axes=(1, 0)), -1, 1)
    return folded.astype(np.float32 if A.dtype.itemsize <= 4 else np.float64)  # (r, d_in, *window)
