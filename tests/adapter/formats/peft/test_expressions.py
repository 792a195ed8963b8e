"""Patterns give the values that PEFT finds with Python's ``re``, in bounded time, or are refused by name."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from eckart.adapter.formats.peft import expressions
from eckart.adapter.formats.peft.expressions import Pattern
from eckart.adapter.formats.peft.patterns import rank_pattern
from eckart.errors import AdapterError

NAME = "model.layers.17.self_attn.q_proj"


def by_peft(pattern: dict[str, int], name: str, default: int) -> int:
    """Look a value up as `peft.utils.other.get_pattern_key` does: the first key that matches an ending."""
    return next((v for key, v in pattern.items() if re.match(rf"(.*\.)?({key})$", name)), default)


def lookup(pattern: dict[str, int], name: str = NAME, default: int = 8) -> object:
    return Pattern(pattern, default, "f.json: rank_pattern")[name]


NAMES = st.lists(
    st.sampled_from(["a", "b", "q", "q_proj", "v-1", "0", "1", "12"]), min_size=1, max_size=5
).map(".".join)
# Escaped dots: in a key of plain characters, a dot stands for a dot alone.
ATOMS = st.sampled_from(
    ["a", "b", "q", "q_proj", "v-1", "0", "1", r"\.", r"\d", r"\w", "[ab]", "[^a]", r"\-"]
)
KEYS = st.recursive(
    ATOMS,
    lambda inner: (
        st.lists(inner, min_size=1, max_size=4).map("".join)
        | st.lists(inner, min_size=1, max_size=3).map(lambda parts: f"(?:{'|'.join(parts)})")
        | st.lists(inner, min_size=1, max_size=2).map(lambda parts: f"({'|'.join(parts)})")
        | st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{0,2}", "{1,}", "*?", "+?"])).map(
            lambda pair: f"(?:{pair[0]}){pair[1]}"
        )
    ),
    max_leaves=8,
)
ANCHORED = st.tuples(
    st.sampled_from(["", "^", r".*\.", "(?i:A)"]), KEYS, st.sampled_from(["", "$", r"\b"])
).map("".join)


@given(st.dictionaries(ANCHORED, st.integers(1, 7), max_size=5), NAMES)
@example({"q": 1, r"a\.q": 2}, "a.q")
@example({r"a\.q": 2, "q": 1}, "a.q")
@example({"a|b": 1}, "q.b")
@example({"^a|b": 1}, "q.b")
@example({"^a": 1, "a": 2}, "b.a")
@example({r"h\.(?:0|1)\.q": 1}, "m.h.1.q")
@example({"": 1}, "a")
@example({"a(?:|b)": 1}, "ab")
@example({"a(?:b|)c": 1}, "q.ac")
def test_every_name_gets_the_value_that_peft_gives_it(pattern: dict[str, int], name: str) -> None:
    assert lookup(pattern, name) == by_peft(pattern, name, 8)


@given(st.dictionaries(NAMES, st.integers(1, 4), min_size=1), st.integers(1, 5))
def test_patterns_of_our_own_need_no_regular_expression(ranks: dict[str, int], default: int) -> None:
    pattern = Pattern(rank_pattern(ranks, default), default, "here")
    assert pattern._expressions == []
    assert {name: pattern[name] for name in ranks} == ranks


REFUSED = {
    "(?=q)q_proj": "needs more than RE2's regular expressions, which take linear time: .*(?=",
    "(?!k)q_proj": "needs more than RE2's",
    "(?<=a)q": "needs more than RE2's",
    r"(q)\1": "needs more than RE2's",
    "(?P<x>q)(?P=x)": "needs more than RE2's",
    "q++": "needs more than RE2's",
    "(?>q)": "needs more than RE2's",
    "q{1,2000}": "needs more than RE2's",
    r"q\Z": "needs more than RE2's",
    "(?i)x": "is not a regular expression that PEFT accepts: global flags not at the start",
    "(": "PEFT accepts: missing ), unterminated subpattern",
    "*": "PEFT accepts: nothing to repeat",
    "q{99999999999}": "PEFT accepts: the repetition number is too large",
    "[b-a]": "PEFT accepts: bad character range b-a",
    r"\p{L}": "PEFT accepts: bad escape",
    r"\Qq\E": "PEFT accepts: bad escape",
    "q{,3}": "means one thing in Python's regular expressions, another in RE2's",
    "[[:alpha:]]": "means one thing in Python's regular expressions, another in RE2's",
    "a*)|(b": "needs more than RE2's",
}


@pytest.mark.parametrize("key", REFUSED)
def test_a_key_that_is_not_supported_is_refused_by_name(key: str) -> None:
    with pytest.raises(AdapterError) as caught:
        lookup({"v_proj": 4, key: 4})
    message = str(caught.value)
    assert message.startswith(f'`f.json: rank_pattern`: the key "{key}" ')
    assert re.search(re.escape(REFUSED[key]).replace(r"\.\*", ".*"), message)
    assert len(message.splitlines()) == 1


EVIL = [
    "(([a-z._0-9]+)+)+!",
    "(a+)+$!",
    "(.*a){25}!",
    "(.*.*.*.*.*.*.*.*)*!",
    "((a|aa)+)+b!",
    r"(\w+\.?)+\w+!",
    "(" * 50 + "a*" + ")*" * 50 + "!",
]


@pytest.mark.parametrize("key", EVIL, ids=lambda key: key[:20])
def test_expressions_that_take_exponential_time_elsewhere_take_none_here(key: str) -> None:
    names = ["a" * 1000, "ab.c9_" * 160, NAME]
    start = time.perf_counter()
    assert [lookup({key: 4}, name) for name in names] == [8, 8, 8]
    assert time.perf_counter() - start < 1  # milliseconds; Python's re would take years


def test_patterns_beyond_the_limits_are_refused() -> None:
    for pattern, message in {
        "characters": (
            {"a" * 5_000_001: 1},
            "its keys have 5,000,001 characters, but the limit is 5,000,000",
        ),
        "expressions": (
            {f"a{i}+": 1 for i in range(1001)},
            "more than 1,000 keys that are regular expressions",
        ),
        "length": ({"a+" * 25_001: 1}, "its regular expressions are too long"),
        "program": ({f"[a-y]{{990}}{i}": 1 for i in range(200)}, "regular expressions are too large"),
        "one program": ({"((a{900}){900}){900}": 1}, r"needs more than RE2's .*: invalid repetition size"),
    }.values():
        start = time.perf_counter()
        with pytest.raises(AdapterError, match=message):
            lookup(pattern)
        assert time.perf_counter() - start < 5


def test_matching_that_takes_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pattern = Pattern({"a+": 1}, 8, "f.json: rank_pattern")
    assert pattern["x"] == 8
    monkeypatch.setattr(expressions, "MAX_SECONDS", 0.0)
    with pytest.raises(AdapterError, match="matching its keys takes too long: the limit is 0 s"):
        pattern["x"]


def test_alternatives_that_stand_for_too_many_names_are_matched_as_an_expression() -> None:
    key = "(?:a|b)" * 20
    pattern = Pattern({key: 4}, 8, "here")
    assert len(pattern._expressions) == 1
    assert pattern["m." + "ab" * 10] == 4
    assert pattern["m." + "ab" * 9] == 8


def test_names_outside_ascii_are_looked_up_in_lists_and_refused_by_expressions() -> None:
    assert lookup({"é": 4}, "h.é") == 4
    with pytest.raises(AdapterError, match=r"cannot be compared with the module name h\.é"):
        lookup({r"\w": 4}, "h.é")


def test_a_key_for_each_of_20_000_modules_is_looked_up_quickly() -> None:
    names = [f"model.layers.{i}.mlp.experts.{e}.down_proj" for i in range(40) for e in range(500)]
    start = time.perf_counter()
    pattern = Pattern({name: i for i, name in enumerate(names)}, 0, "here")
    assert [pattern[name] for name in names] == list(range(20_000))
    assert time.perf_counter() - start < 5  # a quarter of a second; PEFT takes minutes
