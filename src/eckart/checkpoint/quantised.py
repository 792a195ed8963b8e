"""Recognise quantised checkpoints by their layout and refuse them.

The difference between two sets of packed integers is not the update of the weights that they encode.
"""

from __future__ import annotations

from collections.abc import Mapping

from eckart.checkpoint.dtypes import DTYPES, UNREAD_BITS, dtype_name, is_float
from eckart.checkpoint.tensorinfo import TensorInfo
from eckart.errors import PairError
from eckart.text import clip

PACKED = (".qweight", ".weight_packed")
"""Suffixes of integer tensors that hold packed weights, used by GPTQ, AWQ and compressed-tensors."""

COMPANIONS = {
    "_scale_inv": "",  # DeepSeek fp8: X.weight and X.weight_scale_inv
    "_scale": "",  # compressed-tensors: X.weight and X.weight_scale
    ".absmax": "",  # bitsandbytes, 4 bits: X.weight and X.weight.absmax
    ".SCB": ".weight",  # bitsandbytes, 8 bits: X.weight and X.SCB
    ".scales": ".weight",  # MLX: X.weight and X.scales
    "_scales": "_blocks",  # gpt-oss MXFP4: X_blocks and X_scales
}
"""Suffixes of scale tensors, and the suffix that replaces each to give the name of the scaled tensor."""


def refuse_quantised(tensors: Mapping[str, TensorInfo]) -> None:
    """Raise if a checkpoint contains quantised tensors.

    Parameters
    ----------
    tensors : mapping of str to TensorInfo
        The tensors of one checkpoint.

    Raises
    ------
    PairError
        If a tensor is quantised; the message names the first one. A float8 tensor without a scale is
        accepted.

    Notes
    -----
    Detection relies on the names and dtypes that known quantisation libraries use. Other layouts are not
    detected.
    """
    for name, info in tensors.items():
        if name.endswith(PACKED) and not _is_wide(info):
            raise _refusal(info, f"{dtype_name(info.dtype)} packed weights")
        # These are the FNUZ formats, the FP4 and FP6 families, and scales stored as exponents.
        if info.dtype in UNREAD_BITS and info.dtype.startswith("F"):
            raise _refusal(info, f"{dtype_name(info.dtype)}, which only quantised checkpoints use")
        for suffix, replacement in COMPANIONS.items():
            scaled = name.removesuffix(suffix) + replacement
            if name.endswith(suffix) and scaled in tensors and not _is_wide(tensors[scaled]):
                dtype = dtype_name(tensors[scaled].dtype)
                raise _refusal(tensors[scaled], f"{dtype} weights scaled by {clip(name)}")


def _is_wide(info: TensorInfo) -> bool:
    """Return whether a tensor holds floating-point numbers of 16 bits or more."""
    dtype = DTYPES.get(info.dtype)
    return dtype is not None and is_float(dtype) and dtype.itemsize > 1


def _refusal(info: TensorInfo, content: str) -> PairError:
    return PairError(
        f"{info.file}: {clip(info.name)}",
        f"expected floating-point weights, found {content}; quantised checkpoints are not supported",
        "Dequantise the checkpoint first, or use the one it was quantised from",
    )
