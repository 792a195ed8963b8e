"""A fitted recommender as one safetensors file: numbers as tensors, ids and facts as JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eckart.applications.completion.choose import METHODS
from eckart.applications.completion.model import Completion
from eckart.checkpoint import Checkpoint, write_safetensors
from eckart.errors import RatingsError

FORMAT = 1
AGAIN = "Make it again with: eckart recommend RATINGS --out"
NUMBERS = ("row_bias", "column_bias", "P", "Q")


@dataclass(frozen=True, eq=False)
class Saved:
    """What a file holds.

    Parameters
    ----------
    model : Completion
    user_ids, item_ids : tuple of str
    starts, rated : ndarray of int64
        See `Recommender`.
    facts : dict
        ``setting``, ``measured``, ``low``, ``high`` and ``notes``.
    """

    model: Completion
    user_ids: tuple[str, ...]
    item_ids: tuple[str, ...]
    starts: NDArray[np.int64]
    rated: NDArray[np.int64]
    facts: dict[str, Any]


def write_saved(path: str | Path, saved: Saved) -> None:
    """Write the file, or nothing."""
    model = saved.model
    tensors: dict[str, NDArray[Any]] = {name: getattr(model, name) for name in NUMBERS}
    tensors |= {"starts": saved.starts, "rated": saved.rated}
    # Ids may be millions: as text in a tensor they do not swell the header, which readers limit.
    for name in ("user_ids", "item_ids"):
        tensors[name] = np.frombuffer(json.dumps(getattr(saved, name)).encode(), np.uint8)
    facts = {"format": FORMAT, "mean": model.mean, **saved.facts}
    write_safetensors(path, tensors, {"eckart.recommender": json.dumps(facts, allow_nan=False)})


def read_saved(path: str | Path) -> Saved:
    """Read the file.

    Raises
    ------
    CheckpointError
        If it is not a safetensors file.
    RatingsError
        If it holds something else, or contradicts itself.
    """
    checkpoint = Checkpoint.open(path)
    text = checkpoint.metadata.get("eckart.recommender")
    if text is None:
        raise RatingsError(str(path), "it holds no recommender", AGAIN)
    try:
        facts = json.loads(text)
        if facts["format"] != FORMAT:
            found = f"its format is {facts['format']}, this program reads {FORMAT}"
            raise RatingsError(str(path), found, "Use the version of eckart that wrote it")
        numbers = {name: checkpoint.map(name) for name in (*NUMBERS, "starts", "rated")}
        user_ids, item_ids = (
            tuple(json.loads(checkpoint.map(name).tobytes())) for name in ("user_ids", "item_ids")
        )
        model = Completion(float(facts["mean"]), *(numbers[name] for name in NUMBERS))
        saved = Saved(model, user_ids, item_ids, numbers["starts"], numbers["rated"], facts)
        _check(saved)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        found = f"it is damaged ({type(error).__name__}: {str(error)[:80]})"
        raise RatingsError(str(path), found, AGAIN) from error
    return saved


def _check(saved: Saved) -> None:
    """Raise ValueError if shapes, places or numbers contradict each other."""
    m, n = len(saved.user_ids), len(saved.item_ids)
    model, starts, rated, facts = saved.model, saved.starts, saved.rated, saved.facts
    if not all(isinstance(name, str) for name in (*saved.user_ids, *saved.item_ids)):
        raise ValueError("an id that is not text")
    r = model.P.shape[-1]
    shapes = [model.row_bias.shape, model.column_bias.shape, model.P.shape, model.Q.shape, starts.shape]
    if shapes != [(m,), (n,), (m, r), (n, r), (m + 1,)]:
        raise ValueError(f"shapes {shapes} for {m} users and {n} items")
    if starts[0] != 0 or (np.diff(starts) < 0).any() or rated.shape != (starts[-1],):
        raise ValueError("the table of rated items")
    if len(rated) and not 0 <= rated.min() <= rated.max() < n:
        raise ValueError("a rated item that does not exist")
    if not all(np.isfinite(getattr(model, name)).all() for name in NUMBERS) or not np.isfinite(model.mean):
        raise ValueError("a number that is NaN or infinite")
    if facts["setting"]["method"] not in METHODS or not float(facts["low"]) <= float(facts["high"]):
        raise ValueError("its facts")
    if not isinstance(facts["notes"], list):
        raise ValueError("its notes")
