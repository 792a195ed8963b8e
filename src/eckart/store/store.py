"""FactorStore: a folder with the singular values and the factors of every tensor's update."""

from __future__ import annotations

import html
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from eckart.arrays import Floats
from eckart.checkpoint import Checkpoint
from eckart.checkpoint.strictjson import JsonObject
from eckart.checks import check_whole_number
from eckart.errors import StoreError
from eckart.extras import missing_extra
from eckart.linalg import Goal, LowRank, Spectrum
from eckart.paths import user_path
from eckart.store.files import (
    FACTOR_AGAIN,
    FORMAT,
    JOURNAL,
    MANIFEST,
    SPECTRA,
    check_sources,
    factor_file,
)
from eckart.store.record import TensorRecord
from eckart.text import clip, count, escape, preview

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHOWN = 20  # rows of a table in a notebook
CREATE = "Create a store: eckart factor BASE TUNED -o STORE"


class FactorStore:
    """The result of one pass over two checkpoints.

    Use `eckart.factor` to create a store, and `FactorStore.open` to open one.

    Parameters
    ----------
    path : Path
        The folder.
    sources : dict
        Paths and fingerprints of both checkpoints. ``base`` is None for a single checkpoint.
    records : dict of str to TensorRecord
        Records by tensor name, in the order of the model.

    Notes
    -----
    While a pass runs, it writes the factors of each finished tensor to ``factors/``, and then a line to
    ``journal.jsonl``. A line that a crash truncated is ignored. When the pass ends, ``manifest.json`` and
    ``spectra.safetensors`` replace the journal. Two runs over the same files write the same bytes.

    Examples
    --------
    ``eckart.FactorStore.open("store").spectrum("lm_head.weight").rank_at_energy(0.9)``
    """

    def __init__(self, path: Path, sources: JsonObject, records: dict[str, TensorRecord]) -> None:
        self.path, self.sources, self.records = path, sources, records
        self._spectra: dict[str, Floats] = {}

    @classmethod
    def open(cls, path: str | Path) -> FactorStore:
        """Open a finished store.

        Parameters
        ----------
        path : path
            The folder.

        Returns
        -------
        FactorStore

        Raises
        ------
        StoreError
            If the folder is not a store, is damaged, or its pass is unfinished.
        """
        folder = user_path(path)
        if not folder.is_dir():
            raise StoreError(str(path), "there is no such folder", CREATE)
        if not (folder / MANIFEST).is_file():
            if (folder / JOURNAL).is_file():
                raise StoreError(
                    str(path),
                    "the pass is unfinished",
                    "Run the same eckart factor command again to resume it",
                )
            raise StoreError(str(path), f"this is not a factor store: it holds no {MANIFEST}", CREATE)
        return cls._read_manifest(folder)

    @classmethod
    def _read_manifest(cls, folder: Path) -> FactorStore:
        where = str(folder / MANIFEST)
        try:
            data = json.loads((folder / MANIFEST).read_text("utf-8"))
            version, sources, tensors = data["format"], data["sources"], list(data["tensors"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as reason:
            raise StoreError(where, f"the file is damaged ({type(reason).__name__})", FACTOR_AGAIN) from None
        if version != FORMAT:
            raise StoreError(where, f"expected format {FORMAT}, found {version!r}", FACTOR_AGAIN)
        records = [TensorRecord.from_json(entry, where) for entry in tensors]
        return cls(folder, check_sources(sources, where), {r.name: r for r in records})

    @property
    def single(self) -> bool:
        """Whether the store was made from a single checkpoint."""
        return self.sources["base"] is None

    @property
    def base_parameters(self) -> int:
        """Number of parameters of the base, or of the only checkpoint."""
        return int((self.sources["base"] or self.sources["tuned"])["parameters"])

    def spectrum(self, name: str) -> Spectrum:
        """Return the known singular values of a tensor's update, with the exact energy of the rest.

        Parameters
        ----------
        name : str
            Name of the tensor.

        Returns
        -------
        Spectrum

        Raises
        ------
        StoreError
            If the store has no such tensor, or is damaged.
        """
        record = self.record(name)
        if not record.known:
            return Spectrum([], record.energy, record.size)
        if name not in self._spectra:
            self._load_spectra()
        if name not in self._spectra:
            raise StoreError(
                f"{self.path / SPECTRA}: {clip(name)}", "the singular values are missing", FACTOR_AGAIN
            )
        return Spectrum(self._spectra[name], record.tail, record.size)

    def factors(self, name: str, rank: int | None = None) -> LowRank:
        """Return the leading components of a tensor's update.

        Parameters
        ----------
        name : str
            Name of the tensor.
        rank : int, optional
            Number of components, at least 1. By default, all that the store holds.

        Returns
        -------
        LowRank
            The factors, with the exact energy that they lack.

        Raises
        ------
        StoreError
            If the store has no such tensor, holds fewer components or none, or is damaged.
        UsageError
            If ``rank`` is not a whole number of at least 1.
        """
        record = self.record(name)
        if rank is not None:
            rank = check_whole_number(rank, f"rank={rank!r}", 1)
        elif record.rank:
            rank = record.rank
        else:
            raise StoreError(
                f"{self.path}: {clip(name)}",
                "the store holds no factors of this tensor, only its measures",
                "Use FactorStore.record(name) for its energy",
            )
        if rank > record.rank:
            raise StoreError(
                f"{self.path}: {clip(name)}",
                f"expected {count(rank, 'component')}, but the store holds {record.rank}",
                f"Factor it further: eckart factor BASE TUNED -o {self.path} --max-rank {rank}",
            )
        arrays = Checkpoint.open(self.path / factor_file(name))
        U, Vh, values = (np.asarray(arrays.map(key)) for key in ("U", "Vh", "values"))
        expected = ((record.shape[0], record.rank), (record.rank, record.shape[1]), (record.known,))
        if (U.shape, Vh.shape, values.shape) != expected:
            raise StoreError(
                f"{arrays.path}: {clip(name)}",
                f"expected factors of shapes {expected[0]} and {expected[1]}, found {U.shape} and {Vh.shape}",
                FACTOR_AGAIN,
            )
        tail = record.tail + float((values[record.rank :] ** 2).sum())
        whole = LowRank(U, values[: record.rank], Vh, tail, record.rank_bounds, record.method)
        return whole.truncate(rank=rank) if rank < record.rank else whole

    def record(self, name: str) -> TensorRecord:
        """Return what the store holds of a tensor.

        Parameters
        ----------
        name : str
            Name of the tensor.

        Returns
        -------
        TensorRecord

        Raises
        ------
        StoreError
            If the store has no such tensor.
        """
        try:
            return self.records[name]
        except KeyError:
            raise StoreError(
                f"{self.path}: {clip(name)}",
                "there is no such tensor",
                f"Use a name such as {preview(self.records, 2)}" if self.records else "",
            ) from None

    def plot(self, energies: tuple[float, ...] = (0.5, 0.9, 0.99), ax: Axes | None = None) -> Axes:
        """Draw, for every layer, the rank at which each share of the energy is reached.

        Parameters
        ----------
        energies : tuple of float
            Shares of the energy, between 0 and 1.
        ax : matplotlib.axes.Axes, optional
            Axes to draw on; those of a new figure by default.

        Returns
        -------
        matplotlib.axes.Axes
            The axes.

        Raises
        ------
        MissingExtraError
            If matplotlib is not installed.

        Notes
        -----
        A point is missing if the known singular values do not reach that share.
        """
        try:
            import matplotlib.pyplot as plt
        except ImportError:
            raise missing_extra("FactorStore.plot", "matplotlib is not installed", "plot") from None
        names = [r.name for r in self if r.known and r.energy]
        if ax is None:
            height = max(2.0, 0.22 * len(names) + 1)
            ax = plt.subplots(figsize=(7, height), layout="constrained")[1]
        for energy in energies:
            ranks = [self.spectrum(name).rank_for(Goal("energy", energy)) for name in names]
            known = {row: rank for row, rank in enumerate(ranks) if rank is not None}
            ax.plot(list(known.values()), list(known), "o", label=f"{energy:.0%} of the energy")
        ax.set_yticks(range(len(names)), [escape(name).removesuffix(".weight") for name in names], fontsize=8)
        ax.invert_yaxis()
        ax.set_xlabel("rank")
        ax.grid(axis="x", alpha=0.3)
        ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(energies))
        return ax

    def __iter__(self) -> Iterator[TensorRecord]:
        return iter(self.records.values())

    def __len__(self) -> int:
        return len(self.records)

    def __repr__(self) -> str:
        held = [record.rank for record in self if record.rank]
        return (
            f"FactorStore({str(self.path)!r}, {count(len(self), 'tensor')}, "
            f"{len(held)} with factors up to rank {max(held, default=0)})"
        )

    def _repr_html_(self) -> str:
        rows = []
        for record in list(self)[:SHOWN]:
            rank = self.spectrum(record.name).rank_for(Goal("energy", 0.9)) if record.known else None
            cells = (
                record.name,
                " x ".join(map(str, record.shape)),
                f"{record.energy**0.5:.3g}",
                "-" if rank is None else str(rank),
                str(record.rank),
            )
            rows.append("<tr>" + "".join(f"<td>{html.escape(escape(cell))}</td>" for cell in cells) + "</tr>")
        head = "<tr><th>tensor</th><th>shape</th><th>‖dW‖</th><th>rank at 90 %</th><th>rank stored</th></tr>"
        more = f"<p>and {len(self) - SHOWN} more</p>" if len(self) > SHOWN else ""
        return f"<p>{html.escape(repr(self))}</p><table>{head}{''.join(rows)}</table>{more}"

    def _load_spectra(self) -> None:
        if (self.path / SPECTRA).is_file():
            spectra = Checkpoint.open(self.path / SPECTRA)
            self._spectra = {name: np.array(spectra.map(name)) for name in spectra.names()}
