"""Recognise and refuse files that are not safetensors, and explain how to convert them."""

from __future__ import annotations

from pathlib import Path

from eckart.errors import CheckpointError

PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt")

_PICKLE_MAGIC = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


def convert_command(path: Path) -> str:
    """Return a shell command that converts a pickle to safetensors without running the pickle's code.

    Parameters
    ----------
    path : Path
        The pickle.

    Returns
    -------
    str
        A command to run in the folder of the pickle. It needs torch and safetensors.
    """
    return (
        'python -c "import torch, safetensors.torch as s; s.save_file({k: v.contiguous() for k, v '
        f"in torch.load('{path.name}', weights_only=True).items()}}, 'model.safetensors')\""
    )


def is_pickle_name(path: Path) -> bool:
    """Return whether a file name has the suffix of a pickled checkpoint.

    Parameters
    ----------
    path : Path
        A file that need not exist.

    Returns
    -------
    bool
        True for ``.bin``, ``.pt``, ``.pth`` and ``.ckpt``, in upper or lower case.
    """
    return path.suffix.lower() in PICKLE_SUFFIXES


def refuse_foreign(path: Path, head: bytes) -> None:
    """Raise if a file is a pickle, a GGUF file or a Git LFS pointer.

    Parameters
    ----------
    path : Path
        The file.
    head : bytes
        At least the first nine bytes of the file.

    Raises
    ------
    CheckpointError
        If the file has one of these formats. The message tells how to get a safetensors file.

    Notes
    -----
    The magic number of a pickle can also be the length of a safetensors header: 640 is stored as
    ``80 02 00 ...``. Therefore a file whose ninth byte opens a JSON object is always accepted.
    """
    if head[8:9] == b"{":
        return
    if head.startswith(b"GGUF"):
        raise CheckpointError(
            str(path),
            "expected a safetensors file, found a GGUF file",
            "Use the safetensors checkpoint that the GGUF file was converted from",
        )
    if head.startswith(b"version "):
        raise CheckpointError(
            str(path),
            "expected a safetensors file, found a Git LFS pointer whose data was not downloaded",
            "Run in that folder: git lfs pull",
        )
    if head.startswith(_PICKLE_MAGIC) or is_pickle_name(path):
        raise CheckpointError(
            str(path),
            "expected a safetensors file, found a pickle, which can run code when it is loaded",
            f"Convert it: {convert_command(path)}",
        )
