"""File formats of adapters: recognise the format of a file, read it, and write it."""

from __future__ import annotations

from pathlib import Path

from eckart.adapter.adapter import Adapter, set_save
from eckart.adapter.formats import registry
from eckart.adapter.formats.file import AdapterFile
from eckart.adapter.formats.format import Format
from eckart.adapter.formats.pairs import refuse_other_kinds
from eckart.adapter.formats.peft.peft import WEIGHTS
from eckart.adapter.formats.peft.settings import CONFIG
from eckart.adapter.formats.streaming import write_adapter
from eckart.adapter.formats.writer import Writer
from eckart.arguments import argument
from eckart.checkpoint import read_header
from eckart.checkpoint.locate import check_link
from eckart.errors import AdapterError, UsageError
from eckart.oserrors import reading
from eckart.parallel import OnProgress
from eckart.paths import input_path
from eckart.text import either, preview

FORMATS = registry.writable_formats()


def load_adapter(path: str | Path) -> Adapter:
    """Read an adapter of any supported format.

    Parameters
    ----------
    path : path
        A PEFT folder; a folder of PEFT folders, one for each model of a pipeline; a ``.safetensors``
        file in the format of PEFT (with its configuration in the same folder), kohya, diffusers or
        cloneofsimo; or a folder that holds one such file.

    Returns
    -------
    Adapter
        Its arrays are views of the mapped files. Its notes list what was not understood.

    Raises
    ------
    AdapterError
        If there is no adapter at the path, or the adapter is damaged: a module with A but no B, shapes that
        do not chain, a rank that contradicts the configuration, NaN, alpha 0, or a kind other than LoRA.
    CheckpointError
        If a file is not a safetensors file, or is a link that leads out of its folder.

    Notes
    -----
    Tensors are mapped, and read once to check that they are finite.

    Examples
    --------
    ``eckart.load_adapter("adapter/")`` or ``eckart.load_adapter("lora.safetensors")``
    """
    with reading(path, AdapterError):
        return _load(input_path(path))


def _load(given: Path) -> Adapter:
    place = _locate(given)
    if place.is_dir():
        return registry.read_folder(place)
    if place != given:
        check_link(given, place)
    file = AdapterFile(place)
    refuse_other_kinds(place, file.keys)
    format = registry.find_format(file.keys)
    if format is None:
        raise AdapterError(
            str(place),
            f"expected LoRA factors in a supported format, found {_content(file)}",
            f"Use an adapter in one of the formats {either(registry.readable_formats())}",
        )
    registry.refuse_mixed(file, format)
    return format.read(file)


def is_adapter(path: str | Path) -> bool:
    """Whether a path is an adapter rather than a whole checkpoint, judged by file names and keys alone.

    Parameters
    ----------
    path : path
        A file or folder, which need not exist.

    Raises
    ------
    CheckpointError
        If it is a ``.safetensors`` file with a damaged header.
    """
    try:
        place = _locate(input_path(path))
        is_folder = place.is_dir()
    except (AdapterError, OSError):  # whoever opens it reports why it cannot be read
        return False
    if is_folder:
        return True
    return place.suffix == ".safetensors" and registry.find_format(read_header(place).tensors) is not None


def make_writer(adapter: Adapter, format: str) -> Writer:
    """Return the writer of a format for an adapter.

    Parameters
    ----------
    adapter : Adapter
        Its modules may be outlines; see `Module.of_rank`.
    format : {"peft", "kohya", "diffusers"}
        The format to write.

    Raises
    ------
    UsageError
        If there is no such format, or it is read only.
    AdapterError
        If the format cannot store one of the updates.
    """
    for entry in registry.REGISTRY:
        if entry.name == format and entry.writer is not None:
            return entry.writer(adapter)
    raise UsageError(argument("format", format), f"expected one of {', '.join(registry.writable_formats())}")


def save_adapter(
    adapter: Adapter,
    path: str | Path,
    format: str | None = None,
    *,
    overwrite: bool = False,
    workers: int | None = None,
    progress: OnProgress | None = None,
) -> tuple[str, ...]:
    """Write an adapter that is in memory.

    Parameters
    ----------
    adapter : Adapter
        The adapter.
    path : path
        A folder for PEFT's format, a ``.safetensors`` file for the others.
    format : {"peft", "kohya", "diffusers"}, optional
        By default the format that it was read from, or kohya's if that format is read only.
    overwrite : bool
        Replace an adapter that exists at ``path``.
    workers : int, optional
        Modules in flight at once; one per core by default.
    progress : callable, optional
        Called with a `Progress` after each group of modules.

    Returns
    -------
    tuple of str
        Notes: what the format cannot store and is left out, in sentences.

    Raises
    ------
    UsageError
        If there is no such format, or it is read only.
    AdapterError
        If the format cannot store one of the updates.
    OutputError
        If ``path`` does not fit the format, exists already, or cannot be written.
    """
    writer = make_writer(adapter, format or written_format(adapter))
    modules = adapter.modules
    write_adapter(
        path,
        writer,
        modules.__getitem__,
        statement=lambda: adapter.statement,
        draft=adapter.statement,
        overwrite=overwrite,
        workers=workers,
        progress=progress,
    )
    return writer.notes


set_save(save_adapter)


def written_format(adapter: Adapter) -> str:
    """Return the format in which an adapter is written by default.

    Parameters
    ----------
    adapter : Adapter
        The adapter.

    Returns
    -------
    str
        The format that it was read from, or kohya's if that format is read only.
    """
    return adapter.format if adapter.format in registry.writable_formats() else "kohya"


def _content(file: AdapterFile) -> str:
    return f"keys such as {preview(file.keys)}" if file.keys else "no tensors"


def _locate(path: Path) -> Path:
    """Return the folder or the file of the adapter that a path stands for.

    Returns
    -------
    Path
        A PEFT folder, a folder of PEFT folders, or a file whose format is still to be recognised.

    Raises
    ------
    AdapterError
        If there is nothing at the path, or it is a folder without an adapter.
    """
    if not path.exists():
        raise AdapterError(str(path), "there is no such file or folder", "Check the path")
    if path.is_dir():
        if registry.is_peft_folder(path):
            return path
        files = sorted(path.glob("*.safetensors"))
        if len(files) == 1:
            return files[0]
        content = preview(f.name for f in files) or f"neither {CONFIG} nor a .safetensors file"
        raise AdapterError(
            str(path), f"expected an adapter, found {content}", "Pass the folder or the file of an adapter"
        )
    if path.name == WEIGHTS and (path.parent / CONFIG).is_file():
        return path.parent
    if path.suffix == ".json":
        raise AdapterError(
            str(path), "expected an adapter, found a configuration", "Pass the folder that holds it"
        )
    return path


__all__ = [
    "FORMATS",
    "Format",
    "is_adapter",
    "load_adapter",
    "make_writer",
    "save_adapter",
    "write_adapter",
    "written_format",
]
