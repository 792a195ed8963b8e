"""What the formats of one file share: telling them apart, and what has no place in them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from eckart.adapter.adapter import Adapter, Array, Module
from eckart.adapter.formats.file import AdapterFile
from eckart.adapter.formats.pairs import refuse_other_kinds
from eckart.adapter.formats.peft.peft import PREFIX
from eckart.adapter.formats.single_file.names import split_component
from eckart.adapter.formats.write import statement_beside
from eckart.adapter.statement import read_statement
from eckart.checkpoint.locate import check_link
from eckart.errors import AdapterError

# A key that holds a factor, by format; the stem is what it has in common with its partner.
FACTORS = {
    "kohya": re.compile(r"(?P<stem>.+)\.lora_(?P<part>down|up|mid)\.weight"),
    "diffusers": re.compile(
        r"(?P<stem>.+)\.lora_(?P<part>[AB])(?:\.default)?\.(?P<leaf>weight|bias)"
        r"|(?P<old_stem>.+?)(?P<style>\.lora|_lora|\.lora_linear_layer)\.(?P<old_part>down|up)\.weight"
    ),
    "cloneofsimo": re.compile(r"(?P<component>unet|text_encoder):(?P<number>\d+):(?P<part>up|down)"),
}


def has_factors(keys: Iterable[str], format: str) -> bool:
    """Whether any key is that of a factor in a format."""
    return any(FACTORS[format].fullmatch(key) and not key.startswith(PREFIX) for key in keys)


def check_file(file: AdapterFile, format: str) -> None:
    """Raise if a file is of another kind than LoRA, or holds factors in two formats."""
    refuse_other_kinds(file.path, file.keys)
    for key in file.keys:
        found = [name for name in FACTORS if name != format and FACTORS[name].fullmatch(key)]
        if found or key.startswith(PREFIX):
            other = "peft" if key.startswith(PREFIX) else found[0]
            raise AdapterError(
                file.where(key),
                f"is in the format of {other}, and other tensors of the file are in that of {format}",
                "Give each adapter a file of its own",
            )


def finish_reading(adapter: Adapter, file: AdapterFile) -> Adapter:
    """Add what the adapter states about itself, and a note of what was not understood."""
    if not adapter.modules:
        raise AdapterError(str(file.path), "holds no LoRA factors", "Give a LoRA adapter")
    for name in adapter.modules:
        split_component(name, adapter.components)
    beside = statement_beside(file.path)
    if beside.is_file():
        check_link(beside.parent, beside)
        adapter.statement = read_statement(beside)
    adapter.note_unknown()
    return adapter


def put(adapter: Adapter, module: Module, file: AdapterFile, stem: str) -> None:
    """Add a module; raise if there is one of its name."""
    if module.name in adapter.modules:
        raise AdapterError(file.where(stem), f"is a second update of {module.name}")
    adapter.modules[module.name] = module


def refuse_what_has_no_place(adapter: Adapter, format: str, bias: bool = False) -> None:
    """Raise if an adapter holds what a format cannot say.

    Parameters
    ----------
    adapter : Adapter
    format : str
        For the message.
    bias : bool
        Whether the format has updates of biases.
    """
    for m in adapter:
        what, fix = "", "Write it as peft"
        if m.expert is not None:
            what, fix = "an expert of a fused parameter", "Write it as peft, or split the experts first"
        elif m.kind == "embedding":
            what = "an update of an embedding table"
        elif m.bias is not None and not bias:
            what = "an update of a bias"
        if what:
            raise AdapterError(m.name, f"is {what}, which has no place in the format of {format}", fix)
        refuse_number(m.name, adapter)
        if m.scale == 0 or not math.isfinite(m.scale):
            raise AdapterError(m.name, f"has the scale {m.scale}, which no reader takes", "Leave it out")
    if adapter.dense or adapter.rows:
        what = "is a whole tensor" if adapter.dense else "has new rows"
        count = len(adapter.dense or adapter.rows)
        raise AdapterError(
            min(adapter.dense or adapter.rows),
            f"{what}, one of {count}, which have no place in the format of {format}",
            "Write it as peft",
        )


def refuse_number(name: str, adapter: Adapter) -> None:
    """Raise if a module is known by a number only: no other format could say which it is."""
    component, _, path = name.partition(".")
    if component in adapter.components and path.isdecimal():
        raise AdapterError(
            name,
            "is known by its number only: the file is not of Stable Diffusion 1.x, and does not say which "
            "module that is",
            "Convert it with the tool that made it",
        )


def kept_unknown(adapter: Adapter, format: str) -> dict[str, Array]:
    """Return the tensors that are written as found; those of other formats stay out, which is noted."""
    if adapter.format == format:
        return adapter.unknown
    adapter.note_left_out(format)
    return {}


def alpha_of(module: Module) -> float:
    """Return the alpha by which a reader that divides it by the rank comes to the module's scale.

    Notes
    -----
    scale * rank, rounded, divided by the rank again, may miss the scale by one unit in the last place.
    The alpha that was read is tried first, and then the neighbours.
    """
    product = module.scale * module.rank
    candidates = [product, math.nextafter(product, math.inf), math.nextafter(product, -math.inf)]
    if module.alpha is not None:
        candidates.insert(0, module.alpha)
    return next((alpha for alpha in candidates if alpha / module.rank == module.scale), product)
