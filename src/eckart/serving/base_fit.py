"""Check whether an adapter fits a base: names, shapes and vocabulary."""

from __future__ import annotations

from collections.abc import Iterator

from eckart.adapter.adapter import Adapter
from eckart.adapter.formats.peft.whole import is_copy_of_base
from eckart.adapter.targets import Targets, holds
from eckart.checkpoint import Checkpoint
from eckart.checkpoint.kinds import Kind
from eckart.serving.problems import Problem, Severity, path_in_command

USE_ITS_BASE = "Use the base that the adapter was made for"


def base_problems(adapter: Adapter, base: Checkpoint) -> Iterator[Problem]:
    """Find every part of an adapter that does not fit a base.

    Parameters
    ----------
    adapter : Adapter
    base : Checkpoint
    """
    targets = Targets.find(adapter, base)
    if len(targets.missing) == len(adapter) and len(adapter):
        name, reason = next(iter(targets.missing.items()))
        yield Problem(Severity.REFUSED, name, f"no module fits this base: {reason}", USE_ITS_BASE)
        return
    yield from _module_problems(adapter, targets)
    yield from _whole_problems(adapter, base, targets)
    yield from _row_problems(adapter, base, targets)


def _module_problems(adapter: Adapter, targets: Targets) -> Iterator[Problem]:
    for name, reason in targets.missing.items():
        module = adapter.modules.get(name)
        is_table = module is not None and module.kind == Kind.EMBEDDING
        hint = " (another vocabulary)" if is_table else ""
        yield Problem(Severity.REFUSED, name, f"{reason}{hint}", USE_ITS_BASE)
    if any(m.kind == Kind.EMBEDDING for m in adapter):
        return
    for name in targets.tied:
        yield Problem(
            Severity.WRONG,
            name,
            "the base ties this weight to its embedding table, which would change as well",
            f"Save the base untied, or run eckart resize {path_in_command(adapter)} -o OUT "
            f"--rank 999 --exclude {name}",
        )


def _whole_problems(adapter: Adapter, base: Checkpoint, targets: Targets) -> Iterator[Problem]:
    for name, array in adapter.dense.items():
        base_name = targets.tensor(name, base)
        if base_name not in base:
            continue
        base_shape = base.info(base_name).shape
        if base_shape != array.shape:
            yield Problem(
                Severity.REFUSED,
                name,
                f"this tensor has shape {array.shape}, but the base holds {base_shape}",
                "Resize the base's vocabulary first",
            )
        elif is_copy_of_base(name, adapter) and not holds(base, base_name, array):
            yield Problem(
                Severity.WRONG,
                name,
                "this copy of a table with factors differs from the base's table, and programs disagree on "
                "which of the two they use",
                USE_ITS_BASE,
            )


def _row_problems(adapter: Adapter, base: Checkpoint, targets: Targets) -> Iterator[Problem]:
    for name, rows in adapter.rows.items():
        base_name = targets.tensor(name, base)
        table_shape = base.info(base_name).shape if base_name in base else None
        last_row = max(rows.indices)
        if table_shape is None:
            yield Problem(
                Severity.REFUSED,
                name,
                f"the adapter replaces row {last_row}, but the base has no such table",
                USE_ITS_BASE,
            )
        elif last_row >= table_shape[0] or table_shape[1:] != rows.values.shape[1:]:
            yield Problem(
                Severity.REFUSED,
                name,
                f"the adapter replaces row {last_row} of length {rows.values.shape[-1]}, but the base holds "
                f"{table_shape}",
                USE_ITS_BASE,
            )
