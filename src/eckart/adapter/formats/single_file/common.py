"""Shared by all single-file formats: the last step of reading, and the checks before writing."""

from __future__ import annotations

import math

from eckart.adapter.adapter import Adapter, Module, Origin
from eckart.adapter.formats.file import AdapterFile
from eckart.adapter.formats.single_file.names import split_component
from eckart.adapter.formats.single_file.stated import read_stated
from eckart.adapter.formats.writer import left_out_note, unknown_note
from eckart.arrays import Array
from eckart.checkpoint.kinds import Kind
from eckart.errors import AdapterError


def build_adapter(
    file: AdapterFile,
    format: str,
    modules: dict[str, Module],
    components: tuple[str, ...],
    unknown: dict[str, Array],
    notes: tuple[str, ...] = (),
    origin: Origin | None = None,
) -> Adapter:
    """Return the adapter of a file, with its statement and a note about tensors that were not understood.

    Parameters
    ----------
    file : AdapterFile
        The file that was read.
    format : str
        Name of its format.
    modules, components, unknown, origin
        As in `Adapter`.
    notes : tuple of str
        Remarks on the file, in sentences.

    Raises
    ------
    AdapterError
        If there are no modules, or one belongs to none of the components.
    """
    if not modules:
        raise AdapterError(str(file.path), "expected LoRA factors, found none", "Use a LoRA adapter")
    for name in modules:
        split_component(name, components, file)
    statement, remarks = read_stated(file)
    return Adapter(
        modules,
        statement=statement,
        format=format,
        unknown=unknown,
        components=components,
        path=file.path,
        notes=(*notes, *remarks, *unknown_note(unknown)),
        files=file.mapped,
        origin=origin,
    )


def add_module(modules: dict[str, Module], module: Module, file: AdapterFile, stem: str) -> None:
    """Add a module to those of a file; raise if there is one of its name already.

    Parameters
    ----------
    modules : dict of str to Module
        The modules so far; the new one is added.
    module : Module
        The new module.
    file : AdapterFile
        The file, for the message.
    stem : str
        The common start of the keys of its tensors, for the message.
    """
    if module.name in modules:
        raise AdapterError(
            file.where(stem), f"is a second update of {module.name}", "Remove one of the two from the file"
        )
    modules[module.name] = module


def refuse_unstorable(adapter: Adapter, format: str, bias: bool = False) -> None:
    """Raise if an adapter holds something that a format cannot store.

    Parameters
    ----------
    adapter : Adapter
        The adapter to write.
    format : str
        Name of the format, for the message.
    bias : bool
        Whether the format stores updates of biases.

    Raises
    ------
    AdapterError
        Names the module or tensor.
    """
    for m in adapter:
        content, fix = "", "Use the format peft"
        if m.expert is not None:
            content = "an expert of a fused parameter"
            fix = "Use the format peft, or split the experts first (eckart convert --experts split)"
        elif m.kind == Kind.EMBEDDING:
            content = "an update of an embedding table"
        elif m.bias is not None and not bias:
            content = "an update of a bias"
        if content:
            raise AdapterError(m.name, f"is {content}, which the {format} format cannot store", fix)
        refuse_number(m.name, adapter)
        if m.scale == 0 or not math.isfinite(m.scale):
            raise AdapterError(m.name, f"has scale {m.scale}, which no program accepts", "Remove this module")
    if adapter.dense or adapter.rows:
        content = "is a whole tensor" if adapter.dense else "has new rows"
        number = len(adapter.dense or adapter.rows)
        others = f" (and {number - 1} more)" if number > 1 else ""
        raise AdapterError(
            min(adapter.dense or adapter.rows),
            f"{content}{others}, which the {format} format cannot store",
            "Use the format peft",
        )


def refuse_number(name: str, adapter: Adapter) -> None:
    """Raise if a module is known only by its number, so that no other format can name it.

    Parameters
    ----------
    name : str
        The module's name.
    adapter : Adapter
        Its adapter.
    """
    component, _, path = name.partition(".")
    if component in adapter.components and path.isdecimal():
        raise AdapterError(
            name,
            "is known only by its number: the modules of the file are not those of Stable Diffusion 1.x",
            "Convert it with the tool that trained it",
        )


def kept_unknown(adapter: Adapter, format: str) -> dict[str, Array]:
    """Return the tensors that are written back unchanged: those of a file in the same format."""
    return adapter.unknown if adapter.format == format else {}


def notes_on_unknown(adapter: Adapter, format: str) -> tuple[str, ...]:
    """Return a note that lists the tensors which writing in another format leaves out."""
    return () if adapter.format == format else left_out_note(adapter.unknown, format)


def alpha_of(module: Module) -> float:
    """Return the alpha which, divided by the rank, gives the module's scale.

    Parameters
    ----------
    module : Module
        A module of any scale.

    Notes
    -----
    scale * rank, rounded and divided by the rank again, may miss the scale by one unit in the last place.
    The alpha that was read is tried first, then the product and its two neighbours.
    """
    product = module.scale * module.rank
    candidates = [product, math.nextafter(product, math.inf), math.nextafter(product, -math.inf)]
    if module.alpha is not None:
        candidates.insert(0, module.alpha)
    return next((alpha for alpha in candidates if alpha / module.rank == module.scale), product)
