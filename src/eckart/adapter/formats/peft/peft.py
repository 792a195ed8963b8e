"""The PEFT format: adapter_config.json and adapter_model.safetensors, read and written."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from eckart.adapter.adapter import Adapter, Module, by_parameter, expert_name
from eckart.adapter.formats.file import AdapterFile
from eckart.adapter.formats.pairs import (
    PEFT_PREFIX,
    build_module,
    check_alpha,
    conv_shaped,
    refuse_other_kinds,
    scale_of,
)
from eckart.adapter.formats.peft.config import PeftOptions, in_order, make_config, nesting
from eckart.adapter.formats.peft.origin import PeftOrigin
from eckart.adapter.formats.peft.settings import CONFIG, PeftConfig, read_config
from eckart.adapter.formats.peft.whole import WholeTensors, keyed
from eckart.adapter.formats.writer import FilePlan, left_out_note, unknown_note
from eckart.adapter.statement import STATEMENT, Statement, read_statement
from eckart.arrays import Array
from eckart.checkpoint import write_json
from eckart.checkpoint.foreign import refuse_foreign
from eckart.checkpoint.kinds import Kind, module_of
from eckart.checks import is_whole_number
from eckart.errors import AdapterError
from eckart.text import clip

WEIGHTS = "adapter_model.safetensors"

PEFT_KEY = re.compile(re.escape(PEFT_PREFIX) + ".+")

_FACTOR = re.compile(r"(.+)\.lora_(embedding_)?([AB])(?:\.default)?(?:\.(weight|bias))?")
_WRAPPERS = re.compile(r"(\.base_layer)+$")


def read_peft(path: str | Path) -> Adapter:
    """Read a PEFT LoRA adapter.

    Parameters
    ----------
    path : path
        The folder that holds ``adapter_config.json``.

    Returns
    -------
    Adapter
        Its arrays are views of the mapped file.

    Raises
    ------
    AdapterError
        If it is not LoRA, a module has one factor without the other, shapes do not chain, a rank
        contradicts the configuration, or an entry is NaN.
    """
    folder = Path(path)
    config = read_config(folder)
    pickle = folder / "adapter_model.bin"
    if pickle.is_file() and not (folder / WEIGHTS).is_file():
        refuse_foreign(pickle, b"PK\x03\x04")
    file = AdapterFile(folder / WEIGHTS)
    refuse_other_kinds(file.path, file.keys)
    keys_by_name: dict[str, dict[str, str]] = {}
    whole = WholeTensors(file, config.data)
    unknown: dict[str, Array] = {}
    for key in file.keys:
        name = key.removeprefix(PEFT_PREFIX)
        factor = _FACTOR.fullmatch(name)
        if factor:
            part = "bias" if factor[4] == "bias" else factor[3]
            keys_by_name.setdefault(factor[1], {})[part] = key
        elif not whole.add(name, key):
            unknown[key] = file.raw(key)
    reader = _Reader(file, config, keys_by_name)
    modules = {module.name: module for name in keys_by_name for module in reader.modules(name)}
    if not modules and not whole.dense:
        raise AdapterError(str(file.path), "expected LoRA factors, found none", "Use a LoRA adapter")
    return Adapter(
        modules,
        dense=whole.dense,
        rows=whole.rows,
        config=config.data,
        statement=read_statement(folder / STATEMENT),
        unknown=unknown,
        path=folder,
        notes=unknown_note(unknown),
        files=file.mapped,
        origin=PeftOrigin(tuple(sorted(modules)), whole.keys, tuple(whole.tables)),
    )


class _Reader:
    """Builds modules from the factors in a file, with the ranks and alphas of its configuration."""

    def __init__(
        self, file: AdapterFile, config: PeftConfig, keys_by_name: Mapping[str, dict[str, str]]
    ) -> None:
        self.file, self.keys_by_name = file, keys_by_name
        self.ranks, self.alphas = config.ranks, config.alphas
        self.rslora = bool(config.settings.use_rslora)
        self.parameters: dict[str, set[str]] = {}  # the last parts of their names, by what precedes these
        for parameter in config.settings.target_parameters or []:
            self.parameters.setdefault(module_of(parameter), set()).add(parameter.rpartition(".")[2])
        self.levels = Counter(_WRAPPERS.sub("", name) for name in keys_by_name)

    def modules(self, name: str) -> list[Module]:
        """Return the module of a path, or one for every expert of a fused parameter."""
        keys = self.keys_by_name[name]
        container = _WRAPPERS.sub("", name)
        parameter = self._parameter(name, container) if self.parameters else None
        if parameter is not None and not parameter.endswith(".weight"):
            return self._experts(name, parameter)
        is_embedding = any("lora_embedding_" in key for key in keys.values())
        where = f"{self.file.path}: {container}"
        alpha = check_alpha(self.alphas[parameter or container], where)
        kind = Kind.EMBEDDING if is_embedding else Kind.LINEAR
        module = build_module(self.file, container, keys, alpha, self.rslora, kind)
        if parameter is not None:
            module = replace(module, kind=Kind.ROUTER)
        stated = self.ranks[parameter or container]
        if stated != module.rank:
            raise AdapterError(
                where,
                f"has rank {module.rank}, but the configuration states {clip(repr(stated), 40)}",
                f"Correct r or rank_pattern in {CONFIG}",
            )
        return [module]

    def _parameter(self, name: str, container: str) -> str | None:
        """Return the fused parameter that a wrapper's key stands for."""
        endings = [
            container,
            *(container[i + 1 :] for i, letter in enumerate(container) if letter == "."),
            "",
        ]
        leaves = set().union(*(self.parameters.get(ending, set()) for ending in endings))
        adapted = in_order(f"{container}.{leaf}" for leaf in leaves)
        depth = name[len(container) :].count(".base_layer")
        levels = self.levels[container]
        if not adapted and not depth:
            return None
        if levels != len(adapted):
            raise AdapterError(
                f"{self.file.path}: {container}",
                f"has {levels} pairs of factors for {len(adapted)} target_parameters: {', '.join(adapted)}",
                "Use the configuration and the weights of the same adapter",
            )
        return adapted[len(adapted) - 1 - depth]

    def _experts(self, name: str, parameter: str) -> list[Module]:
        """Split a stack into experts; A is (E r, d_in), and in B, (d_out, r E), the expert varies fastest."""
        where = f"{self.file.path}: {parameter}"
        stack = build_module(self.file, name, self.keys_by_name[name], None)
        rank = self.ranks[parameter]
        if not is_whole_number(rank, least=1) or stack.rank % rank:
            raise AdapterError(
                where,
                f"has {stack.rank} components, which is not a multiple of its rank {clip(repr(rank), 40)}",
                f"Correct r or rank_pattern in {CONFIG}",
            )
        alpha = check_alpha(self.alphas[parameter], where)
        scale = scale_of(alpha, rank, self.rslora, where)
        experts = stack.rank // rank
        A = stack.right.reshape(experts, rank, -1)  # (E, r, d_in)
        B = stack.left.reshape(-1, rank, experts)  # (d_out, r, E)
        return [
            Module(expert_name(parameter, e), Kind.EXPERT, B[:, :, e], A[e], scale, alpha=alpha)
            for e in range(experts)
        ]


class PeftWriter:
    """Lays an adapter out as a PEFT folder.

    Parameters
    ----------
    adapter : Adapter
        Its modules may be outlines; see `Module.of_rank`.
    options : PeftOptions, optional
        What is known about the base model.

    Raises
    ------
    AdapterError
        If the experts of a fused parameter are incomplete or have different scales.
    """

    marker = CONFIG
    is_folder = True

    def __init__(self, adapter: Adapter, options: PeftOptions | None = None) -> None:
        is_converted = adapter.format != "peft" and not adapter.components
        self.notes = left_out_note(adapter.unknown, "peft") if is_converted else ()
        self.adapter = _with_all_biases(_even_experts(adapter))
        self.options = options or PeftOptions()
        self.depth = nesting(self.adapter.modules)
        self.ranks = {name: group[0].rank for name, group in by_parameter(self.adapter.modules).items()}

    def files(self) -> list[FilePlan]:
        """Return the one file, with the experts of a parameter in one group."""
        stacks = by_parameter(self.adapter.modules)
        groups = [[m.name] for m in self.adapter if m.expert is None]
        groups += [[m.name for m in stack] for stack in stacks.values()]
        fixed = keyed(self.adapter)
        fixed |= self.adapter.unknown if self.adapter.format == "peft" else {}
        return [FilePlan(Path(WEIGHTS), groups, fixed, {"format": "pt"})]

    def tensors(self, modules: Sequence[Module]) -> dict[str, Array]:
        """Return the tensors of one group of modules by their keys."""
        stack = modules[0].expert
        if stack is not None:
            return self._stacked(stack[0], modules)
        (m,) = modules
        key = PEFT_PREFIX + m.name
        B, A = conv_shaped(m)
        if m.kind == Kind.EMBEDDING:
            tensors = {f"{key}.lora_embedding_A": A, f"{key}.lora_embedding_B": B}
        else:
            tensors = {f"{key}.lora_A.weight": A, f"{key}.lora_B.weight": B}
        bias = self.adapter.modules[m.name].bias if m.bias is None else m.bias
        if bias is not None:
            tensors[f"{key}.lora_B.bias"] = bias
        return tensors

    def _stacked(self, parameter: str, experts: Sequence[Module]) -> dict[str, Array]:
        rank = self.ranks[parameter]
        pairs = [m.padded(rank).BA for m in experts]
        A = np.concatenate([a for _, a in pairs])  # (E r, d_in)
        B = np.stack([b for b, _ in pairs], axis=2)  # (d_out, r, E)
        key = PEFT_PREFIX + module_of(parameter) + ".base_layer" * self.depth[parameter]
        return {f"{key}.lora_A.weight": A, f"{key}.lora_B.weight": B.reshape(len(B), -1)}

    def finish(self, folder: Path, statement: Statement | None) -> None:
        """Write the configuration and the statement."""
        write_json(folder / CONFIG, make_config(self.adapter, self.options))
        if statement is not None:
            write_json(folder / STATEMENT, statement.to_json())


def _even_experts(adapter: Adapter) -> Adapter:
    """Give the experts of each fused parameter one rank, the largest among them, as PEFT's stacks need it.

    The modules become outlines; `PeftWriter.tensors` pads the factors.
    """
    modules = dict(adapter.modules)
    for parameter, group in by_parameter(modules).items():
        rank = max(m.rank for m in group)
        if len({m.scale for m in group}) > 1:
            raise AdapterError(
                parameter,
                "its experts have different scales, and PEFT has one for all",
                "Run eckart convert with --experts fused, which folds the scales into the factors",
            )
        if [m.expert for m in group] != [(parameter, e) for e in range(len(group))]:
            raise AdapterError(
                parameter,
                f"expected all experts, found {len(group)} with gaps between them; PEFT needs a full stack",
                "Add the missing experts, with factors of zeros",
            )
        for m in group:
            modules[m.name] = replace(m.of_rank(rank, m.dtype), scale=m.scale)
    return replace(adapter, modules=modules)


def _with_all_biases(adapter: Adapter) -> Adapter:
    """Give every module a bias if any has one, because PEFT's ``lora_bias`` is one switch for all.

    PEFT merges such an adapter only if every adapted layer of the base has a bias.
    """
    if all(m.bias is None for m in adapter):
        return adapter
    return replace(
        adapter,
        modules={
            name: replace(m, bias=np.zeros(m.BA[0].shape[0], m.dtype)) if m.bias is None else m
            for name, m in adapter.modules.items()
        },
    )
