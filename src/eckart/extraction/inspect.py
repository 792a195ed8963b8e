"""Inspect: the spectra of a fine-tune's updates, of one checkpoint's weights, or of an adapter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from eckart.adapter import Adapter
from eckart.adapter.formats import is_adapter
from eckart.arguments import argument
from eckart.checks import check_whole_number
from eckart.errors import UsageError
from eckart.extraction.change import parts_of_change
from eckart.extraction.energies import stored_energy
from eckart.operations.inspect import AdapterSummary, inspect_adapter
from eckart.parallel import OnProgress
from eckart.store.demands import whole_demands
from eckart.store.files import MANIFEST
from eckart.store.fill import MAX_RANK, fill
from eckart.store.kept import KeptFactors, kept_factors
from eckart.store.options import PassOptions, log_notice
from eckart.store.sources import PairSources, Sources, open_sources
from eckart.store.store import FactorStore
from eckart.store.summary import LayerSummary, diagnose, summarise
from eckart.strictjson import JsonObject
from eckart.text import count
from eckart.unfinished import scratch_folder


@dataclass(frozen=True, repr=False)
class LayersSummary:
    """The result of `inspect` for checkpoints.

    Parameters
    ----------
    layers : tuple of LayerSummary
        One for each matrix, in the model's order.
    diagnosis : tuple of str
        Remarks on what stands out, e.g. that the base looks wrong.
    notes : tuple of str
        Remarks from reading and matching the files.
    share : float or None
        Share of the change's energy that is in these layers; None for a single checkpoint. The change
        includes new rows, and tensors that only the tuned checkpoint holds.
    others : int
        Tensors that are not listed: vectors, convolutions and the like.
    kept : KeptFactors or None
        How far the factors in the store reach; None without a store.
    """

    layers: tuple[LayerSummary, ...]
    diagnosis: tuple[str, ...]
    notes: tuple[str, ...]
    share: float | None
    others: int
    kept: KeptFactors | None = None

    def to_json(self) -> JsonObject:
        """Return the summary as plain data."""
        return {
            "layers": [layer.to_json() for layer in self.layers],
            "diagnosis": list(self.diagnosis),
            "notes": list(self.notes),
        }

    def __repr__(self) -> str:
        share = "" if self.share is None else f", {self.share:.1%} of the change's energy"
        return f"LayersSummary({count(self.layers, 'layer')}{share})"


def inspect(
    base: str | Path | Adapter,
    tuned: str | Path | Adapter | None = None,
    *,
    store: str | Path | None = None,
    max_rank: int | None = None,
    workers: int | None = None,
    device: str = "cpu",
    progress: OnProgress | None = None,
    notify: Callable[[str], None] = log_notice,
) -> LayersSummary | AdapterSummary:
    """Measure every layer's update: its size, its spectrum, and the rank that each share of energy needs.

    Parameters
    ----------
    base : path or Adapter
        The base checkpoint. Without `tuned`: a single checkpoint or an adapter.
    tuned : path or Adapter, optional
        The fine-tuned checkpoint, or an adapter of the base.
    store : path, optional
        A FactorStore to use, or to make and keep. Checkpoints only.
    max_rank : int, optional
        Number of components of each matrix to keep in the store, so that later rules need no second pass. By
        default 256 in a new store; an existing store keeps what it holds.
    workers : int, optional
        Tensors in flight at once; one per core by default, where memory allows.
    device : {"cpu", "cuda"}
        Where to factor; ``cuda`` needs ``eckart[torch]``. Checkpoints only.
    progress : callable, optional
        Called with a `Progress` after each tensor.
    notify : callable
        As for `factor`.

    Returns
    -------
    LayersSummary or AdapterSummary

    Raises
    ------
    InputError
        If a file cannot be read or the two inputs do not belong together.

    Notes
    -----
    Checkpoints cost all singular values of every matrix, about 10/3 n^3 flops for n x n. Adapters cost
    little: B A is never formed. A store of factors up to rank r takes 4 r (m + n) bytes for each m x n
    matrix.

    Examples
    --------
    ``eckart.inspect("base", "tuned").layers[0].ranks["90%"]``
    """
    candidate, model = (base, None) if tuned is None else (tuned, base)
    if isinstance(candidate, Adapter) or is_adapter(candidate):
        if store is not None:
            raise UsageError(
                argument("store"), "an adapter needs no factor store", f"Remove {argument('store')}"
            )
        if isinstance(model, Adapter):
            raise UsageError("eckart.inspect", "expected a base model, got an adapter", "Pass BASE ADAPTER")
        return inspect_adapter(candidate, model, workers=workers, progress=progress)
    if isinstance(base, Adapter):
        raise UsageError("eckart.inspect", "expected a base model, got an adapter", "Pass BASE ADAPTER")
    if max_rank is not None:
        check_whole_number(max_rank, f"max_rank={max_rank!r}", 1)
        if store is None:
            raise UsageError(
                argument("max_rank"), "factors are kept in a store only", f"Pass {argument('store')} too"
            )
    options = PassOptions(workers, device=device, durable=store is not None, progress=progress, notify=notify)
    return inspect_layers(base if tuned is not None else None, candidate, store, max_rank, options)


def inspect_layers(
    base: str | Path | None,
    tuned: str | Path,
    store: str | Path | None,
    max_rank: int | None,
    options: PassOptions,
) -> LayersSummary:
    """Measure every layer of two checkpoints, or of one where ``base`` is None; see `inspect`."""
    sources = open_sources(base, tuned)
    if store is None:
        with scratch_folder() as scratch:
            filled = fill(sources, scratch / "store", whole_demands(sources, 0), options)
            return summarise_layers(filled, sources)
    is_finished = (Path(store) / MANIFEST).is_file()
    rank = max_rank if max_rank is not None else 0 if is_finished else MAX_RANK
    filled = fill(sources, store, whole_demands(sources, rank), options)
    return replace(summarise_layers(filled, sources), kept=kept_factors(filled))


def summarise_layers(store: FactorStore, sources: Sources | None = None) -> LayersSummary:
    """Return the rows and the diagnosis of a store that holds every singular value.

    Without the checkpoints, only tensors that both of them hold count as the change.
    """
    layers = summarise(store)
    # What the base does not have belongs to the change too; the store does not read it.
    parts = parts_of_change(sources, Adapter({})) if isinstance(sources, PairSources) else ()
    added = [part for part in parts if not part.is_shared]
    total = sum(record.energy for record in store)
    total += sum(stored_energy(part.tuned, part.start) for part in added)
    listed = sum(layer.energy for layer in layers)
    return LayersSummary(
        layers=tuple(layers),
        diagnosis=tuple(diagnose(store, layers)),
        notes=() if sources is None else sources.notes,
        share=None if store.single or not total else listed / total,
        others=len(store) - len(layers) + sum(part.source is None for part in added),
    )
