"""Hostile values at every place of a JSON document."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

DEEP: list[Any] = []
for _ in range(70):
    DEEP = [DEEP]

VALUES: dict[str, Any] = {
    "zero": 0,
    "a negative number": -1,
    "a fraction": 1.5,
    "a large number": 2**63,
    "a huge number": 1e308,
    "10^400": 10**400,
    "NaN": float("nan"),
    "infinity": float("inf"),
    "true": True,
    "null": None,
    "an empty string": "",
    "a string": "x",
    "a name with dots": "." * 100,
    "a string of control characters": "\x1b[2J\n",
    "half a surrogate pair": "\ud800",
    "an empty list": [],
    "a list": [1],
    "a list of pairs": [["q_proj", 1]],
    "an empty object": {},
    "an object": {"a": 1},
    "an object of objects": {"a": {"b": None}},
    "a deep list": DEEP,
}

Step = str | int


def places(document: Any, most: int = 2) -> Iterator[tuple[Step, ...]]:
    """Yield the path of every value: of the first ones only in a list, or in an object of equal objects."""
    yield ()
    if isinstance(document, dict):
        keys = list(document)
        is_table = len(keys) > most and all(isinstance(value, dict) for value in document.values())
        for key in keys[:most] if is_table else keys:
            yield from ((key, *rest) for rest in places(document[key], most))
    elif isinstance(document, list):
        for i, entry in enumerate(document[:most]):
            yield from ((i, *rest) for rest in places(entry, most))


def changed(document: Any, place: tuple[Step, ...], value: Any) -> Any:
    """Return a copy of a document with another value at a place."""
    if not place:
        return value
    result = copy.deepcopy(document)
    container = result
    for step in place[:-1]:
        container = container[step]
    container[place[-1]] = value
    return result


def variants(document: Any) -> Iterator[tuple[str, Any]]:
    """Yield every hostile variant of a document with its description: values, lost and unknown entries."""
    for place in places(document):
        shown = ".".join(map(str, place)) or "the whole"
        for name, value in VALUES.items():
            yield f"{shown}: {name}", changed(document, place, value)
        inner = document
        for step in place:
            inner = inner[step]
        if isinstance(inner, dict):
            yield f"{shown}: an unknown entry", changed(document, place, {**inner, "zz": [{"a": 1}]})
        if place and isinstance(place[-1], str):
            lost = copy.deepcopy(document)
            container = lost
            for step in place[:-1]:
                container = container[step]
            del container[place[-1]]
            yield f"{shown}: lost", lost


def as_json(document: Any) -> bytes:
    """Return a document as JSON, with NaN and infinities."""
    return json.dumps(document).encode()
