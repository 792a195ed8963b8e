"""Resize: cut an adapter to the ranks of a rule, and state the error."""

from __future__ import annotations

from pathlib import Path
from typing import Unpack

from eckart.adapter.adapter import Adapter, set_resize
from eckart.adapter.formats import load_adapter
from eckart.adapter.updates import WeightedSum
from eckart.checkpoint.model import open_model
from eckart.operations.cut import CutJob, check_rule, factor_dtype, run_cut
from eckart.operations.destination import Destination
from eckart.operations.new_adapter import NewAdapter
from eckart.parallel import OnProgress, threads_each
from eckart.rank import RankRule, RuleOptions, rule_from
from eckart.serving.consumers import ConsumerNames
from eckart.serving.layout import Layout


class Resized(NewAdapter):
    """The result of `resize`; see `NewAdapter` for its fields."""


def resize(
    adapter: Adapter | str | Path,
    out: str | Path | None = None,
    *,
    rule: RankRule | None = None,
    dtype: str | None = None,
    format: str | None = None,
    consumers: ConsumerNames = (),
    base: str | Path | None = None,
    overwrite: bool = False,
    workers: int | None = None,
    progress: OnProgress | None = None,
    **options: Unpack[RuleOptions],
) -> Resized:
    """Cut an adapter to other ranks, and state the error.

    Parameters
    ----------
    adapter : Adapter, str or Path
        An adapter, or the path of one.
    out : str or Path, optional
        Where to write: a folder for PEFT's format, a ``.safetensors`` file for the others. Nothing is written
        if anything fails. Without `out` the result stays in memory.
    rule : RankRule, optional
        How ranks are chosen.
    dtype : str, optional
        Dtype of the new factors in any common spelling, e.g. ``"bf16"``. That of the adapter by default.
    format : {"peft", "kohya", "diffusers"}, optional
        Format to write. That of the adapter by default, or one that all consumers read.
    consumers : str or sequence of str
        Programs that must load the result correctly, e.g. ``"vllm,llama.cpp"``.
    base : str or Path, optional
        The base model. Consumers may need it to know which layers exist.
    overwrite : bool
        Whether to replace an existing adapter.
    workers : int, optional
        Modules in work at once; one per core by default. The result does not depend on it.
    progress : callable, optional
        Called with a `Progress` after each module.
    **options
        The rule as keyword arguments instead of `rule`: ``rank=8``, ``energy=0.99``, ``budget="2M"``, and
        bounds such as ``max_rank=64``.

    Returns
    -------
    Resized

    Raises
    ------
    InputError
        If an argument is wrong, the adapter holds no update, or the result cannot be written.

    Notes
    -----
    The cost per module is (m + n) r^2 flops, in float64: a QR of B, a QR of A^T, and the SVD of an r x r
    core. B A is never formed. No module gets a larger rank than its update has. The stated error is relative
    to the original update and is measured on the rounded factors.

    Examples
    --------
    ``eckart.resize("adapter", "small", energy=0.99).statement`` is what ``small/eckart.json`` holds, and
    ``eckart.resize("adapter", rank=8).adapter`` is an adapter in memory.
    """
    chosen_rule = rule_from(rule, options)
    check_rule(chosen_rule)
    destination = Destination(out, format, overwrite)
    source = adapter if isinstance(adapter, Adapter) else load_adapter(adapter)
    new_dtype = factor_dtype(dtype, source)
    model = open_model(base) if base is not None else None
    layout, arranged = Layout.prepare(source, consumers, model)
    job = CutJob(
        updates=WeightedSum([arranged], threads=threads_each(len(arranged), workers)),
        rule=chosen_rule,
        dtype=new_dtype,
        template=arranged,
        layout=layout,
    )
    destination.check(job.template, layout, [source.path])
    return run_cut(job, destination, Resized, workers, progress)


def _resize_in_memory(
    adapter: Adapter,
    *,
    rule: RankRule | None = None,
    dtype: str | None = None,
    workers: int | None = None,
    progress: OnProgress | None = None,
    **options: Unpack[RuleOptions],
) -> Adapter:
    """Return a resized adapter in memory: the function behind `Adapter.resize`."""
    return resize(adapter, rule=rule, dtype=dtype, workers=workers, progress=progress, **options).adapter


set_resize(_resize_in_memory)
