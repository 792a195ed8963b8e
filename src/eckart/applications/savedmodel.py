"""A fitted recommender as one safetensors file, with the ids and all other facts in JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eckart.applications.completion.choose import METHODS, Setting
from eckart.applications.completion.model import Completion
from eckart.applications.evaluation import Measured
from eckart.arrays import Array, Ints
from eckart.checkpoint import Checkpoint, read_header, write_safetensors
from eckart.checkpoint.output import OutputFile
from eckart.checkpoint.target import FileKind
from eckart.errors import RatingsError

FORMAT = 1
METADATA = "eckart.recommender"  # the entry of the file's metadata that holds everything but the arrays
FIT_AGAIN = "Fit it again with: eckart recommend RATINGS -o MODEL"
MODEL_TENSORS = ("row_bias", "column_bias", "P", "Q")


@dataclass(frozen=True, eq=False)
class Saved:
    """The contents of a file, which are the fields of `Recommender`.

    Parameters
    ----------
    model, setting, measured, user_ids, item_ids, starts, rated, low, high, notes
        See `Recommender`.
    """

    model: Completion
    setting: Setting
    measured: Measured | None
    user_ids: tuple[str, ...]
    item_ids: tuple[str, ...]
    starts: Ints
    rated: Ints
    low: float
    high: float
    notes: tuple[str, ...]


def is_saved(path: Path) -> bool:
    """Whether a file holds a recommender, judged by its header."""
    return METADATA in read_header(path).metadata


RECOMMENDER = FileKind("a saved recommender", is_saved)


def write_saved(path: str | Path, saved: Saved, overwrite: bool = False) -> None:
    """Write a recommender to a file, completely or not at all.

    Parameters
    ----------
    path : str or Path
        The file.
    saved : Saved
        The contents.
    overwrite : bool
        Whether to replace an existing recommender.

    Raises
    ------
    OutputError
        If the file exists, or cannot be written.
    """
    model = saved.model
    tensors: dict[str, Array] = {name: getattr(model, name) for name in MODEL_TENSORS}
    tensors |= {"starts": saved.starts, "rated": saved.rated}
    # There may be millions of ids. As text in a tensor they do not enlarge the header, whose size is limited.
    tensors["user_ids"] = _text_tensor(saved.user_ids)
    tensors["item_ids"] = _text_tensor(saved.item_ids)
    facts = {
        "format": FORMAT,
        "mean": model.mean,
        "setting": saved.setting.to_json(),
        "measured": None if saved.measured is None else asdict(saved.measured),
        "low": saved.low,
        "high": saved.high,
        "notes": list(saved.notes),
    }
    with OutputFile(path, RECOMMENDER, overwrite) as staged:
        write_safetensors(staged, tensors, {METADATA: json.dumps(facts, allow_nan=False)})


def read_saved(path: str | Path) -> Saved:
    """Read a recommender from a file.

    Parameters
    ----------
    path : str or Path
        The file.

    Returns
    -------
    Saved
        The checked contents.

    Raises
    ------
    CheckpointError
        If the file is not a safetensors file, or lacks a tensor.
    RatingsError
        If the file holds something else, or contradicts itself.
    """
    checkpoint = Checkpoint.open(path)
    text = checkpoint.metadata.get(METADATA)
    if text is None:
        raise RatingsError(str(path), "the file does not hold a recommender", FIT_AGAIN)
    try:
        facts = json.loads(text)
        if facts["format"] != FORMAT:
            raise RatingsError(
                str(path),
                f"expected a file of format {FORMAT}, found format {facts['format']}",
                "Use the version of eckart that wrote it",
            )
        model = Completion(float(facts["mean"]), *(checkpoint.map(name) for name in MODEL_TENSORS))
        if not isinstance(facts["notes"], list):
            raise ValueError("the notes are not a list")
        saved = Saved(
            model=model,
            setting=Setting(**facts["setting"]),
            measured=None if facts["measured"] is None else Measured(**facts["measured"]),
            user_ids=tuple(json.loads(checkpoint.map("user_ids").tobytes())),
            item_ids=tuple(json.loads(checkpoint.map("item_ids").tobytes())),
            starts=checkpoint.map("starts"),
            rated=checkpoint.map("rated"),
            low=float(facts["low"]),
            high=float(facts["high"]),
            notes=tuple(facts["notes"]),
        )
        _check(saved)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        defect = f"the file is damaged ({type(error).__name__}: {str(error)[:80]})"
        raise RatingsError(str(path), defect, FIT_AGAIN) from error
    return saved


def _text_tensor(ids: tuple[str, ...]) -> NDArray[np.uint8]:
    return np.frombuffer(json.dumps(ids).encode(), np.uint8)


def _check(saved: Saved) -> None:
    """Raise ValueError if shapes, indices or numbers contradict each other."""
    m, n = len(saved.user_ids), len(saved.item_ids)
    model, starts, rated = saved.model, saved.starts, saved.rated
    if not all(isinstance(name, str) for name in (*saved.user_ids, *saved.item_ids)):
        raise ValueError("an id is not a string")
    r = model.P.shape[-1]
    shapes = [model.row_bias.shape, model.column_bias.shape, model.P.shape, model.Q.shape, starts.shape]
    if shapes != [(m,), (n,), (m, r), (n, r), (m + 1,)]:
        raise ValueError(f"shapes {shapes} do not fit {m} users and {n} items")
    if starts[0] != 0 or (np.diff(starts) < 0).any() or rated.shape != (starts[-1],):
        raise ValueError("the table of rated items is inconsistent")
    if len(rated) and not 0 <= rated.min() <= rated.max() < n:
        raise ValueError("a rated item does not exist")
    if not all(np.isfinite(getattr(model, name)).all() for name in MODEL_TENSORS):
        raise ValueError("a number is NaN or infinite")
    if not np.isfinite(model.mean):
        raise ValueError("the mean is NaN or infinite")
    if saved.setting.method not in METHODS:
        raise ValueError("the method is unknown")
    if not saved.low <= saved.high:
        raise ValueError("the range of the ratings is invalid")
