"""The types of a document: the place of a value that does not fit them, and types in words.

msgspec names the places of values in objects by ``[...]`` and types by their Python names; a reader of a
message needs the key, and the type in words.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from eckart.errors import EckartError
from eckart.text import clip, count, either

_STEP = re.compile(
    r"\.(\w+)|\[(\d+|\.\.\.)\]"
)  # of the places in msgspec's messages, e.g. $.modules[...].rank
_SIMPLE: dict[object, tuple[str, str]] = {
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    str: ("a string", "strings"),
    bool: ("true or false", "booleans"),
    NoneType: ("null", "nulls"),
}


def explain(message: str, value: Any, schema: Any, name: str) -> tuple[str, str]:
    """Return the place of a wrong entry, and what was expected there and found.

    Parameters
    ----------
    message : str
        The message of ``msgspec.ValidationError``.
    value : object
        The document.
    schema : type
        Its types.
    name : str
        What the document is, for an error about the whole of it.
    """
    import msgspec

    text, _, path = message.partition(" - at `$")
    hint, place = schema, ""
    for field, index in _STEP.findall(path):
        hint = _inner(hint, field or index)
        if index == "...":
            field = next((key for key, entry in value.items() if not _fits(entry, hint)), "")
            if not field:  # the error is about a key
                break
        value = value[field] if field else value[int(index)]
        place += f".{field}" if field else f"[{index}]"
    place = place.removeprefix(".")
    missing = re.match(r"Object missing required field `(.*)`", text)
    if missing:
        return place, f"expected an entry {missing[1]}, found none"
    if text.startswith(("Expected", "Invalid enum value", "Number out of range")):
        try:
            msgspec.convert(value, hint)
        except msgspec.ValidationError:
            what = f"expected {_words(hint)}, found {_shown(value)}"
            return place, what if place else f"{name}: {what}"
    return place, clip(text)


def _fits(entry: object, hint: Any) -> bool:
    import msgspec

    try:
        msgspec.convert(entry, hint)
    except (msgspec.ValidationError, UnicodeEncodeError, EckartError):
        return False
    return True


def undeclared(value: Any, hint: Any, place: str) -> Iterator[str]:
    """Yield the places of the keys that no dataclass declares.

    Parameters
    ----------
    value : object
        A value that fits the type.
    hint : type
        The type.
    place : str
        Place of the value in its document; empty for the whole.
    """
    if not _has_dataclass(hint):
        return
    if isinstance(value, dict):
        option = next(option for option in _options(hint) if _is_object(option))
        known = _fields(option)
        for key, entry in value.items():
            at = f"{place}.{key}".removeprefix(".")
            if known is None:
                yield from undeclared(entry, get_args(option)[1], at)
            elif key in known:
                yield from undeclared(entry, known[key], at)
            else:
                yield at
    elif isinstance(value, list):
        for i, entry in enumerate(value):
            yield from undeclared(entry, _inner(hint, str(i)), f"{place}[{i}]")


@cache
def _has_dataclass(hint: Any) -> bool:
    return is_dataclass(hint) or any(_has_dataclass(part) for part in get_args(hint) if part is not ...)


@cache
def _fields(hint: Any) -> dict[str, Any] | None:
    """Return the types of a dataclass's fields, or None for another type."""
    if not is_dataclass(hint):
        return None
    hints = get_type_hints(hint)
    return {field.name: hints[field.name] for field in fields(hint)}


def _options(hint: Any) -> tuple[Any, ...]:
    """Return the members of a union, or the one type."""
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def _is_object(hint: Any) -> bool:
    origin = get_origin(hint) or hint
    return is_dataclass(hint) or (isinstance(origin, type) and issubclass(origin, Mapping))


def _is_list(hint: Any) -> bool:
    return (get_origin(hint) or hint) in (tuple, list)


def _inner(hint: Any, step: str) -> Any:
    """Return the type of a field, of the values of a mapping (``...``), or of the element at an index."""
    for option in _options(hint):
        known = _fields(option) or {}
        if step in known:
            return known[step]
        if step == "..." and _is_object(option) and get_args(option):
            return get_args(option)[1]
        if step.isdigit() and _is_list(option) and get_args(option):
            types = get_args(option)
            return types[0] if len(types) == 1 or types[-1] is ... else types[int(step)]
    return Any


def _words(hint: Any) -> str:
    """Return a type in words, e.g. "an object of whole numbers or null"."""
    options = _options(hint)
    if {int, float} <= set(options):
        options = tuple(option for option in options if option is not int)
    return either([text for option in options for text in _alternatives(option)])


def _alternatives(hint: Any) -> list[str]:
    if isinstance(hint, type) and issubclass(hint, Enum):
        return [f'"{member.value}"' for member in hint]
    if get_origin(hint) is Literal:
        return [f'"{member}"' if isinstance(member, str) else str(member) for member in get_args(hint)]
    return [_singular(hint)]


def _singular(hint: Any) -> str:
    if hint in _SIMPLE:
        return _SIMPLE[hint][0]
    if _is_object(hint):
        return "an object" + (_of(get_args(hint)[1]) if get_args(hint) else "")
    if _is_list(hint):
        types = get_args(hint)
        if len(types) < 2 or types[-1] is ...:
            return "a list" + (_of(types[0]) if types else "")
        return f"a list of {count(len(types), 'value')}"
    return "another value"


def _of(hint: Any) -> str:
    plurals = [_SIMPLE[option][1] for option in _options(hint) if option in _SIMPLE]
    if {"whole numbers", "numbers"} <= set(plurals):
        plurals.remove("whole numbers")
    if len(plurals) == len(_options(hint)) or (plurals and float in _options(hint)):
        return f" of {either(plurals)}"
    if all(_is_object(option) for option in _options(hint)):
        return " of objects"
    return " of lists" if all(_is_list(option) for option in _options(hint)) else ""


def _shown(value: object) -> str:
    """Return a value of a document, as a message shows it."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, (list, tuple)):
        return f"a list of {count(value, 'value')}" if value else "an empty list"
    if isinstance(value, str):
        return f'"{clip(value, 60)}"'
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return clip(repr(value), 60)
