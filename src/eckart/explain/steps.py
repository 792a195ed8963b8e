"""A worked explanation as data: sentences, formulas, tables, checks and pictures, in no language yet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from eckart.explain.formula import Formula

Value = Formula | int


@dataclass(frozen=True)
class Text:
    """A sentence by its key in the table of sentences, and what goes into its gaps."""

    key: str
    values: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True)
class Say:
    """A sentence of its own."""

    text: Text


@dataclass(frozen=True)
class Show:
    """A formula on a line of its own."""

    formula: Formula


@dataclass(frozen=True)
class Table:
    """A table; its cells are sentences by key, or formulas."""

    header: tuple[Text | Formula, ...]
    rows: tuple[tuple[Text | Formula, ...], ...]


@dataclass(frozen=True)
class Check:
    """An identity that was recomputed.

    ``exact``: it was proven in exact arithmetic; otherwise both sides agree to 20 decimals.
    """

    formula: Formula
    holds: bool
    exact: bool


Point = tuple[float, float]


@dataclass(frozen=True)
class Panel:
    """One drawing in the plane, the origin in its middle.

    ``outline``: a closed curve. ``arrows``: what is written at the tip, and the tip; from the origin.
    ``ring``: a point to follow. ``dashed``: a closed curve to compare with, or nothing. ``reach``: the
    largest coordinate that must be seen.
    """

    caption: Text
    outline: tuple[Point, ...]
    arrows: tuple[tuple[Formula, Point], ...]
    ring: Point
    reach: float
    dashed: tuple[Point, ...] = ()


@dataclass(frozen=True)
class Picture:
    """Panels side by side. A format of words alone leaves them out: a sentence must say the same."""

    caption: Text
    panels: tuple[Panel, ...]


Part = Say | Show | Table | Check | Picture


@dataclass(frozen=True)
class Step:
    """One step of the working."""

    title: str
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Explanation:
    """A worked explanation.

    Parameters
    ----------
    topic : str
        What is explained, one of `eckart.explain.TOPICS`.
    steps : tuple of Step
        The working, in order.
    results : dict
        What was worked out, by name, as sympy objects: ``"rank"``, ``"sigma"``, ``"U"``, ...
    """

    topic: str
    steps: tuple[Step, ...]
    results: Mapping[str, Any]

    @property
    def checks(self) -> tuple[Check, ...]:
        """Every identity that was recomputed on the way."""
        return tuple(part for part in self.parts() if isinstance(part, Check))

    def parts(self) -> Iterator[Part]:
        """Walk over the parts of all steps."""
        for step in self.steps:
            yield from step.parts

    def keys(self) -> set[str]:
        """Return the key of every sentence used."""
        found = {f"topic.{self.topic}"} | {step.title for step in self.steps}
        for part in self.parts():
            if isinstance(part, Say):
                found.add(part.text.key)
            elif isinstance(part, Table):
                cells = (cell for row in (part.header, *part.rows) for cell in row)
                found |= {cell.key for cell in cells if isinstance(cell, Text)}
            elif isinstance(part, Picture):
                found |= {part.caption.key} | {panel.caption.key for panel in part.panels}
        return found


def say(key: str, **values: Value) -> Say:
    """Return a sentence with what goes into its gaps."""
    return Say(Text(key, values))
