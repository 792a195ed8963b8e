"""The registry of file formats. A new format is one module and one entry here."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from eckart.adapter.adapter import Adapter
from eckart.adapter.formats.file import AdapterFile
from eckart.adapter.formats.format import Format
from eckart.adapter.formats.peft.peft import PEFT_KEY, WEIGHTS, PeftWriter, read_peft
from eckart.adapter.formats.peft.pipeline import PIPELINE, PipelineWriter, read_pipeline
from eckart.adapter.formats.peft.settings import CONFIG
from eckart.adapter.formats.single_file.cloneofsimo import CLONEOFSIMO
from eckart.adapter.formats.single_file.diffusers import DIFFUSERS
from eckart.adapter.formats.single_file.kohya import KOHYA
from eckart.adapter.formats.writer import Writer
from eckart.adapter.statement import STATEMENT
from eckart.checkpoint.locate import check_link
from eckart.errors import AdapterError


def read_folder(folder: Path) -> Adapter:
    """Read a PEFT folder, or a folder of PEFT folders.

    Parameters
    ----------
    folder : Path
        A folder for which `is_peft_folder` holds.
    """
    if not (folder / CONFIG).is_file():
        return read_pipeline(folder)
    for name in (CONFIG, WEIGHTS, STATEMENT):
        check_link(folder, folder / name)
    return read_peft(folder)


def is_peft_folder(folder: Path) -> bool:
    """Whether a folder is a PEFT adapter, or holds one for a model of a pipeline."""
    return any((folder / part / CONFIG).is_file() for part in (".", *PIPELINE))


def _read_peft_file(file: AdapterFile) -> Adapter:
    """Read a PEFT file by its path, which needs the configuration in the same folder."""
    folder = file.path.parent
    if file.path.name == WEIGHTS and (folder / CONFIG).is_file():
        return read_peft(folder)
    raise AdapterError(
        str(file.path),
        f"has PEFT's keys, but there is no {CONFIG} in its folder that states alpha",
        f"Put the {CONFIG} of this adapter into its folder, next to {WEIGHTS}",
    )


def _peft_writer(adapter: Adapter) -> Writer:
    return PipelineWriter(adapter) if adapter.components else PeftWriter(adapter)


PEFT = Format("peft", PEFT_KEY, _read_peft_file, _peft_writer, is_folder=True)

# The order of recognition. It matters only for the message that refuses a file with keys of two formats.
REGISTRY: tuple[Format, ...] = (CLONEOFSIMO, KOHYA, DIFFUSERS, PEFT)


def find_format(keys: Iterable[str]) -> Format | None:
    """Return the first registered format that keys of a file belong to; None if there is none.

    Parameters
    ----------
    keys : iterable of str
        The keys of a file.
    """
    keys = list(keys)
    return next((format for format in REGISTRY if format.is_format(keys)), None)


def refuse_mixed(file: AdapterFile, format: Format) -> None:
    """Raise if a file also holds factors in another format.

    Parameters
    ----------
    file : AdapterFile
        The file.
    format : Format
        The format that it is in.

    Raises
    ------
    AdapterError
        Names the first key of another format.
    """
    for key in file.keys:
        for other in REGISTRY:
            if other is not format and other.is_factor(key):
                raise AdapterError(
                    file.where(key),
                    f"is in the {other.name} format, but other tensors of the file are in the {format.name} "
                    "format",
                    "Use one file for each adapter",
                )


def writable_formats() -> tuple[str, ...]:
    """Return the names of the formats that can be written, PEFT first."""
    names = [format.name for format in REGISTRY if format.writer is not None]
    return tuple(sorted(names, key=lambda name: name != PEFT.name))


def folder_formats() -> tuple[str, ...]:
    """Return the names of the formats that are written as a folder; the others are one file."""
    return tuple(format.name for format in REGISTRY if format.writer is not None and format.is_folder)


def readable_formats() -> tuple[str, ...]:
    """Return the names of all formats, PEFT first."""
    return tuple(sorted((format.name for format in REGISTRY), key=lambda name: name != PEFT.name))
