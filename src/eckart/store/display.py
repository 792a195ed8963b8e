"""How a store is shown: a table in a notebook, and a plot of ranks by layer."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from eckart.extras import missing_extra
from eckart.linalg import Goal, Spectrum
from eckart.store.record import TensorRecord
from eckart.text import escape

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHOWN = 20  # rows of a table in a notebook
SpectrumOf = Callable[[str], Spectrum]  # from the name of a tensor to its singular values


def table_of(title: str, records: Sequence[TensorRecord], spectrum: SpectrumOf) -> str:
    """Return the first tensors of a store as an HTML table under a title; see `FactorStore`."""
    rows = []
    for record in records[:SHOWN]:
        rank = spectrum(record.name).rank_for(Goal("energy", 0.9)) if record.known else None
        cells = (
            record.name,
            " x ".join(map(str, record.shape)),
            f"{record.energy**0.5:.3g}",
            "-" if rank is None else str(rank),
            str(record.rank),
        )
        rows.append("<tr>" + "".join(f"<td>{html.escape(escape(cell))}</td>" for cell in cells) + "</tr>")
    head = "<tr><th>tensor</th><th>shape</th><th>‖dW‖</th><th>rank at 90 %</th><th>rank stored</th></tr>"
    more = f"<p>and {len(records) - SHOWN} more</p>" if len(records) > SHOWN else ""
    return f"<p>{html.escape(title)}</p><table>{head}{''.join(rows)}</table>{more}"


def plot_ranks(
    records: Sequence[TensorRecord], spectrum: SpectrumOf, energies: Sequence[float], ax: Axes | None
) -> Axes:
    """Draw the ranks of a store by layer; see `FactorStore.plot`."""
    try:
        import matplotlib.pyplot as plt
    except ImportError:
        raise missing_extra("FactorStore.plot", "matplotlib is not installed", "plot") from None
    names = [r.name for r in records if r.known and r.energy]
    if ax is None:
        height = max(2.0, 0.22 * len(names) + 1)
        ax = plt.subplots(figsize=(7, height), layout="constrained")[1]
    for energy in energies:
        ranks = [spectrum(name).rank_for(Goal("energy", energy)) for name in names]
        known = {row: rank for row, rank in enumerate(ranks) if rank is not None}
        ax.plot(list(known.values()), list(known), "o", label=f"{energy:.0%} of the energy")
    ax.set_yticks(range(len(names)), [escape(name).removesuffix(".weight") for name in names], fontsize=8)
    ax.invert_yaxis()
    ax.set_xlabel("rank")
    ax.grid(axis="x", alpha=0.3)
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(energies))
    return ax
