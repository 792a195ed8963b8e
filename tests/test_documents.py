"""Documents with declared types: every defect is one line that names the place."""

from __future__ import annotations

import enum
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eckart.documents import Document
from eckart.errors import AdapterError, EckartError
from eckart.strictjson import MAX_DEPTH, MAX_VALUES


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True)
class Part:
    size: int
    pair: tuple[int, int] | None = None
    colour: Colour | None = None

    def __post_init__(self) -> None:
        if self.size < 0:
            raise ValueError("expected a size of at least 0")


@dataclass(frozen=True)
class Whole:
    count: int
    error: float | None = None
    parts: Mapping[str, Part] = field(default_factory=dict)
    listed: tuple[Part, ...] = ()
    alpha: int | float | None = None
    ranks: dict[str, int] | None = None
    alphas: dict[str, int | float] | None = None
    targets: list[str] | str | None = None
    mode: Literal["fast", 1] | None = None
    anything: Any = None


OURS = Document(Whole, "the thing", AdapterError, "Make it again", is_ours=True)
THEIRS = Document(Whole, "the thing", AdapterError)
DIGITS = "1" + "0" * 400


def refusal(text: str | bytes, document: Document[Whole] = OURS) -> str:
    raw = text.encode() if isinstance(text, str) else text
    with pytest.raises(AdapterError) as caught:
        document.parse(raw, "f.json")
    return str(caught.value)


WRONG = {
    "[1]": "`f.json`: the thing: expected an object, found a list of 1 value",
    "{}": "`f.json`: expected an entry count, found none",
    '{"count": 1.5}': "`f.json: count`: expected a whole number, found 1.5",
    '{"count": true}': "`f.json: count`: expected a whole number, found true",
    '{"count": "1"}': '`f.json: count`: expected a whole number, found "1"',
    '{"count": 1, "error": 1e400}': "`f.json: error`: the number is too large: float64 cannot hold it",
    f'{{"count": 1, "error": {DIGITS}}}': "`f.json: error`: the number is too large: float64 cannot hold it",
    f'{{"count": {DIGITS}}}': "`f.json: count`: the number is too large: float64 cannot hold it",
    f'{{"count": {"9" * 5000}}}': "is not valid JSON (it holds an integer of more than 4,300 digits)",
    '{"count": 1, "error": NaN}': "`f.json`: the thing is not valid JSON (NaN is not a number in JSON)",
    '{"count": 1, "error": -Infinity}': "(-Infinity is not a number in JSON)",
    '{"count": 1, "count": 2}': "`f.json`: the thing is not valid JSON (the key 'count' appears twice)",
    '{"count": 1, "parts": {"a": {"size": 1, "size": 1}}}': "(the key 'size' appears twice)",
    '{"count": 1, "parts": {"a": {"size": 1}, "q.v": {"size": "1"}}}': (
        '`f.json: parts.q.v.size`: expected a whole number, found "1"'
    ),
    '{"count": 1, "parts": {"a": {"size": -1}}}': "`f.json: parts.a`: expected a size of at least 0",
    '{"count": 1, "parts": {"a": {"size": 1}, "q": 5}}': "`f.json: parts.q`: expected an object, found 5",
    '{"count": 1, "parts": []}': "`f.json: parts`: expected an object of objects, found an empty list",
    '{"count": 1, "parts": {"a": {"size": 1, "pair": [1]}}}': (
        "`f.json: parts.a.pair`: expected a list of 2 values or null, found a list of 1 value"
    ),
    '{"count": 1, "parts": {"a": {"size": 1, "pair": [1, "2"]}}}': (
        '`f.json: parts.a.pair[1]`: expected a whole number, found "2"'
    ),
    '{"count": 1, "parts": {"a": {"size": 1, "colour": "green"}}}': (
        '`f.json: parts.a.colour`: expected "red", "blue" or null, found "green"'
    ),
    '{"count": 1, "listed": [{"size": 1}, {"size": []}]}': (
        "`f.json: listed[1].size`: expected a whole number, found an empty list"
    ),
    '{"count": 1, "alpha": "8"}': '`f.json: alpha`: expected a number or null, found "8"',
    '{"count": 1, "ranks": [["a", 1]]}': (
        "`f.json: ranks`: expected an object of whole numbers or null, found a list of 1 value"
    ),
    '{"count": 1, "ranks": {"a": 1, "b": null}}': "`f.json: ranks.b`: expected a whole number, found null",
    '{"count": 1, "alphas": [1]}': "expected an object of numbers or null, found a list of 1 value",
    '{"count": 1, "targets": 5}': "`f.json: targets`: expected a list of strings, a string or null, found 5",
    '{"count": 1, "mode": 5}': '`f.json: mode`: expected "fast", 1 or null, found 5',
    '{"count": 1, "anything": "\\ud800"}': "(a string holds half a surrogate pair)",
    '{"count": 1, "anything": '
    + "[" * 64
    + "]" * 64
    + "}": "the thing is nested too deeply: the limit is 64",
    "[" * 100_000: "`f.json`: the thing is nested too deeply",
    '{"count": 1': "`f.json`: the thing is not valid JSON (Expecting ',' delimiter",
    "": "`f.json`: the thing is not valid JSON (Expecting value",
    '{"count": 1, "zz": 3}': "`f.json: zz`: this entry is unknown",
    '{"count": 1, "parts": {"a": {"size": 1}, "b": {"size": 1, "zz": 3}}}': (
        "`f.json: parts.b.zz`: this entry is unknown"
    ),
    '{"count": 1, "listed": [{"size": 1}, {"size": 2, "zz": 1}]}': (
        "`f.json: listed[1].zz`: this entry is unknown"
    ),
}


@pytest.mark.parametrize("text", WRONG, ids=lambda text: text[:50])
def test_a_wrong_entry_is_named_by_its_place(text: str) -> None:
    message = refusal(text)
    assert WRONG[text] in message
    assert len(message.splitlines()) == 1
    assert message.endswith("Make it again.")


def test_a_document_of_too_many_values_is_refused_before_it_is_parsed() -> None:
    for mark in ("0,", '"":', "[", "{"):
        assert "the thing holds more than 4,000,000 values" in refusal(mark * (MAX_VALUES + 1))


@pytest.mark.parametrize("number", ["9" * 190, "1.5e99", "0"])
def test_a_document_of_many_long_numbers_is_read_in_linear_time(number: str) -> None:
    text = f"[{','.join([number] * 50_000)}]".encode()
    start = time.process_time()
    assert len(Document(list[float], "the numbers").parse(text, "f.json")) == 50_000
    assert time.process_time() - start < 3  # a third of a second


def test_bytes_that_are_not_utf_8_are_refused() -> None:
    assert "is not valid JSON" in refusal(b'{"count": 1, "anything": "\xff"}')


def test_a_valid_document_becomes_its_dataclass() -> None:
    text = (
        '{"count": 1, "error": 2, "parts": {"a": {"size": 3, "pair": [1, 2], "colour": "red"}}, "alpha": 8}'
    )
    whole = OURS.parse(text.encode(), "f.json")
    assert whole == Whole(1, 2.0, {"a": Part(3, (1, 2), Colour.RED)}, alpha=8)
    assert isinstance(whole.error, float)
    assert isinstance(whole.alpha, int)


def test_other_programs_may_add_entries() -> None:
    assert THEIRS.parse(b'{"count": 1, "zz": {"deep": [1]}}', "f.json") == Whole(1)


def test_a_whole_emoji_in_two_escapes_is_accepted() -> None:
    assert OURS.parse(b'{"count": 1, "anything": "\\ud83d\\ude00"}', "f.json").anything == "😀"


def test_the_limit_of_depth_is_itself_accepted() -> None:
    inner = MAX_DEPTH - 1
    text = '{"count": 1, "anything": ' + "[" * inner + "]" * inner + "}"
    assert OURS.parse(text.encode(), "f.json").count == 1


def test_a_file_that_is_missing_too_large_or_not_a_file_is_refused(tmp_path) -> None:
    small = Document(Whole, "the thing", AdapterError, limit=20)
    (tmp_path / "large.json").write_text('{"count": 1, "zz": "........"}')
    os.mkdir(tmp_path / "folder")
    for name, expected in {
        "missing.json": "there is no such file",
        "large.json": "the file has 30 bytes, but the limit is 20",
        "folder": "expected a regular file, found a folder",
    }.items():
        with pytest.raises(AdapterError, match=expected):
            small.read(tmp_path / name)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_a_pipe_is_refused_instead_of_waited_for(tmp_path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(AdapterError, match="found a pipe"):
        OURS.read(tmp_path / "pipe")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
ENTRIES = st.fixed_dictionaries({}, optional={name: VALUES for name in Whole.__dataclass_fields__})


@given(ENTRIES | VALUES)
def test_any_json_is_read_or_refused(value: object) -> None:
    try:
        whole = OURS.parse(json.dumps(value).encode(), "f.json")
    except EckartError as error:
        assert str(error).startswith("`f.json")
    else:
        assert isinstance(whole, Whole)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    with pytest.raises(AdapterError):
        OURS.parse(raw, "f.json")
