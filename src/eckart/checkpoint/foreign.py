"""Files that are not safetensors: recognised, named and refused, with the way to convert them."""

from __future__ import annotations

from pathlib import Path

from eckart.errors import CheckpointError

PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt")

_PICKLE_MAGIC = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


def convert_command(path: Path) -> str:
    """Give the one line of Python that turns a pickle into safetensors without running its code."""
    return (
        'python -c "import torch, safetensors.torch as s; s.save_file({k: v.contiguous() for k, v '
        f"in torch.load('{path.name}', weights_only=True).items()}}, 'model.safetensors')\""
    )


def is_pickle_name(path: Path) -> bool:
    """Tell whether a file name ends like a pickled checkpoint."""
    return path.suffix.lower() in PICKLE_SUFFIXES


def refuse_foreign(path: Path, head: bytes) -> None:
    """Raise if a file is a pickle, a GGUF file or a Git LFS pointer.

    Parameters
    ----------
    path : Path
        The file.
    head : bytes
        Its first nine bytes or more.

    Raises
    ------
    CheckpointError
        With the command that makes a safetensors file of it.

    Notes
    -----
    The magic of a pickle can also be the length of a safetensors header: 640 is written
    ``80 02 00 ...``. So a file whose ninth byte opens a JSON object is never called foreign.
    """
    if head[8:9] == b"{":
        return
    if head.startswith(b"GGUF"):
        raise CheckpointError(
            str(path),
            "expected a safetensors file, found GGUF, which llama.cpp reads",
            "Give the safetensors checkpoint that the GGUF file was converted from",
        )
    if head.startswith(b"version "):
        raise CheckpointError(
            str(path),
            "expected a safetensors file, found a Git LFS pointer: the data was never fetched",
            "In that folder, type: git lfs pull",
        )
    if head.startswith(_PICKLE_MAGIC) or is_pickle_name(path):
        raise CheckpointError(
            str(path),
            "expected a safetensors file, found a pickle, and loading a pickle can run its code",
            f"Convert it: {convert_command(path)}",
        )
