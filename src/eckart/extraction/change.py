"""The whole change between two checkpoints: the tensors that count, each once, and what holds them.

`extract` states its errors over this list, and `verify` measures them over the same list.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from eckart.adapter.adapter import Adapter
from eckart.adapter.formats.peft.whole import is_copy_of_base
from eckart.checkpoint import TensorInfo, is_float
from eckart.checkpoint.dtypes import DTYPES
from eckart.checkpoint.kinds import is_input_embedding, tensor_of, tied_head
from eckart.store.sources import PairedSource, PairSources


class Region(Enum):
    """The part of a tensor whose change is meant.

    ``SHARED``: the entries that both checkpoints hold. ``NEW_ROWS``: the rows of a vocabulary that only the
    tuned checkpoint has. ``TUNED_ONLY``: a tensor that only the tuned checkpoint has.
    """

    SHARED = "shared"
    NEW_ROWS = "new rows"
    TUNED_ONLY = "tuned only"


class Carrier(Enum):
    """What in an adapter holds the change: factors, a bias, the whole tensor, some rows of it, or nothing."""

    FACTORS = "factors"
    BIAS = "bias"
    WHOLE = "whole"
    ROWS = "rows"
    NOTHING = "nothing"


@dataclass(frozen=True)
class TensorPart:
    """One term of the whole change.

    Parameters
    ----------
    name : str
        The tensor. One expert of a stack ends in its number in brackets.
    region : Region
    carrier : Carrier
    tuned : TensorInfo
        The tensor in the tuned checkpoint.
    source : PairedSource, optional
        The tensor in both checkpoints; None for a tensor that only the tuned one has.
    module : str
        The adapter's module whose factors or bias hold the change; empty for other carriers.
    """

    name: str
    region: Region
    carrier: Carrier
    tuned: TensorInfo
    source: PairedSource | None = None
    module: str = ""

    @property
    def is_shared(self) -> bool:
        """Whether both checkpoints hold this part."""
        return self.region is Region.SHARED

    @property
    def start(self) -> int:
        """The first row of the tuned tensor that belongs to this part."""
        if self.region is Region.NEW_ROWS and self.source is not None:
            return self.source.rows or 0
        return 0


@dataclass(frozen=True)
class Tie:
    """An output layer that shares the weight of an input embedding; the files hold only the embedding.

    Parameters
    ----------
    head : str
        Path of the output layer; empty if it is not known.
    table : str
        Name of the embedding table.
    """

    head: str
    table: str


def parts_of_change(sources: PairSources, adapter: Adapter) -> tuple[TensorPart, ...]:
    """List everything that counts as the change between two checkpoints.

    Parameters
    ----------
    sources : PairSources
        The checkpoints.
    adapter : Adapter
        Its experts are in the layout of the base; see `experts_as_in`.

    Returns
    -------
    tuple of TensorPart
        In the order of the model; tensors of the tuned checkpoint alone come last.

    Notes
    -----
    Every floating-point tensor that the files store counts once, under its own name:

    - a tensor that both checkpoints hold counts with tuned - base; an expert of a stack counts by itself;
    - rows that were added to a vocabulary, and tensors that only the tuned checkpoint holds, count with all
      their entries, because the base has nothing to subtract;
    - rows and tensors that only the base holds do not count;
    - an output layer that is tied to the embedding is not stored, so it does not count next to the embedding.
      A file that stores the same numbers under two names holds two tensors, and both count.

    The factors of a module hold the change of ``module.weight`` and of nothing else in that module.
    """
    by_factors = {tensor_of(name): name for name in adapter.modules}
    by_bias = {
        f"{name}.bias": (name, module.bias.shape)
        for name, module in adapter.modules.items()
        if module.bias is not None
    }
    whole = {name for name in adapter.dense if not is_copy_of_base(name, adapter)}

    def without_module(name: str) -> Carrier:
        if name in whole:
            return Carrier.WHOLE
        return Carrier.ROWS if name in adapter.rows else Carrier.NOTHING

    parts: list[TensorPart] = []
    for source in sources.tensors:
        name = source.name
        if name in by_factors:
            carrier, module = Carrier.FACTORS, by_factors[name]
        elif name in by_bias and by_bias[name][1] == source.shape:
            carrier, module = Carrier.BIAS, by_bias[name][0]
        else:
            carrier, module = without_module(name), ""
        parts.append(TensorPart(name, Region.SHARED, carrier, source.tuned, source, module))
        if source.rows is not None and source.tuned.shape[0] > source.rows:
            carrier = without_module(name)
            parts.append(TensorPart(name, Region.NEW_ROWS, carrier, source.tuned, source))
    for name in sources.only_tuned:
        info = sources.tuned.info(name)
        if info.dtype in DTYPES and is_float(DTYPES[info.dtype]):
            parts.append(TensorPart(name, Region.TUNED_ONLY, without_module(name), info))
    return tuple(parts)


def find_tie(sources: PairSources) -> Tie | None:
    """Return the output layer of the tuned model that is tied to its embedding; None if there is none.

    Parameters
    ----------
    sources : PairSources
        The checkpoints.

    Notes
    -----
    A heuristic on names: see `tied_head`. Of several input embeddings, the first one counts.
    """
    head = tied_head(sources.tuned.names(), sources.tuned.config)
    if head is None:
        return None
    table = next((s.name for s in sources.tensors if is_input_embedding(s.name)), None)
    return Tie(head, table) if table is not None else None


def source_of(module: str, by_name: Mapping[str, PairedSource], tie: Tie | None) -> PairedSource | None:
    """Return the tensor that a module updates; for a tied output layer, the embedding table that it shares.

    Parameters
    ----------
    module : str
        Name of a module of an adapter whose experts are in the layout of the base.
    by_name : mapping of str to PairedSource
        The tensors that both checkpoints hold.
    tie : Tie, optional
        As `find_tie` returned it.

    Returns
    -------
    PairedSource or None
        None if the two checkpoints do not both hold the tensor.
    """
    source = by_name.get(tensor_of(module))
    if source is None and tie is not None and tie.head == module:
        return by_name.get(tie.table)
    return source
