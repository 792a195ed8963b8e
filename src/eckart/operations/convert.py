"""Convert: an adapter in another format, its factors and its scale as they are."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from eckart.adapter.adapter import Adapter
from eckart.adapter.experts import ExpertsLayout, arrange_experts, even_scales
from eckart.adapter.formats import FORMATS, load_adapter, save_adapter
from eckart.checkpoint import Checkpoint, refuse_overlap
from eckart.errors import UsageError


@dataclass(frozen=True)
class Converted:
    """What `convert` did."""

    path: Path
    source: str
    modules: int
    notes: tuple[str, ...]


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
    adapter : Adapter or path
    out : path
        A folder for PEFT, a ``.safetensors`` file for the others.
    to : {"peft", "kohya", "diffusers"}
    experts : {"fused", "split"}, optional
        Also hold a mixture's experts so; exact either way.
    base : path, optional
        The base, whose configuration says what experts are called.

    Notes
    -----
    Factors keep their bits and scales their value: there and back gives the same file's tensors. What
    has no place in the other format is refused; tensors that are not understood are named in the notes.
    """
    loaded = adapter if isinstance(adapter, Adapter) else load_adapter(adapter)
    if to not in FORMATS:
        raise UsageError(f"--to {to}", f"expected one of {', '.join(FORMATS)}")
    layout = ExpertsLayout.parse(experts) if experts is not None else None
    refuse_overlap(out, [loaded.path])
    kept = loaded.statement if to == loaded.format and experts is None else None
    result = replace(loaded, statement=kept, notes=[])
    if layout is not None:
        config = Checkpoint.open(base).config if base is not None else {}
        modules = arrange_experts(result.modules, layout, config)
        result = replace(result, modules=even_scales(modules))
    save_adapter(result, out, to, overwrite=overwrite)
    return Converted(Path(out), loaded.format, len(result), tuple(loaded.notes + result.notes))
