"""What is the matter with an adapter, and how it fits its base: names, shapes and vocabulary."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from eckart.adapter.adapter import Adapter
from eckart.adapter.formats.peft.whole import is_copy_of_base
from eckart.adapter.targets import Targets, holds
from eckart.checkpoint import Checkpoint

Severity = Literal["refused", "wrong", "dropped"]


@dataclass(frozen=True)
class Problem:
    """Something that a consumer would refuse, compute wrongly, or drop without a word.

    Parameters
    ----------
    severity : {"refused", "wrong", "dropped"}
    where : str
        The module, tensor or setting.
    what : str
        What is the matter.
    cure : str
        What to type or to change.
    """

    severity: Severity
    where: str
    what: str
    cure: str


def base_problems(adapter: Adapter, base: Checkpoint) -> Iterator[Problem]:
    """Say where an adapter does not fit a base."""
    targets = Targets.find(adapter, base)
    cure = "Name the base that the adapter was made for"
    if len(targets.missing) == len(adapter) and len(adapter):
        name, why = next(iter(targets.missing.items()))
        yield Problem("refused", name, f"no module fits this base: {why}", cure)
        return
    for name, why in targets.missing.items():
        module = adapter.modules.get(name)
        vocabulary = module is not None and module.kind == "embedding"
        yield Problem("refused", name, f"{why}{' (another vocabulary)' if vocabulary else ''}", cure)
    for name in targets.tied:
        if not any(m.kind == "embedding" for m in adapter):
            yield Problem(
                "wrong", name, "the base ties this weight to its embedding, which would change with it",
                f"Save the base untied, or eckart resize {adapter.path} OUT --rank 999 --exclude {name}",
            )  # fmt: skip
    for name, array in adapter.dense.items():
        spelt = targets.tensor(name, base)
        if spelt not in base:
            continue
        if base.info(spelt).shape != array.shape:
            yield Problem(
                "refused", name, f"is of shape {array.shape}, the base holds {base.info(spelt).shape}",
                "Resize the base's vocabulary first",
            )  # fmt: skip
        elif is_copy_of_base(name, adapter) and not holds(base, spelt, array):
            yield Problem(
                "wrong", name, "lies under factors and is not the base's, which some programs take", cure
            )
    for name, rows in adapter.rows.items():
        shape = base.info(spelt).shape if (spelt := targets.tensor(name, base)) in base else None
        if shape is None or max(rows.indices) >= shape[0] or shape[1:] != rows.values.shape[1:]:
            there = shape or "no such table"
            yield Problem("refused", name, f"gets row {max(rows.indices)}, the base holds {there}", cure)
