"""Consumer: a program that loads adapters, described by its rules."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from enum import Enum

from eckart.adapter.experts import ExpertsLayout


class Treatment(Enum):
    """What a program does with a part of an adapter."""

    LOADS = "loads"
    REFUSES = "refuses"  # it stops with an error
    DROPS = "drops"  # it silently leaves the part out

    @property
    def is_read(self) -> bool:
        """Whether the program loads the part."""
        return self is Treatment.LOADS


class Scaling(Enum):
    """What a program multiplies B A by.

    ``MODULE``: alpha / r of each module, with PEFT's rank and alpha patterns.
    ``GLOBAL``: ``lora_alpha / r`` of the configuration, for every module.
    ``TENSOR``: ``lora_alpha`` of the configuration over the rank of each tensor, or over the root of that
    rank for rsLoRA.
    ``FILE``: the alpha stored next to each module's tensors over their rank; 1 if the file stores no alpha.
    """

    MODULE = "module"
    GLOBAL = "global"
    TENSOR = "tensor"
    FILE = "file"


@dataclass(frozen=True)
class Consumer:
    """A program that loads adapters, described by its rules.

    Parameters
    ----------
    name : str
        Name on the command line.
    title : str
        Name as its developers write it.
    source : str
        Project, version or commit, and files from which these facts were read.
    formats : tuple of str
        Formats that it reads, the preferred one first.
    scale : Scaling
        What it multiplies B A by.
    metadata : bool
        Whether it also reads alphas from the file's metadata (``lora_adapter_metadata`` of diffusers).
    one_alpha_in : tuple of str
        Formats that it reads correctly only if all modules have the same alpha.
    rslora : bool
        Whether it respects ``use_rslora``.
    one_rank : bool
        Whether every module must have the configuration's ``r``.
    one_rank_per_stack : bool
        Whether the experts of each fused parameter must have one rank.
    ranks : tuple of int
        The ranks for which it computes the correct update; empty for any rank.
    order : tuple of str
        The order in which it loads the types of modules, if only some ranks are correct. The first type is
        scaled by the configuration's rank, all others by the padded rank.
    max_rank : int, optional
        The largest rank that it can be configured to accept.
    limits : tuple of int
        Accepted values of the option that sets the largest rank; empty if any value is accepted.
    option : str
        That option.
    whole, bias, embeddings, conv, heads : Treatment
        What it does with tensors saved whole (``modules_to_save``), with ``lora_B.bias``, and with the
        factors of embedding tables, convolutions and output layers. Required: every entry states all of them.
    experts : ExpertsLayout or None
        The layout of mixture-of-experts layers that it reads correctly; None if it reads neither. Required.
    other_experts : Treatment
        What it does with experts in a layout that it does not read. Required.
    exceptions : tuple of (str, Treatment)
        Exceptions from ``whole``: a regular expression for tensor names, and what it does with those.
    all_experts : bool
        Whether all experts of a layer must have an update if one of them has.
    every_layer : bool
        Whether it drops a type of module from all layers if one layer lacks it.
    needs : mapping of str to tuple of str
        Modules that must appear together: for the last part of a module's name, the last parts of the modules
        that it needs next to it.
    lists_targets : bool
        Whether ``target_modules`` must be a list, or PEFT's ``all-linear``.
    """

    name: str
    title: str
    source: str
    formats: tuple[str, ...] = ("peft",)
    scale: Scaling = Scaling.MODULE
    metadata: bool = False
    one_alpha_in: tuple[str, ...] = ()
    rslora: bool = True
    one_rank: bool = False
    one_rank_per_stack: bool = False
    ranks: tuple[int, ...] = ()
    order: tuple[str, ...] = ()
    max_rank: int | None = None
    limits: tuple[int, ...] = ()
    option: str = ""
    _: KW_ONLY
    # These have no defaults, because a default would claim something about a program that nobody looked up.
    whole: Treatment
    bias: Treatment
    embeddings: Treatment
    conv: Treatment
    heads: Treatment
    experts: ExpertsLayout | None
    other_experts: Treatment
    exceptions: tuple[tuple[str, Treatment], ...] = ()
    all_experts: bool = False
    every_layer: bool = False
    needs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    lists_targets: bool = False

    def whole_treatment(self, name: str) -> Treatment:
        """Return what the program does with a tensor saved whole, or with replaced rows of one.

        Parameters
        ----------
        name : str
            The tensor's name in the model.
        """
        for pattern, treatment in self.exceptions:
            if re.search(pattern, name):
                return treatment
        return self.whole

    def padded(self, rank: int) -> int:
        """Return the rank to which the program pads a module.

        Parameters
        ----------
        rank : int
            The module's rank.
        """
        return next((r for r in self.ranks if r >= rank), rank)

    def limit_for(self, rank: int) -> int | None:
        """Return the smallest value of `option` that admits an adapter; None if there is none.

        Parameters
        ----------
        rank : int
            The adapter's largest rank.
        """
        return next((limit for limit in self.limits if limit >= rank), None)

    def start_option(self, rank: int) -> str:
        """Return the option with which the program must be started for an adapter, or ``""``.

        Parameters
        ----------
        rank : int
            The adapter's largest rank.
        """
        if not self.option:
            return ""
        return f"{self.option} {self.limit_for(rank) or rank}"
