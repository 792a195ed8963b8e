"""Convert: an adapter in another format, its factors and its scale as they are."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from eckart.adapter.adapter import Adapter, Module
from eckart.adapter.experts import even_scales, fuse_experts, split_experts
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
    refuse_overlap(out, [loaded.path])
    kept = loaded.statement if to == loaded.format and experts is None else None
    result = replace(loaded, statement=kept, notes=[])
    if experts is not None:
        result = replace(result, modules=_with_experts(result, experts, base))
    save_adapter(result, out, to, overwrite=overwrite)
    return Converted(Path(out), loaded.format, len(result), tuple(loaded.notes + result.notes))


def _with_experts(adapter: Adapter, experts: str, base: str | Path | None) -> dict[str, Module]:
    config = Checkpoint.open(base).config if base is not None else {}
    if experts == "split":
        return split_experts(adapter.modules, config)
    if experts == "fused":
        return even_scales(fuse_experts(adapter.modules, config))
    raise UsageError(f"--experts {experts}", "expected fused or split")
