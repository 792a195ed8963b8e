"""A folder of PEFT folders, one for each model of a pipeline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from eckart.adapter.adapter import Adapter, Module
from eckart.adapter.formats.peft.config import PeftOptions
from eckart.adapter.formats.peft.origin import PipelineOrigin, peft_origin
from eckart.adapter.formats.peft.peft import WEIGHTS, PeftWriter, read_peft
from eckart.adapter.formats.peft.settings import CONFIG
from eckart.adapter.formats.single_file.common import refuse_number
from eckart.adapter.formats.single_file.names import is_component, split_component
from eckart.adapter.formats.writer import FilePlan, left_out_note
from eckart.adapter.statement import STATEMENT, Statement, read_statement
from eckart.arrays import Array
from eckart.checkpoint import write_json
from eckart.checkpoint.locate import check_link
from eckart.errors import AdapterError

T = TypeVar("T")

# Names of a pipeline's models. A folder that contains one of them is one adapter, not several.
PIPELINE = frozenset({"unet", "transformer", "text_encoder", "text_encoder_2", "text_encoder_3"})


def read_pipeline(path: str | Path) -> Adapter:
    """Read a folder whose folders are PEFT adapters.

    Parameters
    ----------
    path : path
        The folder above them.

    Returns
    -------
    Adapter
        Names of modules, whole tensors and unknown tensors begin with the component; ``config`` holds one
        configuration for each.

    Raises
    ------
    AdapterError
        If one of them cannot be read, or its name is not that of a component.
    CheckpointError
        If one of them, or a file in it, is a link that leads out of the folder.
    """
    top = Path(path)
    parts: dict[str, Adapter] = {}
    for folder in sorted(entry for entry in top.iterdir() if (entry / CONFIG).is_file()):
        if not is_component(folder.name):
            raise AdapterError(
                str(folder),
                "expected the name of a pipeline's component, such as unet",
                "Pass the folder of a single adapter",
            )
        for file in (folder, folder / CONFIG, folder / WEIGHTS, folder / STATEMENT):
            check_link(top, file)
        parts[folder.name] = read_peft(folder)
    if not parts:
        raise AdapterError(str(top), f"no folder in it has an {CONFIG}", "Pass the folder of an adapter")
    check_link(top, top / STATEMENT)
    return Adapter(
        {f"{part}.{m.name}": replace(m, name=f"{part}.{m.name}") for part, a in parts.items() for m in a},
        dense={f"{part}.{name}": array for part, a in parts.items() for name, array in a.dense.items()},
        rows={f"{part}.{name}": rows for part, a in parts.items() for name, rows in a.rows.items()},
        config={part: a.config for part, a in parts.items()},
        statement=read_statement(top / STATEMENT),
        unknown={f"{part}.{key}": array for part, a in parts.items() for key, array in a.unknown.items()},
        components=tuple(parts),
        path=top,
        notes=tuple(f"{part}: {note}" for part, a in parts.items() for note in a.notes),
        files=tuple(file for a in parts.values() for file in a.files),
        origin=PipelineOrigin({part: peft_origin(a.origin) for part, a in parts.items()}),
    )


class PipelineWriter:
    """Lays an adapter with components out as one PEFT folder for each.

    Parameters
    ----------
    adapter : Adapter
        Its modules may be outlines; see `Module.of_rank`.
    options : PeftOptions, optional
        Passed to `PeftWriter` for every component.

    Raises
    ------
    AdapterError
        If a module belongs to none of the components, or the adapter has no modules.
    """

    is_folder = True

    def __init__(self, adapter: Adapter, options: PeftOptions | None = None) -> None:
        self.adapter = adapter
        for component in adapter.components:
            if not is_component(component):  # it becomes the name of a folder
                raise AdapterError(
                    component,
                    "is not a valid name of a component",
                    "Use a letter followed by letters, digits and underscores",
                )
        for name in adapter.modules:
            split_component(name, adapter.components)
            refuse_number(name, adapter)
        self.notes = () if adapter.format == "peft" else left_out_note(adapter.unknown, "peft")
        self.writers: dict[str, PeftWriter] = {}
        for component in adapter.components:
            part = _part(adapter, component)
            if part.modules or part.dense or part.rows:
                self.writers[component] = PeftWriter(part, options)
        if not self.writers:
            raise AdapterError("the adapter", "has no modules", "Pass an adapter that updates something")
        # Only a folder that holds this file may be overwritten.
        self.marker = f"{next(iter(self.writers))}/{CONFIG}"

    def files(self) -> list[FilePlan]:
        """Return one file for each component."""
        return [
            replace(
                plan,
                path=Path(component) / plan.path,
                groups=[[f"{component}.{name}" for name in group] for group in plan.groups],
            )
            for component, writer in self.writers.items()
            for plan in writer.files()
        ]

    def tensors(self, modules: Sequence[Module]) -> dict[str, Array]:
        """Return the tensors of one group of modules, all of one component, by their keys."""
        component, _ = split_component(modules[0].name, self.adapter.components)
        stripped = [replace(m, name=m.name.removeprefix(f"{component}.")) for m in modules]
        return self.writers[component].tensors(stripped)

    def finish(self, folder: Path, statement: Statement | None) -> None:
        """Write the configurations, and the statement above them."""
        for component, writer in self.writers.items():
            writer.finish(folder / component, None)
        if statement is not None:
            write_json(folder / STATEMENT, statement.to_json())


def _part(adapter: Adapter, component: str) -> Adapter:
    """Return one component of an adapter as an adapter of its own."""
    is_peft = adapter.format == "peft"
    config = adapter.config.get(component) if is_peft else None
    origins = adapter.origin.components if isinstance(adapter.origin, PipelineOrigin) else {}
    modules = _within(component, adapter.modules)
    return replace(
        adapter,
        modules={path: replace(module, name=path) for path, module in modules.items()},
        dense=_within(component, adapter.dense),
        rows=_within(component, adapter.rows),
        unknown=_within(component, adapter.unknown) if is_peft else {},
        config=config if isinstance(config, dict) else {},
        origin=origins.get(component),
        components=(),
        statement=None,
    )


def _within(component: str, named: Mapping[str, T]) -> dict[str, T]:
    """Return the entries of a component, by their names within it."""
    dot = f"{component}."
    return {name.removeprefix(dot): entry for name, entry in named.items() if name.startswith(dot)}
