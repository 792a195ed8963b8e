"""The PEFT format: adapter_config.json and adapter_model.safetensors, read and written."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from eckart.adapter.adapter import Adapter, Array, Module, by_parameter, expert_name
from eckart.adapter.formats.file import AdapterFile
from eckart.adapter.formats.pairs import build_module, conv_shaped, refuse_other_kinds, scale_of
from eckart.adapter.formats.peft.config import (
    CONFIG,
    Pattern,
    in_order,
    make_config,
    nesting,
    read_config,
)
from eckart.adapter.formats.peft.whole import keyed, take_whole
from eckart.adapter.formats.writer import FilePlan
from eckart.adapter.statement import STATEMENT, Statement, read_statement
from eckart.checkpoint import write_json
from eckart.checkpoint.foreign import refuse_foreign
from eckart.checkpoint.kinds import module_of
from eckart.errors import AdapterError

WEIGHTS = "adapter_model.safetensors"
PREFIX = "base_model.model."

_FACTOR = re.compile(r"(.+)\.lora_(embedding_)?([AB])(?:\.default)?(?:\.(weight|bias))?")


def read_peft(path: str | Path) -> Adapter:
    """Read a PEFT LoRA adapter.

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
    halves: dict[str, dict[str, str]] = {}
    adapter = Adapter({}, config=config, path=folder, files=[file])
    for key in file.keys:
        name = key.removeprefix(PREFIX)
        found = _FACTOR.fullmatch(name)
        if found:
            part = "bias" if found[4] == "bias" else found[3]
            halves.setdefault(found[1], {})[part] = key
        elif not take_whole(name, key, file, adapter):
            adapter.unknown[key] = file.raw(key)
    read = _Reader(file, config, halves)
    for name in halves:
        for module in read.modules(name):
            adapter.modules[module.name] = module
    if not adapter.modules and not adapter.dense:
        raise AdapterError(str(file.path), "holds no LoRA factors", "Give a LoRA adapter")
    config["_modules"] = sorted(adapter.modules)  # so that a writer knows whether the targets still fit
    adapter.statement = read_statement(folder / STATEMENT)
    adapter.note_unknown()
    return adapter


class _Reader:
    """Makes modules of the halves found in a file, with the ranks and alphas of its configuration."""

    def __init__(self, file: AdapterFile, config: dict[str, Any], halves: dict[str, dict[str, str]]) -> None:
        self.file, self.halves = file, halves
        self.ranks = Pattern(config.get("rank_pattern") or {}, config.get("r"))
        self.alphas = Pattern(config.get("alpha_pattern") or {}, config.get("lora_alpha"))
        self.rslora = bool(config.get("use_rslora"))
        self.parameters = [str(p) for p in config.get("target_parameters") or []]

    def modules(self, name: str) -> list[Module]:
        """Return the module of that path, or one for every expert of a fused parameter."""
        keys = self.halves[name]
        container = re.sub(r"(\.base_layer)+$", "", name)
        parameter = self._parameter(name, container) if self.parameters else None
        if parameter is not None and not parameter.endswith(".weight"):
            return self._experts(name, parameter)
        embedding = any("lora_embedding_" in key for key in keys.values())
        alpha = self.alphas[parameter or container]
        where = f"{self.file.path}: {container}"
        scale_of(alpha, 1, False, where)  # checks that it is a number
        module = build_module(
            self.file, container, keys, alpha, self.rslora, "embedding" if embedding else "linear"
        )
        if parameter is not None:
            module = replace(module, kind="router")
        self._check_rank(where, self.ranks[parameter or container], module.rank)
        return [module]

    def _check_rank(self, where: str, stated: Any, rank: int) -> None:
        if stated != rank:
            raise AdapterError(
                where,
                f"has rank {rank}, and the configuration says {stated!r}",
                f"Correct r or rank_pattern in {CONFIG}",
            )

    def _parameter(self, name: str, container: str) -> str | None:
        """Return the fused parameter that a wrapper's key stands for."""
        leaves = in_order([
            f"{container}.{leaf}"
            for leaf in {p.rpartition(".")[2] for p in self.parameters}
            if any(f".{container}.{leaf}".endswith(f".{p}") for p in self.parameters)
        ])  # fmt: skip
        depth = name[len(container) :].count(".base_layer")
        levels = sum(re.sub(r"(\.base_layer)+$", "", other) == container for other in self.halves)
        if not leaves and not depth:
            return None
        if levels != len(leaves):
            raise AdapterError(
                f"{self.file.path}: {container}",
                f"{levels} pairs of factors for {len(leaves)} target_parameters: {', '.join(leaves)}",
                "The configuration and the file do not belong together",
            )
        return leaves[len(leaves) - 1 - depth]

    def _experts(self, name: str, parameter: str) -> list[Module]:
        """Take a stack apart: A is (E r, d_in), expert by expert; B is (d_out, r E), expert the fastest."""
        where = f"{self.file.path}: {parameter}"
        whole = build_module(self.file, name, self.halves[name], None)
        rank = self.ranks[parameter]
        if not isinstance(rank, int) or rank < 1 or whole.rank % rank:
            raise AdapterError(where, f"has {whole.rank} components, which is no multiple of its rank {rank}")
        alpha = self.alphas[parameter]
        scale = scale_of(alpha, rank, self.rslora, where)
        experts = whole.rank // rank
        A = whole.right.reshape(experts, rank, -1)
        B = whole.left.reshape(-1, rank, experts)
        return [
            Module(expert_name(parameter, e), "expert", B[:, :, e], A[e], scale, alpha=alpha)
            for e in range(experts)
        ]


class PeftWriter:
    """Lays an adapter out as PEFT does.

    Parameters
    ----------
    adapter : Adapter
        Its modules may be outlines, see `Module.of_rank`.
    **about
        Passed on to `make_config`: base_name, base_modules, task.
    """

    marker = CONFIG
    folder = True

    def __init__(self, adapter: Adapter, **about: Any) -> None:
        if adapter.format != "peft" and not adapter.components:
            adapter.note_left_out("peft")
        self.adapter = _with_all_biases(_even_experts(adapter))
        self.about = about
        self.depth = nesting(self.adapter.modules)
        self.ranks = {name: group[0].rank for name, group in by_parameter(self.adapter.modules).items()}

    def files(self) -> list[FilePlan]:
        """Return the one file, with the experts of a parameter in one group."""
        stacks = by_parameter(self.adapter.modules)
        groups = [[m.name] for m in self.adapter if m.expert is None]
        groups += [[m.name for m in stack] for stack in stacks.values()]
        fixed = keyed(self.adapter, PREFIX)
        fixed |= self.adapter.unknown if self.adapter.format == "peft" else {}
        return [FilePlan(Path(WEIGHTS), groups, fixed, {"format": "pt"})]

    def tensors(self, modules: Sequence[Module]) -> dict[str, Array]:
        """Return the tensors of one group of modules by their keys."""
        stack = modules[0].expert
        if stack is not None:
            return self._stacked(stack[0], modules)
        (m,) = modules
        key = PREFIX + m.name
        B, A = conv_shaped(m)
        if m.kind == "embedding":
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
        key = PREFIX + module_of(parameter) + ".base_layer" * self.depth[parameter]
        return {f"{key}.lora_A.weight": A, f"{key}.lora_B.weight": B.reshape(len(B), -1)}

    def finish(self, folder: Path, statement: Statement | None) -> None:
        """Write the configuration and the statement."""
        config = make_config(self.adapter, **self.about)
        write_json(folder / CONFIG, config)
        if statement is not None:
            write_json(folder / STATEMENT, statement.to_json())


def _even_experts(adapter: Adapter) -> Adapter:
    """Give the experts of a parameter one rank, the largest among them, and none a gap: PEFT's layout.

    The modules become outlines; `PeftWriter.tensors` pads what it is given.
    """
    modules = dict(adapter.modules)
    for parameter, group in by_parameter(modules).items():
        rank = max(m.rank for m in group)
        if len({m.scale for m in group}) > 1:
            raise AdapterError(parameter, "its experts have different scales", "Fold them into the factors")
        if [m.expert for m in group] != [(parameter, e) for e in range(len(group))]:
            raise AdapterError(parameter, "lacks some of its experts, and PEFT holds them in one stack")
        for m in group:
            modules[m.name] = replace(m.of_rank(rank, m.dtype), scale=m.scale)
    return replace(adapter, modules=modules)


def _with_all_biases(adapter: Adapter) -> Adapter:
    """Give every module a bias if any has one: PEFT's ``lora_bias`` is for all or none.

    PEFT merges such an adapter only where every adapted layer of the base has a bias of its own.
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


def task_type(config: dict[str, Any]) -> str | None:
    """Return PEFT's task type, where setting it does no more than choose a class.

    SEQ_CLS and TOKEN_CLS are left out on purpose: with them PEFT adds the classifier to
    ``modules_to_save`` by itself, beside the factors that the adapter has for it.
    """
    architectures = config.get("architectures")
    name = str(architectures[0]) if isinstance(architectures, list) and architectures else ""
    if name.endswith(("ForCausalLM", "LMHeadModel")):
        return "CAUSAL_LM"
    if name.endswith("ForConditionalGeneration") and config.get("is_encoder_decoder"):
        return "SEQ_2_SEQ_LM"
    return None
