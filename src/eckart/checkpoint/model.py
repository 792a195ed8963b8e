"""Open the checkpoint of a whole model. An adapter in its place shows a wrong order of the arguments."""

from __future__ import annotations

import re
from pathlib import Path

from eckart.checkpoint.checkpoint import Checkpoint
from eckart.errors import CheckpointError
from eckart.text import preview

# Parts of the names that LoRA factors have in the files of PEFT, kohya's scripts, diffusers and others.
_FACTOR = re.compile(r"(?:^|[._])lora(?:_embedding)?_(?:A|B|down|up|mid)(?:\.|$)|\.lora\.(?:down|up)\.")


def open_model(path: str | Path) -> Checkpoint:
    """Open the checkpoint of a whole model; see `Checkpoint.open`.

    Parameters
    ----------
    path : str or Path
        As for `Checkpoint.open`.

    Returns
    -------
    Checkpoint

    Raises
    ------
    CheckpointError
        As for `Checkpoint.open`, and if it is an adapter.
    """
    checkpoint = Checkpoint.open(path)
    factors = [name for name in checkpoint.tensors if _FACTOR.search(name)]
    if 2 * len(factors) > len(checkpoint):  # most tensors, because an adapter may also hold whole ones
        raise CheckpointError(
            str(path),
            f"expected a whole model, found an adapter (tensors such as {preview(factors, 1)})",
            "Check the order of the arguments: models come first, and adapters after them. "
            "To make a model of an adapter, use eckart merge BASE ADAPTER -o MODEL",
        )
    return checkpoint
