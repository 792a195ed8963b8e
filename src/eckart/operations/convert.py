"""Convert: an adapter in another file format, with the same factors and scales."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from eckart.adapter.adapter import Adapter
from eckart.adapter.experts import ExpertsLayout, arrange_experts, even_scales
from eckart.adapter.formats import FORMATS, load_adapter, save_adapter
from eckart.adapter.statement import Statement
from eckart.checkpoint import refuse_overlap
from eckart.checkpoint.model import open_model
from eckart.checks import check_choice
from eckart.operations.new_adapter import RankRange
from eckart.paths import user_path
from eckart.rank.dense import notes_on_dense
from eckart.text import count


@dataclass(frozen=True, repr=False)
class Converted:
    """The result of `convert`.

    Parameters
    ----------
    path : Path
        Where the adapter was written.
    source : str
        The format that it was read from.
    format : str
        The format that it was written in.
    modules : int
        Number of modules.
    ranks : RankRange or None
        The smallest, median and largest rank; None if there are no modules.
    statement : Statement or None
        What the adapter states about itself. Kept only if neither the format nor the experts change.
    notes : tuple of str
        Remarks on the inputs and the result, in sentences.
    """

    path: Path
    source: str
    format: str
    modules: int
    ranks: RankRange | None
    statement: Statement | None
    notes: tuple[str, ...]

    def __repr__(self) -> str:
        return f"Converted({self.path}: {count(self.modules, 'module')}, {self.source} to {self.format})"


def convert(
    adapter: Adapter | str | Path,
    out: str | Path,
    to: str,
    *,
    experts: str | None = None,
    base: str | Path | None = None,
    overwrite: bool = False,
) -> Converted:
    """Write an adapter in another format.

    Parameters
    ----------
    adapter : Adapter, str or Path
        An adapter, or the path of one.
    out : str or Path
        Where to write: a folder for PEFT's format, a ``.safetensors`` file for the others. Nothing is written
        if anything fails.
    to : {"peft", "kohya", "diffusers"}
        The format to write.
    experts : {"fused", "split"}, optional
        Also change the layout of mixture-of-experts layers; the change is exact.
    base : str or Path, optional
        The base model. Its configuration gives the names of the experts.
    overwrite : bool
        Whether to replace an existing adapter.

    Returns
    -------
    Converted

    Raises
    ------
    InputError
        If an argument is wrong, the other format cannot hold a part of the adapter, or the result cannot be
        written.

    Notes
    -----
    Factors keep their bits and scales their values, so converting to another format and back gives the same
    tensors. Tensors that Eckart does not understand are listed in the notes.
    """
    to = check_choice(to, "to", FORMATS)
    layout = None if experts is None else ExpertsLayout.parse(experts)
    source = adapter if isinstance(adapter, Adapter) else load_adapter(adapter)
    refuse_overlap(out, [source.path])
    is_unchanged = to == source.format and layout is None
    result = replace(source, statement=source.statement if is_unchanged else None)
    if layout is not None:
        config = open_model(base).config if base is not None else {}
        modules = arrange_experts(result.modules, layout, config)
        result = replace(result, modules=even_scales(modules))
    left_out = save_adapter(result, out, to, overwrite=overwrite)
    return Converted(
        path=user_path(out),
        source=source.format,
        format=to,
        modules=len(result),
        ranks=RankRange.of(result.modules) if result.modules else None,
        statement=result.statement,
        notes=(*source.notes, *left_out, *notes_on_dense(result, result.dtype.itemsize)),
    )
