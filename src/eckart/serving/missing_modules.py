"""Modules that a program needs and an adapter lacks."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from eckart.adapter.adapter import Module
from eckart.adapter.experts import is_split, zero_module
from eckart.arguments import argument
from eckart.arrays import DType
from eckart.checkpoint import Checkpoint
from eckart.checkpoint.kinds import Kind, kind_of, module_of
from eckart.errors import AdapterError
from eckart.serving.consumer import Consumer

_LAYER = re.compile(r"(.*?\.)(\d+)(\..+)")  # what comes before a layer's number, the number, what follows it


def missing_modules(
    modules: Mapping[str, Module],
    consumers: Sequence[Consumer],
    shapes: Mapping[str, tuple[int, int]],
) -> dict[str, Module | None]:
    """Return the modules that consumers need and the adapter lacks.

    Parameters
    ----------
    modules : mapping of str to Module
        The adapter's modules.
    consumers : sequence of Consumer
    shapes : mapping of str to (int, int)
        The shapes of all matrices of the base, by module name; empty if the base is not known. Modules
        that a known base lacks are not needed.

    Returns
    -------
    dict of str to (Module or None)
        The missing modules by name, each with a module of the same type, and so of the same shape, from
        another layer or expert; None if there is none.
    """
    missing = _missing_companions(modules, consumers, shapes)
    if any(c.all_experts for c in consumers):
        missing |= _missing_experts(modules)
    if any(c.every_layer for c in consumers):
        for name, twin in _missing_in_layers(modules, missing, shapes).items():
            missing.setdefault(name, twin)
    return missing


def zeros_for(name: str, twin: Module | None, shapes: Mapping[str, tuple[int, int]], dtype: DType) -> Module:
    """Return a missing module of zeros, of rank 1.

    Parameters
    ----------
    name : str
    twin : Module or None
        A module of the same type, whose shape and kind it gets where the base's shape is not known.
    shapes : mapping of str to (int, int)
        The shapes of the base's matrices; may be empty.
    dtype : dtype

    Raises
    ------
    AdapterError
        If the shape is not known.
    """
    shape = shapes.get(name) or (twin.shape if twin is not None else None)
    if shape is None:
        raise AdapterError(
            name,
            "a program needs this module, but its shape is not known",
            f"Pass the base model as {argument('base')}",
        )
    return zero_module(name, shape, dtype, Kind.LINEAR if twin is None else twin.kind)


def _missing_companions(
    modules: Mapping[str, Module], consumers: Sequence[Consumer], shapes: Mapping[str, tuple[int, int]]
) -> dict[str, Module | None]:
    """Return the missing modules where a consumer needs several together, e.g. q_proj and v_proj."""
    missing: dict[str, Module | None] = {}
    waiting = list(modules) if any(c.needs for c in consumers) else []
    while waiting:
        path, _, leaf = waiting.pop(0).rpartition(".")
        for companion in dict.fromkeys(needed for c in consumers for needed in c.needs.get(leaf, ())):
            name = f"{path}.{companion}"
            if name not in modules and name not in missing and (not shapes or name in shapes):
                missing[name] = _twin(name, modules)
                waiting.append(name)
    return missing


def _missing_experts(modules: Mapping[str, Module]) -> dict[str, Module | None]:
    """Return the missing matrices of experts, in layers in which at least one expert has a matrix."""
    parts = {name: name.rsplit(".", 2) for name in modules if is_split(name)}
    paths = dict.fromkeys(path for path, _, _ in parts.values())
    by_leaf = {leaf: modules[name] for name, (_, _, leaf) in parts.items()}
    experts = 1 + max((int(number) for _, number, _ in parts.values()), default=-1)
    return {
        f"{path}.{number}.{leaf}": twin
        for path in paths
        for number in range(experts)
        for leaf, twin in by_leaf.items()
        if f"{path}.{number}.{leaf}" not in modules
    }


def _missing_in_layers(
    modules: Mapping[str, Module],
    missing: Mapping[str, Module | None],
    shapes: Mapping[str, tuple[int, int]],
) -> dict[str, Module]:
    """Return the missing modules of every type that is in the adapter or among `missing`, in all layers."""
    types: dict[tuple[str, str], Module] = {}
    last_layer: dict[str, int] = {}
    for name in [*modules, *missing, *shapes]:
        match = _LAYER.fullmatch(name)
        if match is None:
            continue
        before, layer, after = match.groups()
        last_layer[before] = max(last_layer.get(before, 0), int(layer))
        module = modules.get(name) or missing.get(name)
        if module is not None:
            types.setdefault((before, after), module)
    absent = {}
    for (before, after), module in types.items():
        for layer_number in range(last_layer[before] + 1):
            name = f"{before}{layer_number}{after}"
            if name not in modules and (not shapes or name in shapes):
                absent[name] = module
    return absent


def _twin(name: str, modules: Mapping[str, Module]) -> Module | None:
    """Return the first module of the same type in another layer; None if there is none."""
    match = _LAYER.fullmatch(name)
    if match is None:
        return None
    for other_name, module in modules.items():
        other = _LAYER.fullmatch(other_name)
        if other is not None and (other[1], other[3]) == (match[1], match[3]):
            return module
    return None


def matrix_shapes(base: Checkpoint | None) -> dict[str, tuple[int, int]]:
    """Return the shapes of a base's linear layers by module name; empty without a base."""
    if base is None:
        return {}
    return {
        module_of(name): (info.shape[0], info.shape[1])
        for name, info in base.tensors.items()
        if len(info.shape) == 2 and kind_of(name, info.shape, base.config).is_linear
    }
