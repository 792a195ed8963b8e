"""Tables of spectra: one row per layer of a pair of checkpoints, or per module of an adapter."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from eckart.cli import console
from eckart.cli.tables import Cell, Cells, Column, print_legend, print_table
from eckart.extraction.inspect import LayersSummary
from eckart.operations.inspect import AdapterSummary
from eckart.store.sources import LORA_KINDS
from eckart.store.summary import ENERGIES, LayerSummary
from eckart.text import count, rank_range

LAYER = Column("layer", Cells.NAME, full="Name of the matrix, without .weight.")
MODULE = Column("module", Cells.NAME, full="Name of the layer that B A is added to.")
SHAPE = Column("shape", full="Rows x columns.")
RELATIVE = Column(
    "|dW|/|W|",
    short="size of the update relative to the weight",
    full='Frobenius norm of the update divided by that of the base weight; "-" without a base.',
)
STORED = Column("rank", short="rank of the stored factors", full="Rank of the stored factors B and A.")
SIZE = Column("|BA|", short="size of the update", full="Frobenius norm of the update, scale included.")
SIZE_OF_WEIGHT = Column(
    "|BA|/|W|",
    short="the same relative to the weight",
    full="The same divided by the norm of the base weight.",
)
SIGMA_1 = Column("sigma_1", short="largest singular value", full="Largest singular value.")
FIRST = Column(
    "first", short="share of energy in sigma_1", full="Share of the energy in the first component."
)
STABLE = Column(
    "stable",
    short="stable rank",
    full="Stable rank, |dW|^2 / sigma_1^2: near 1 if one component dominates.",
)
EFFECTIVE = Column(
    "effective",
    short="effective rank",
    full="Effective rank, exp of the entropy of sigma / sum sigma: the full rank if all sigma are equal.",
)
RANKS = tuple(
    Column(
        f"r{100 * energy:.0f}",
        short="least rank with 90% of the energy" if energy == 0.9 else "",
        full="Least ranks that keep 80, 90, 95 and 99% of the energy, the sum of the squared sigma.",
    )
    for energy in ENERGIES
)
KNEE = Column(
    "knee",
    short="rank where the energy curve bends",
    full='Rank at which the curve of energy against rank bends from steep to flat; "-" if it does not bend.',
)
ABOVE_NOISE = Column(
    "above noise",
    short="singular values above rounding noise",
    full="Number of singular values larger than rounding of the checkpoints alone can cause.",
)
DECAY = Column(
    "decay",
    full='"fast" if a tenth of the ranks hold 90% of the energy, otherwise "slow"; "unknown" if too few '
    "singular values are known.",
)
UNCHANGED = Column(
    "unchanged",
    short="entries equal in both checkpoints",
    full="Share of the entries that are equal in both checkpoints.",
)

LAYER_COLUMNS = (
    LAYER,
    SHAPE,
    RELATIVE,
    SIGMA_1,
    STABLE,
    EFFECTIVE,
    *RANKS,
    KNEE,
    ABOVE_NOISE,
    DECAY,
    UNCHANGED,
)
DROP = (
    "effective",
    "decay",
    "unchanged",
    "sigma_1",
    "stable",
    "r80",
    "shape",
    "r95",
    "knee",
    "r99",
    "above noise",
)
DROP_OF_ADAPTER = ("effective", "sigma_1", "stable", "r80", "r95", "knee", "shape", "r99", "first", "|BA|")


def print_layers(summary: LayersSummary, explain: bool = False, most: int | None = None) -> None:
    """Print the table of layers, its legend, a line of totals, and the diagnosis.

    Parameters
    ----------
    summary : LayersSummary
        The layers.
    explain : bool
        Explain every column below the table.
    most : int, optional
        Print only this many rows.
    """
    cells: list[list[Cell]] = [
        [
            r.name.removesuffix(".weight"),
            console.shape(r.shape),
            console.figure(r.relative),
            console.figure(r.sigma_1),
            console.figure(r.stable_rank),
            console.figure(r.effective_rank),
            *r.ranks.values(),
            r.knee,
            r.above_noise,
            r.decay,
            console.percent(r.unchanged, 0),
        ]
        for r in summary.layers[:most]
    ]
    out = console.out()
    empty = [RELATIVE.title] if all(layer.relative is None for layer in summary.layers) else []
    shown = print_table(LAYER_COLUMNS, cells, drop=[*empty, *DROP])
    if len(cells) < len(summary.layers):
        out.print(f"... and {len(summary.layers) - len(cells)} more", markup=False)
    print_legend(LAYER_COLUMNS, shown, explain)
    if summary.share is not None:
        matrices = count(summary.layers, "matrix", "matrices")
        rest = f", the rest in {count(summary.others, 'other tensor')}" if summary.others else ""
        share = console.percent(summary.share)
        out.print(f"\n{share} of the change's energy is in {matrices}{rest}", markup=False)
        cost = EnergyCost.of(summary.layers)
        if cost is not None:
            out.print(str(cost), markup=False)
    for remark in summary.diagnosis:
        out.print(remark, markup=False)


@dataclass(frozen=True)
class EnergyCost:
    """What it costs to keep 90 % of the energy of every layer that can have factors.

    Parameters
    ----------
    ranks : tuple of int
        The rank of each of these layers that changed.
    parameters : int
        Numbers in all of their factors.
    entries : int
        Numbers in their matrices.
    """

    ranks: tuple[int, ...]
    parameters: int
    entries: int

    @classmethod
    def of(cls, layers: Sequence[LayerSummary]) -> EnergyCost | None:
        """Return the cost for the layers of a pair; None if none changed, or if a rank is not known."""
        changed = [layer for layer in layers if layer.kind in LORA_KINDS and layer.energy > 0]
        ranks = [rank for layer in changed if (rank := layer.ranks["90%"]) is not None]
        if not changed or len(ranks) < len(changed):
            return None
        return cls(
            ranks=tuple(ranks),
            parameters=sum(r * sum(layer.shape) for r, layer in zip(ranks, changed, strict=True)),
            entries=sum(math.prod(layer.shape) for layer in changed),
        )

    @property
    def is_saving(self) -> bool:
        """Whether the factors are smaller than the matrices."""
        return self.parameters < self.entries

    def __str__(self) -> str:
        return (
            f"Keeping 90% of the energy in every layer takes {rank_range(self.ranks)}: "
            f"{self.parameters:,} parameters in place of {self.entries:,}."
        )


def print_adapter(summary: AdapterSummary, with_base: bool, explain: bool = False) -> None:
    """Print the spectrum of every update of an adapter, its legend, and what it shows.

    Parameters
    ----------
    summary : AdapterSummary
        The modules.
    with_base : bool
        Show the sizes relative to the weights of the base.
    explain : bool
        Explain every column below the table.
    """
    sizes = (SIZE, SIZE_OF_WEIGHT) if with_base else (SIZE,)
    columns = (MODULE, SHAPE, STORED, *sizes, SIGMA_1, FIRST, STABLE, EFFECTIVE, *RANKS, KNEE)
    rows: list[list[Cell]] = []
    for module in summary.modules:
        relative = [console.figure(module.relative)] if with_base else []
        rows.append(
            [
                module.name,
                console.shape(module.shape),
                module.rank,
                console.figure(module.size),
                *relative,
                console.figure(module.sigma_1),
                console.percent(module.first, 0),
                console.figure(module.stable_rank),
                console.figure(module.effective_rank),
                *module.ranks.values(),
                module.knee,
            ]
        )
    print_legend(columns, print_table(columns, rows, drop=DROP_OF_ADAPTER), explain)
    modules = count(summary.modules, "module")
    out = console.out()
    out.print(f"\n{modules}, {summary.parameters:,} parameters, {summary.dtype}", markup=False)
    for sentence in summary.diagnosis:
        out.print(sentence, markup=False)
