"""An explanation as data: sentences, formulas, tables, checks and pictures, independent of the language."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeAlias, TypeVar

from eckart.explain.formula import Formula

Value: TypeAlias = Formula | int
Results = TypeVar("Results", covariant=True)  # the dataclass of a topic's results


@dataclass(frozen=True)
class Text:
    """The key of a sentence in the table of sentences, and the values for the names in it."""

    key: str
    values: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True)
class Say:
    """A paragraph of one sentence."""

    text: Text


@dataclass(frozen=True)
class Show:
    """A formula on its own line."""

    formula: Formula


@dataclass(frozen=True)
class Table:
    """A table; each cell is a sentence or a formula."""

    header: tuple[Text | Formula, ...]
    rows: tuple[tuple[Text | Formula, ...], ...]


@dataclass(frozen=True)
class Check:
    """An identity and the outcome of its check.

    Attributes
    ----------
    formula : Formula
        The identity.
    holds : bool
        Whether both sides agree.
    exact : bool
        Whether they were compared in exact arithmetic; otherwise they were compared to 20 decimals.
    """

    formula: Formula
    holds: bool
    exact: bool


Point = tuple[float, float]


@dataclass(frozen=True)
class Panel:
    """A drawing in the plane with the origin in its centre.

    Attributes
    ----------
    caption : Text
        The caption.
    outline : tuple of Point
        A closed curve.
    arrows : tuple of (Formula, Point)
        Arrows from the origin: the label at the tip, and the tip.
    ring : Point
        A marked point.
    reach : float
        The largest coordinate that must be visible.
    dashed : tuple of Point
        A closed curve for comparison; empty for none.
    """

    caption: Text
    outline: tuple[Point, ...]
    arrows: tuple[tuple[Formula, Point], ...]
    ring: Point
    reach: float
    dashed: tuple[Point, ...] = ()


@dataclass(frozen=True)
class Picture:
    """Panels next to each other. Text formats omit them, so a sentence must describe them."""

    caption: Text
    panels: tuple[Panel, ...]


Part = Say | Show | Table | Check | Picture


@dataclass(frozen=True)
class Step:
    """One step of an explanation; ``title`` is the key of a sentence."""

    title: str
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Explanation(Generic[Results]):
    """An explanation, step by step.

    Attributes
    ----------
    topic : str
        The topic, one of `eckart.explain.TOPICS`.
    steps : tuple of Step
        The steps, in order.
    results : object
        The results as sympy objects, for example ``results.rank``, ``results.sigma`` and ``results.U`` for
        the topic ``svd``. `explain` lists the attributes for every topic.
    """

    topic: str
    steps: tuple[Step, ...]
    results: Results

    @property
    def checks(self) -> tuple[Check, ...]:
        """All checked identities, in order."""
        return tuple(part for part in self.parts() if isinstance(part, Check))

    def parts(self) -> Iterator[Part]:
        """Iterate over the parts of all steps."""
        for step in self.steps:
            yield from step.parts

    def keys(self) -> set[str]:
        """Return the keys of all sentences used."""
        keys = {f"topic.{self.topic}"} | {step.title for step in self.steps}
        for part in self.parts():
            if isinstance(part, Say):
                keys.add(part.text.key)
            elif isinstance(part, Table):
                cells = (cell for row in (part.header, *part.rows) for cell in row)
                keys |= {cell.key for cell in cells if isinstance(cell, Text)}
            elif isinstance(part, Picture):
                keys |= {part.caption.key} | {panel.caption.key for panel in part.panels}
        return keys


def say(key: str, **values: Value) -> Say:
    """Return a sentence with values for the names in it."""
    return Say(Text(key, values))
