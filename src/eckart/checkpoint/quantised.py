"""Quantised checkpoints: recognised by their layout, and refused.

The difference of packed integers is not the update of the weights that they stand for.
"""

from __future__ import annotations

from collections.abc import Mapping

from eckart.checkpoint.dtypes import DTYPES, UNREAD_BITS, is_float
from eckart.checkpoint.tensorinfo import TensorInfo
from eckart.errors import PairError
from eckart.text import clip

PACKED = (".qweight", ".weight_packed")
"""Endings of integer tensors that hold packed weights: GPTQ and AWQ, compressed-tensors."""

COMPANIONS = {
    "_scale_inv": "",  # fp8 of DeepSeek: X.weight, X.weight_scale_inv
    "_scale": "",  # compressed-tensors: X.weight, X.weight_scale
    ".absmax": "",  # bitsandbytes, 4 bits: X.weight, X.weight.absmax
    ".SCB": ".weight",  # bitsandbytes, 8 bits: X.weight, X.SCB
    ".scales": ".weight",  # MLX: X.weight, X.scales
    "_scales": "_blocks",  # MXFP4 of gpt-oss: X_blocks, X_scales
}
"""Endings of scales, and what replaces each to give the name of the tensor that is scaled."""


def refuse_quantised(tensors: Mapping[str, TensorInfo]) -> None:
    """Raise if a tensor is quantised.

    Parameters
    ----------
    tensors : mapping of str to TensorInfo
        The tensors of one checkpoint.

    Raises
    ------
    PairError
        Naming the first such tensor. A float8 tensor without a scale is a plain number and passes.

    Notes
    -----
    Goes by names and dtypes, so that a layout which nobody has published yet is not seen.
    """
    for name, info in tensors.items():
        if name.endswith(PACKED) and not _is_wide(info):
            raise _refusal(info, f"{info.dtype} of packed weights")
        # the FNUZ formats, the FP4 and FP6 families, and scales kept as bare exponents
        if info.dtype in UNREAD_BITS and info.dtype.startswith("F"):
            raise _refusal(info, f"{info.dtype}, which only quantised checkpoints use")
        for ending, instead in COMPANIONS.items():
            scaled = name.removesuffix(ending) + instead
            if name.endswith(ending) and scaled in tensors and not _is_wide(tensors[scaled]):
                raise _refusal(tensors[scaled], f"{tensors[scaled].dtype} scaled by {clip(name)}")


def _is_wide(info: TensorInfo) -> bool:
    dtype = DTYPES.get(info.dtype)
    return dtype is not None and is_float(dtype) and dtype.itemsize > 1


def _refusal(info: TensorInfo, found: str) -> PairError:
    return PairError(
        f"{info.file}: {clip(info.name)}",
        f"expected plain weights, found {found}: the update of a quantised checkpoint is refused",
        "Dequantise it first, or give the checkpoint it was quantised from",
    )
