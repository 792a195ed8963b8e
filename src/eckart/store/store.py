"""FactorStore: a folder with the singular values and the factors of every tensor's update."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from eckart.arrays import Array, Floats
from eckart.checks import check_whole_number
from eckart.errors import StoreError
from eckart.linalg import LowRank, Spectrum
from eckart.paths import user_path
from eckart.store.display import plot_ranks, table_of
from eckart.store.factors import read_factors, read_values
from eckart.store.files import JOURNAL, MANIFEST
from eckart.store.manifest import read_manifest
from eckart.store.record import TensorRecord
from eckart.store.spectra import damaged, is_intact, read_spectra
from eckart.strictjson import JsonObject
from eckart.text import clip, count, preview

if TYPE_CHECKING:
    from matplotlib.axes import Axes

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
    ``journal.jsonl``. When the pass ends, it replaces ``manifest.json``, and then removes the journal and the
    factors that only the old manifest referred to. Two runs over the same files write the same bytes.

    Everything that is read is compared with a checksum. A store can be read while a pass extends it.

    Examples
    --------
    ``eckart.FactorStore.open("store").spectrum("lm_head.weight").rank_at_energy(0.9)``
    """

    def __init__(self, path: Path, sources: JsonObject, records: dict[str, TensorRecord]) -> None:
        self.path, self.sources, self.records = path, sources, records
        self._spectra: dict[str, Floats] | None = None  # the arrays of the common file, unchecked
        self._values: dict[str, Floats] = {}
        self._verified: set[str] = set()

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
        manifest = read_manifest(folder)
        return cls(folder, manifest.sources, manifest.records)

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
        if not self.record(name).known:
            record = self.record(name)
            return Spectrum([], record.energy, record.size)
        values = self._known_values(name)
        if values is None and self._reload():
            values = self._known_values(name)
        if values is None:
            raise damaged(self.path, name)
        record = self.record(name)
        return Spectrum(values, record.tail, record.size)

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
        if rank is not None:
            rank = check_whole_number(rank, f"rank={rank!r}", 1)
        self._check_rank(name, rank)
        arrays = self._arrays(name)
        if arrays is None and self._reload():
            self._check_rank(name, rank)
            arrays = self._arrays(name)
        if arrays is None:
            raise damaged(self.path, name)
        record, values = self.record(name), arrays["values"]
        tail = record.tail + float((values[record.rank :] ** 2).sum())
        whole = LowRank(
            arrays["U"], values[: record.rank], arrays["Vh"], tail, record.rank_bounds, record.method
        )
        return whole if rank is None or rank == record.rank else whole.truncate(rank=rank)

    def damaged(self, factors_of: Iterable[str] = ()) -> list[str]:
        """Return the names of the tensors whose stored data is missing or damaged.

        Parameters
        ----------
        factors_of : iterable of str
            Tensors whose factors are compared with their checksums. For the others, the singular values are
            compared, and the file with the factors must exist.

        Returns
        -------
        list of str
            In the order of the store.
        """
        names = set(factors_of)
        return [record.name for record in self if not self._is_intact(record, record.name in names)]

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
        return plot_ranks(list(self), self.spectrum, energies, ax)

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
        return table_of(repr(self), list(self), self.spectrum)

    def _is_intact(self, record: TensorRecord, with_factors: bool) -> bool:
        if not record.file:
            return True
        if with_factors:
            return self._arrays(record.name) is not None
        return (self.path / record.file).is_file() and self._known_values(record.name) is not None

    def _check_rank(self, name: str, rank: int | None) -> None:
        """Raise StoreError if the store holds no factors of a tensor, or fewer than ``rank``."""
        record = self.record(name)
        if rank is None and not record.rank:
            raise StoreError(
                f"{self.path}: {clip(name)}",
                "the store holds no factors of this tensor, only its measures",
                "Use FactorStore.record(name) for its energy",
            )
        if rank is not None and rank > record.rank:
            raise StoreError(
                f"{self.path}: {clip(name)}",
                f"expected {count(rank, 'component')}, but the store holds {record.rank}",
                f"Factor it further: eckart factor BASE TUNED -o STORE --max-rank {rank}",
            )

    def _arrays(self, name: str) -> dict[str, Array] | None:
        """Return a tensor's values and factors, mapped; None if they are missing or damaged."""
        record = self.record(name)
        arrays = read_factors(self.path, record, is_verified=record.file in self._verified)
        if arrays is not None:
            self._verified.add(record.file)
        return arrays

    def _known_values(self, name: str) -> Floats | None:
        """Return the known singular values of a tensor; None if they are missing or damaged."""
        if name not in self._values:
            if self._spectra is None:
                self._spectra = read_spectra(self.path)
            record, values = self.record(name), self._spectra.get(name)
            if not is_intact(values, record):
                values = read_values(self.path, record)
            if values is None:
                return None
            self._values[name] = values
        return self._values[name]

    def _reload(self) -> bool:
        """Read the manifest again; return whether a pass has replaced it since this store was opened."""
        try:
            manifest = read_manifest(self.path)
        except StoreError:
            return False
        if manifest.sources != self.sources:
            raise StoreError(
                str(self.path), "another pass replaced this store while it was read", "Run the command again"
            )
        if manifest.records == self.records:
            return False
        self.records, self._spectra, self._values = manifest.records, None, {}
        return True
