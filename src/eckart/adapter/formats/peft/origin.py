"""What a reader of PEFT folders remembers of them for the way back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from eckart.adapter.adapter import Origin


@dataclass(frozen=True)
class PeftOrigin(Origin):
    """What is remembered of one PEFT folder.

    Parameters
    ----------
    modules : tuple of str
        Names of the modules that were read, sorted. ``target_modules`` of the configuration fits these and
        no others.
    keys : mapping of str to str
        Keys of whole tensors that are not PEFT's prefix followed by the name.
    tables : tuple of str
        Tables that PEFT saved although ``modules_to_save`` does not list them.
    """

    modules: tuple[str, ...] = ()
    keys: Mapping[str, str] = field(default_factory=dict)
    tables: tuple[str, ...] = ()


@dataclass(frozen=True)
class PipelineOrigin(Origin):
    """What is remembered of a folder of PEFT folders.

    Parameters
    ----------
    components : mapping of str to PeftOrigin
        One for each model of the pipeline.
    """

    components: Mapping[str, PeftOrigin]


def peft_origin(origin: Origin | None) -> PeftOrigin:
    """Return what is remembered of a PEFT folder; an empty record for an adapter of another origin."""
    return origin if isinstance(origin, PeftOrigin) else PeftOrigin()


def joined_origin(origins: Iterable[Origin | None]) -> Origin | None:
    """Return the origin of the sum of several adapters.

    Parameters
    ----------
    origins : iterable of Origin, optional
        `Adapter.origin` of each, in order.

    Returns
    -------
    Origin, optional
        The first, with the whole tensors of the others if it is that of a PEFT folder.
    """
    first, *others = origins
    if not isinstance(first, PeftOrigin):
        return first
    joined = first
    for other in others:
        if isinstance(other, PeftOrigin):
            joined = replace(
                joined, keys={**other.keys, **joined.keys}, tables=(*joined.tables, *other.tables)
            )
    return joined
