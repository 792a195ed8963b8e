"""A folder of PEFT folders, one for each model of a pipeline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from eckart.adapter.adapter import Adapter, Array, Module
from eckart.adapter.formats.peft.config import CONFIG
from eckart.adapter.formats.peft.peft import WEIGHTS, PeftWriter, read_peft
from eckart.adapter.formats.single_file.common import refuse_number
from eckart.adapter.formats.single_file.names import is_component, split_component
from eckart.adapter.formats.writer import FilePlan
from eckart.adapter.statement import STATEMENT, Statement, read_statement
from eckart.checkpoint import write_json
from eckart.checkpoint.locate import check_link
from eckart.errors import AdapterError

T = TypeVar("T")

# Names of a pipeline's models: a folder with one of these is one adapter, not a collection of several.
PIPELINE = frozenset({"unet", "transformer", "text_encoder", "text_encoder_2", "text_encoder_3"})


def read_pipeline(path: str | Path) -> Adapter:
    """Read a folder whose folders are PEFT adapters.

    Raises
    ------
    AdapterError
        If one of them cannot be read, or its name is none of a component.
    CheckpointError
        If one of them, or a file in it, is a link that leads out.

    Notes
    -----
    Names of modules, whole tensors and unknown tensors begin with the component; ``config`` holds one
    configuration for each.
    """
    top = Path(path)
    adapter = Adapter({}, path=top)
    for folder in sorted(entry for entry in top.iterdir() if (entry / CONFIG).is_file()):
        if not is_component(folder.name):
            raise AdapterError(
                str(folder),
                "expected the name of a component, such as unet",
                "Name the folder of one adapter",
            )
        for file in (folder, folder / CONFIG, folder / WEIGHTS, folder / STATEMENT):
            check_link(top, file)
        part, dot = read_peft(folder), f"{folder.name}."
        adapter.modules |= {dot + m.name: replace(m, name=dot + m.name) for m in part}
        adapter.dense |= {dot + name: array for name, array in part.dense.items()}
        adapter.rows |= {dot + name: rows for name, rows in part.rows.items()}
        adapter.unknown |= {dot + key: array for key, array in part.unknown.items()}
        adapter.config[folder.name] = part.config
        adapter.components += (folder.name,)
        adapter.notes += [f"{folder.name}: {note}" for note in part.notes]
        adapter.files += part.files
    if not adapter.components:
        raise AdapterError(str(top), f"no folder in it has an {CONFIG}", "Name the folder of an adapter")
    check_link(top, top / STATEMENT)
    adapter.statement = read_statement(top / STATEMENT)
    return adapter


class PipelineWriter:
    """Lays an adapter with components out as one PEFT folder for each.

    Parameters
    ----------
    adapter : Adapter
        Its modules may be outlines, see `Module.of_rank`.
    **about
        Passed on to `PeftWriter`.
    """

    folder = True

    def __init__(self, adapter: Adapter, **about: Any) -> None:
        self.adapter = adapter
        for component in adapter.components:
            if not is_component(component):  # it becomes the name of a folder
                raise AdapterError(component, "is no name for a component", "Take letters, digits and _")
        for name in adapter.modules:
            split_component(name, adapter.components)
            refuse_number(name, adapter)
        was_peft = adapter.format == "peft"
        if not was_peft:
            adapter.note_left_out("peft")
        self.writers = {}
        for component in adapter.components:
            modules = {
                path: replace(module, name=path)
                for path, module in _within(component, adapter.modules).items()
            }
            config = adapter.config.get(component) if was_peft else None
            part = replace(
                adapter,
                modules=modules,
                dense=_within(component, adapter.dense),
                rows=_within(component, adapter.rows),
                unknown=_within(component, adapter.unknown) if was_peft else {},
                config=config if isinstance(config, dict) else {},
                components=(),
                statement=None,
            )
            if modules or part.dense or part.rows:
                self.writers[component] = PeftWriter(part, **about)
        if not self.writers:
            raise AdapterError("the adapter", "has no modules", "Give one that updates something")
        # An old folder is replaced only if it is one of these.
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


def _within(component: str, named: Mapping[str, T]) -> dict[str, T]:
    """Return what belongs to a component, by the names within it."""
    dot = f"{component}."
    return {name.removeprefix(dot): thing for name, thing in named.items() if name.startswith(dot)}
