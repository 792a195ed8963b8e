"""File formats of adapters: which one a file is in, reading, and writing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from eckart.adapter.adapter import Adapter, set_save
from eckart.adapter.formats.file import AdapterFile
from eckart.adapter.formats.pairs import refuse_other_kinds
from eckart.adapter.formats.peft.config import CONFIG
from eckart.adapter.formats.peft.peft import PREFIX, WEIGHTS, PeftWriter, read_peft
from eckart.adapter.formats.peft.pipeline import PIPELINE, PipelineWriter, read_pipeline
from eckart.adapter.formats.single_file.cloneofsimo import is_cloneofsimo, read_cloneofsimo
from eckart.adapter.formats.single_file.diffusers import DiffusersWriter, is_diffusers, read_diffusers
from eckart.adapter.formats.single_file.kohya import KohyaWriter, is_kohya, read_kohya
from eckart.adapter.formats.write import write_adapter
from eckart.adapter.formats.writer import Writer
from eckart.adapter.statement import STATEMENT
from eckart.checkpoint import read_header
from eckart.checkpoint.locate import check_link
from eckart.errors import AdapterError, UsageError

FORMATS = ("peft", "kohya", "diffusers")

_BY_KEYS = (
    (is_cloneofsimo, read_cloneofsimo),
    (is_kohya, read_kohya),
    (is_diffusers, read_diffusers),
)


def load_adapter(path: str | Path) -> Adapter:
    """Read an adapter of any format that is known.

    Parameters
    ----------
    path : path
        A PEFT folder; a folder of PEFT folders, one for each model of a pipeline; a ``.safetensors``
        file in the format of PEFT (with its configuration beside it), kohya, diffusers or
        cloneofsimo; or a folder that holds one such file.

    Raises
    ------
    AdapterError
        If it is none of these, or damaged: a module with A but no B, shapes that do not chain, a rank
        that contradicts the configuration, NaN, alpha 0, or an adapter that is no LoRA.

    Notes
    -----
    Tensors are mapped, and read once to see that they are finite.
    """
    given = Path(path)
    if not given.exists():
        raise AdapterError(str(given), "there is no such file or folder", "Check the path")
    if given.is_dir():
        if (given / CONFIG).is_file():
            for name in (CONFIG, WEIGHTS, STATEMENT):
                check_link(given, given / name)
            return read_peft(given)
        if any((given / part / CONFIG).is_file() for part in PIPELINE):
            return read_pipeline(given)
        files = sorted(given.glob("*.safetensors"))
        if len(files) != 1:
            found = ", ".join(f.name for f in files[:4]) or f"no {CONFIG} and no .safetensors file"
            raise AdapterError(
                str(given), f"expected an adapter, found {found}", "Name the adapter's folder or file"
            )
        check_link(given, files[0])
        given = files[0]
    elif given.name == WEIGHTS and (given.parent / CONFIG).is_file():
        return read_peft(given.parent)
    if given.suffix == ".json":
        raise AdapterError(str(given), "is a configuration, expected an adapter", "Name its folder")
    file = AdapterFile(given)
    for recognises, read in _BY_KEYS:
        if recognises(file.keys):
            return read(file)
    refuse_other_kinds(given, file.keys)
    if any(key.startswith(PREFIX) for key in file.keys):
        raise AdapterError(
            str(given), f"has PEFT's keys and no {CONFIG} beside it, so that alpha is not known",
            f"Put the {CONFIG} of this adapter into its folder",
        )  # fmt: skip
    raise AdapterError(
        str(given),
        f"holds no LoRA factors in a format that is known; its keys look like {', '.join(file.keys[:3])}",
        "Give an adapter of PEFT, kohya, diffusers or cloneofsimo",
    )


def is_adapter(path: str | Path) -> bool:
    """Whether a path is an adapter and not a whole checkpoint, from its files' names and keys alone."""
    given = Path(path)
    if given.is_dir():
        if any((given / part / CONFIG).is_file() for part in (".", *PIPELINE)):
            return True
        files = sorted(given.glob("*.safetensors"))
        if len(files) != 1:
            return False
        given = files[0]
    elif given.name == WEIGHTS:
        return True
    if given.suffix != ".safetensors" or not given.is_file():
        return False
    keys = read_header(given).tensors
    return any(recognises(keys) for recognises, _ in _BY_KEYS)


def make_writer(adapter: Adapter, format: str, **about: Any) -> Writer:
    """Return the writer of a format for an adapter.

    Parameters
    ----------
    adapter : Adapter
        Its modules may be outlines.
    format : {"peft", "kohya", "diffusers"}
    **about
        For PEFT: base_name, base_modules, task.
    """
    writers: dict[str, Callable[..., Writer]] = {
        "peft": PipelineWriter if adapter.components else PeftWriter,
        "kohya": KohyaWriter,
        "diffusers": DiffusersWriter,
    }
    if format not in writers:
        raise UsageError(f"format={format!r}", f"expected one of {', '.join(writers)}")
    return writers[format](adapter, **about)


def save_adapter(adapter: Adapter, path: str | Path, format: str | None = None, **how: Any) -> None:
    """Write an adapter that is in memory.

    Parameters
    ----------
    adapter : Adapter
    path : path
        A folder for PEFT, a ``.safetensors`` file for the others.
    format : {"peft", "kohya", "diffusers"}, optional
        That in which it was read, by default.
    **how
        overwrite, workers, progress: see `write_adapter`.
    """
    writer = make_writer(adapter, format or written_format(adapter))
    modules = adapter.modules
    write_adapter(path, writer, modules.__getitem__, statement=lambda: adapter.statement, **how)


set_save(save_adapter)


def written_format(adapter: Adapter) -> str:
    """Return the format in which an adapter is written if none is named."""
    return adapter.format if adapter.format in FORMATS else "kohya"


__all__ = [
    "FORMATS",
    "is_adapter",
    "load_adapter",
    "make_writer",
    "read_peft",
    "save_adapter",
    "write_adapter",
    "written_format",
]
