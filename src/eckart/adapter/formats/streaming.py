"""Write an adapter module by module, in any format: all of it, or nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from eckart.adapter.adapter import Module
from eckart.adapter.formats.writer import FilePlan, Writer
from eckart.adapter.statement import Statement
from eckart.arrays import Array
from eckart.checkpoint import OutputFolder, stream_safetensors, write_json
from eckart.errors import OutputError
from eckart.parallel import OnProgress, Progress, map_unordered


def write_adapter(
    target: str | Path,
    writer: Writer,
    produce: Callable[[str], Module],
    *,
    statement: Callable[[], Statement | None] = lambda: None,
    overwrite: bool = False,
    workers: int | None = None,
    progress: OnProgress | None = None,
) -> None:
    """Write an adapter whose modules are computed one at a time.

    Parameters
    ----------
    target : path
        A folder, or for a format of one file a ``.safetensors`` file.
    writer : Writer
        Knows the format and the outline of every module.
    produce : callable
        Returns a module by its name, as outlined; called from several threads.
    statement : callable
        Called after all modules; returns what the adapter states about itself.
    overwrite : bool
        Replace an adapter that exists at ``target``.
    workers : int, optional
        Modules in flight at once; one per core by default.
    progress : callable, optional
        Called with a `Progress` after each group of modules.

    Raises
    ------
    OutputError
        If ``target`` does not fit the format, exists already, or cannot be written.

    Notes
    -----
    Holds a few modules at a time; the experts of one parameter are held together.
    """
    target = Path(target)
    check_place(target, writer.is_folder, writer.marker, overwrite)
    if writer.is_folder:
        with OutputFolder(target, overwrite=overwrite, marker=writer.marker) as staging:
            write_into(staging, writer, produce, statement, workers, progress)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    (plan,) = writer.files()
    _write_file(target, plan, writer, produce, workers, progress)
    stated = statement()
    if stated is not None:
        write_json(statement_path(target), stated.to_json())
    else:
        statement_path(target).unlink(missing_ok=True)  # it belonged to the file that was replaced


def check_place(target: Path, is_folder: bool, marker: str, overwrite: bool) -> None:
    """Check, before slow work, that an adapter may be written at a path.

    Parameters
    ----------
    target : Path
        The path.
    is_folder : bool
        Whether the format is a folder; otherwise it is one ``.safetensors`` file.
    marker : str
        A file that an existing folder must hold to be replaced.
    overwrite : bool
        Whether to replace an existing adapter.

    Raises
    ------
    OutputError
        If the path does not fit the format, or is taken.
    """
    if is_folder and target.suffix == ".safetensors":
        raise OutputError(
            str(target),
            "PEFT's format is a folder, and this is the name of a file",
            "Use the name of a folder, or a format that is one file (kohya, diffusers)",
        )
    if is_folder:
        OutputFolder(target, overwrite=overwrite, marker=marker).check()
        return
    if target.is_dir():
        raise OutputError(
            str(target), "expected a file name, found a folder", "Use the path of a .safetensors file"
        )
    if target.suffix != ".safetensors":
        raise OutputError(
            str(target), "expected a file name that ends in .safetensors", "Add .safetensors to the name"
        )
    if target.exists() and not overwrite:
        raise OutputError(
            str(target),
            "this file exists already",
            "Use another path, or pass --overwrite (overwrite=True in Python) to replace it",
        )


def write_into(
    folder: Path,
    writer: Writer,
    produce: Callable[[str], Module],
    statement: Callable[[], Statement | None],
    workers: int | None = None,
    progress: OnProgress | None = None,
) -> None:
    """Write an adapter's files into an existing folder.

    Parameters
    ----------
    folder : Path
        The folder to write into.
    writer, produce, statement, workers, progress
        See `write_adapter`.
    """
    for plan in writer.files():
        (folder / plan.path).parent.mkdir(parents=True, exist_ok=True)
        _write_file(folder / plan.path, plan, writer, produce, workers, progress)
    writer.finish(folder, statement())


def statement_path(file: Path) -> Path:
    """Return the path of the statement of an adapter that is one file.

    Examples
    --------
    >>> statement_path(Path("lora.safetensors")).name
    'lora.eckart.json'
    """
    return file.with_name(f"{file.stem}.eckart.json")


def _write_file(
    path: Path,
    plan: FilePlan,
    writer: Writer,
    produce: Callable[[str], Module],
    workers: int | None,
    progress: OnProgress | None,
) -> None:
    """Write one file of an adapter: header first, then the tensors as they are produced."""
    modules = writer.adapter.modules
    outline: dict[str, Array] = dict(plan.fixed)
    for group in plan.groups:
        outline |= writer.tensors([modules[name] for name in group])

    def build(group: list[str]) -> list[str]:
        for key, array in writer.tensors([produce(name) for name in group]).items():
            put(key, array)
        return group

    with stream_safetensors(path, outline, plan.metadata) as put:
        for key, array in plan.fixed.items():
            put(key, array)
        for done, group in enumerate(map_unordered(build, plan.groups, workers), 1):
            if progress is not None:
                progress(Progress(done, len(plan.groups), group[0], noun="group"))
