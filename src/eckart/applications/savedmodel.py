"""A fitted recommender as one safetensors file, with the ids and all other facts in JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eckart.applications.completion.choose import Setting
from eckart.applications.completion.model import Completion
from eckart.applications.evaluation import Measured
from eckart.applications.ratings import LARGEST
from eckart.arrays import Array, Ints
from eckart.checkpoint import Checkpoint, read_header, write_safetensors
from eckart.checkpoint.output import OutputFile
from eckart.checkpoint.target import FileKind
from eckart.documents import Document
from eckart.errors import RatingsError
from eckart.strictjson import parse_object
from eckart.text import clip

FORMAT = 1
METADATA = "eckart.recommender"  # the entry of the file's metadata that holds everything but the arrays
FIT_AGAIN = "Fit it again with: eckart recommend RATINGS -o MODEL"
MODEL_TENSORS = ("row_bias", "column_bias", "P", "Q")


@dataclass(frozen=True)
class Facts:
    """The facts in the metadata of a file; see `Recommender`."""

    format: int
    mean: float
    setting: Setting
    measured: Measured | None
    low: float
    high: float
    notes: tuple[str, ...]


DOCUMENT = Document(Facts, "the description of the recommender", RatingsError, FIT_AGAIN, is_ours=True)


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
    facts = Facts(
        FORMAT, model.mean, saved.setting, saved.measured, saved.low, saved.high, tuple(saved.notes)
    )
    with OutputFile(path, RECOMMENDER, overwrite) as staged:
        write_safetensors(staged, tensors, {METADATA: json.dumps(asdict(facts), allow_nan=False)})


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
    where = str(path)
    text = checkpoint.metadata.get(METADATA)
    if text is None:
        raise RatingsError(where, "the file does not hold a recommender", FIT_AGAIN)
    facts = _facts(text, where)
    tensors = _Tensors(checkpoint, where)
    user_ids, item_ids = tensors.ids("user_ids"), tensors.ids("item_ids")
    m, n = len(user_ids), len(item_ids)
    starts = tensors.read("starts", "I64", (m + 1,))
    rated = tensors.read("rated", "I64", (None,))
    P = tensors.read("P", "F32", (m, None))
    model = Completion(
        mean=facts.mean,
        row_bias=tensors.read("row_bias", "F32", (m,)),
        column_bias=tensors.read("column_bias", "F32", (n,)),
        P=P,
        Q=tensors.read("Q", "F32", (n, P.shape[1])),
    )
    defect = _defect(facts, model, starts, rated)
    if defect:
        raise _damaged(where, defect)
    return Saved(
        model=model,
        setting=facts.setting,
        measured=facts.measured,
        user_ids=user_ids,
        item_ids=item_ids,
        starts=starts,
        rated=rated,
        low=facts.low,
        high=facts.high,
        notes=facts.notes,
    )


def _facts(text: str, where: str) -> Facts:
    """Return the facts in the metadata of a file; another format is reported before any other difference."""
    raw = parse_object(
        text.encode("utf-8", "surrogatepass"), Path(where), DOCUMENT.name, RatingsError, FIT_AGAIN
    )
    if isinstance(raw.get("format"), int) and raw["format"] != FORMAT:
        raise RatingsError(
            where,
            f"expected a file of format {FORMAT}, found format {clip(str(raw['format']))}",
            "Use the version of eckart that wrote it",
        )
    return DOCUMENT.convert(raw, where)


@dataclass(frozen=True)
class _Tensors:
    """The tensors of a file, whose dtypes and shapes are checked before any number is read."""

    checkpoint: Checkpoint
    where: str

    def read(self, name: str, dtype: str, shape: tuple[int | None, ...]) -> Any:
        """Return a tensor. None in the shape stands for any length."""
        info = self.checkpoint.info(name)
        fits = len(info.shape) == len(shape) and all(
            want in (None, have) for want, have in zip(shape, info.shape, strict=True)
        )
        if not fits or info.dtype != dtype:
            wanted = " x ".join("any" if length is None else str(length) for length in shape)
            what = (
                f"{name} has shape {info.shape} and dtype {clip(info.dtype)}, expected {wanted} and {dtype}"
            )
            raise _damaged(self.where, what)
        return self.checkpoint.map(name)

    def ids(self, name: str) -> tuple[str, ...]:
        """Return the ids that are stored as JSON in the bytes of a tensor."""
        import msgspec  # 45 ms

        text = self.read(name, "U8", (None,)).tobytes()
        try:
            # Not `Document`: it limits the number of values, and there may be millions of ids.
            ids: tuple[str, ...] = msgspec.json.decode(text, type=tuple[str, ...])
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise _damaged(self.where, f"{name} is not a list of strings ({clip(str(error))})") from None
        return ids


def _damaged(where: str, defect: str) -> RatingsError:
    return RatingsError(where, f"the file is damaged: {defect}", FIT_AGAIN)


def _text_tensor(ids: tuple[str, ...]) -> NDArray[np.uint8]:
    return np.frombuffer(json.dumps(ids).encode(), np.uint8)


def _defect(facts: Facts, model: Completion, starts: Ints, rated: Ints) -> str:
    """Return which numbers contradict each other, or ``""``."""
    if (starts < 0).any() or starts[0] != 0 or (np.diff(starts) < 0).any() or len(rated) != starts[-1]:
        return "the table of rated items is inconsistent"
    if len(rated) and not 0 <= rated.min() <= rated.max() < len(model.column_bias):
        return "a rated item does not exist"
    if not all(np.isfinite(getattr(model, name)).all() for name in MODEL_TENSORS):
        return "a number is NaN or infinite"
    if not facts.low <= facts.high:
        return "the range of the ratings is invalid"
    if max(abs(number) for number in (facts.mean, facts.low, facts.high)) > 2 * LARGEST:
        return "the mean or the range of the ratings is too large"
    return ""
