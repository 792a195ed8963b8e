"""Write an adapter module by module, in any format: all of it, or nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from eckart.adapter.adapter import Module
from eckart.adapter.formats.registry import find_format
from eckart.adapter.formats.single_file.stated import late_statement
from eckart.adapter.formats.writer import FilePlan, Writer
from eckart.adapter.statement import Statement
from eckart.arrays import Array
from eckart.checkpoint import OutputFolder, read_header, stream_safetensors
from eckart.checkpoint.output import OutputFile
from eckart.checkpoint.stream import LateMetadata
from eckart.checkpoint.target import FileKind
from eckart.errors import OutputError
from eckart.parallel import OnProgress, Progress, map_unordered
from eckart.paths import user_path


def write_adapter(
    target: str | Path,
    writer: Writer,
    produce: Callable[[str], Module],
    *,
    statement: Callable[[], Statement | None] = lambda: None,
    draft: Statement | None = None,
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
    draft : Statement, optional
        The statement with any numbers in place of the errors. A format of one file reserves room for it;
        without a draft, such a file states nothing.
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
    target = user_path(target)
    check_place(target, writer.is_folder, writer.marker, overwrite)
    if writer.is_folder:
        with OutputFolder(target, overwrite=overwrite, marker=writer.marker) as staging:
            write_into(staging, writer, produce, statement, workers, progress)
        return
    (plan,) = writer.files()
    with OutputFile(target, ADAPTER_FILE, overwrite, creates_parents=True) as staged:
        _write_file(staged, plan, writer, produce, workers, progress, late_statement(draft, statement))


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
    OutputFile(target, ADAPTER_FILE, overwrite, creates_parents=True).check()
    if target.suffix != ".safetensors":
        raise OutputError(
            str(target), "expected a file name that ends in .safetensors", "Add .safetensors to the name"
        )


def is_adapter_file(path: Path) -> bool:
    """Whether a file is an adapter in a format of one file, judged by its header."""
    format = find_format(read_header(path).tensors)
    return format is not None and not format.is_folder


ADAPTER_FILE = FileKind("an adapter", is_adapter_file)


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


def _write_file(
    path: Path,
    plan: FilePlan,
    writer: Writer,
    produce: Callable[[str], Module],
    workers: int | None,
    progress: OnProgress | None,
    late: LateMetadata | None = None,
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

    with stream_safetensors(path, outline, plan.metadata, late=late) as put:
        for key, array in plan.fixed.items():
            put(key, array)
        for done, group in enumerate(map_unordered(build, plan.groups, workers), 1):
            if progress is not None:
                progress(Progress(done, len(plan.groups), group[0], noun="group"))
