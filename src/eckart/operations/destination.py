"""Destination: where and in which format a new adapter is written, checked before slow work."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from eckart.adapter.adapter import Adapter
from eckart.adapter.formats import FORMATS, written_format
from eckart.adapter.formats.peft.settings import CONFIG
from eckart.adapter.formats.registry import folder_formats
from eckart.adapter.formats.streaming import check_place
from eckart.arguments import argument
from eckart.checkpoint import refuse_overlap
from eckart.checks import check_choice
from eckart.errors import UsageError
from eckart.paths import user_path
from eckart.serving.layout import Layout


@dataclass(frozen=True)
class Destination:
    """Where a new adapter goes, and how it is written.

    Parameters
    ----------
    path : str or Path, optional
        A folder for PEFT's format, a ``.safetensors`` file for the others; None keeps the result in memory.
    format : str, optional
        The format to write. By default the one that the consumers prefer, or that of the source.
    overwrite : bool
        Whether to replace an existing adapter.
    """

    path: str | Path | None
    format: str | None = None
    overwrite: bool = False

    def __post_init__(self) -> None:
        if self.format is not None:
            object.__setattr__(self, "format", check_choice(self.format, "format", FORMATS))

    def check(self, template: Adapter, layout: Layout, inputs: Iterable[Path | None]) -> None:
        """Check everything that does not depend on the ranks.

        Parameters
        ----------
        template : Adapter
            The new adapter, at any rank.
        layout : Layout
            The requirements of the consumers.
        inputs : iterable of Path or None
            Files and folders that the adapter is made from.

        Raises
        ------
        UsageError
            If some consumer does not read the format.
        OutputError
            If the path does not fit the format, already exists, or is or contains an input.
        """
        if self.format is not None and self.path is None:
            raise UsageError(
                f"format={self.format!r}",
                "an adapter that stays in memory has no format",
                f"Pass {argument('out')}, or call result.adapter.save(path, format)",
            )
        chosen = self.format_for(template, layout)
        if layout.consumers and chosen not in layout.formats:
            raise UsageError(
                argument("format", chosen),
                "not every program of the list reads this format",
                f"Use {' or '.join(argument('format', name) for name in layout.formats)}",
            )
        if self.path is not None:
            refuse_overlap(self.path, inputs)
            is_folder = chosen in folder_formats()
            marker = os.path.join(*template.components[:1], CONFIG) if is_folder else ""
            check_place(user_path(self.path), is_folder, marker, self.overwrite)

    def format_for(self, template: Adapter, layout: Layout) -> str:
        """Return the format to write; parameters as for `check`."""
        return self.format or layout.format or written_format(template)

    def refuse_misread_alphas(self, adapter: Adapter, layout: Layout) -> None:
        """Raise if a consumer reads one alpha for all modules from the format, and the alphas vary.

        Parameters
        ----------
        adapter : Adapter
            The new adapter. Its alphas are its ranks.
        layout : Layout
            The requirements of the consumers.
        """
        chosen = self.format_for(adapter, layout)
        if len({module.rank for module in adapter}) < 2:
            return
        for consumer in layout.consumers:
            if chosen in consumer.one_alpha_in:
                raise UsageError(
                    argument("format", chosen),
                    f"{consumer.title} would misread this format, because the ranks vary",
                    f"Use {argument('format', consumer.formats[0])} or {argument('uniform', True)}",
                )
