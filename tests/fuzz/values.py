"""Values, names and texts that a careless or hostile writer puts into a file."""

from __future__ import annotations

from random import Random
from typing import Any


class Raw(str):
    """Text that goes into a JSON document as it is, valid or not."""


class Pairs(list):  # type: ignore[type-arg]
    """The members of a JSON object as pairs, so that a key can occur twice."""


NAMES = (
    "",
    ".",
    "..",
    "../x",
    "../../../../etc/passwd",
    "/etc/passwd",
    "/dev/zero",
    "C:\\x",
    "https://example.com/model.safetensors",
    "a/b",
    "a" * 300,
    "." * 200_000,
    "a." * 100_000,
    "/" * 5_000,
    "\x00",
    "a\x00b",
    "\x1b[2J\x1b]0;x\x07",
    "\u202eabc",
    "\uff41\u0301😀",
    "\ud800",
    "CON",
    "nul.safetensors",
    "weight",
    ".weight",
    "model.layers.99999999999999999999.self_attn.q_proj.weight",
    "model.layers.-1.mlp.weight",
    "__metadata__",
    "__proto__",
    "lora_A.weight",
    "[bold]x[/bold]",
    "%s%n{0}",
)
PATTERNS = (
    "(a+)+$",
    "(.*)*x",
    "(?i)x",
    "(",
    "[",
    "*",
    ".*",
    "^",
    "(?P<x>a)(?P=x)",
    "a{1000000}",
    "((((((((((a{10}){10}){10}){10}){10}){10}){10}){10}){10}){10})",
    "\\",
    "(" * 5_000,
    "a|" * 20_000,
)
NUMBERS = (
    0,
    -1,
    1,
    2,
    3,
    7,
    255,
    65_536,
    2**31 - 1,
    2**31,
    2**32,
    2**33,
    2**53 + 1,
    2**63 - 1,
    2**63,
    2**64,
    -(2**63),
    10**18,
    10**400,
    -(10**400),
    0.5,
    -0.0,
    1.5,
    1e-320,
    1e30,
    1e300,
    -1e300,
)
LITERALS = (
    "NaN",
    "Infinity",
    "-Infinity",
    "1e400",
    "-1e999999",
    "01",
    "1.",
    ".5",
    "+1",
    "0x10",
    "tru",
    "'a'",
)


def name(random: Random) -> str:
    """Return a text for a place where a name, a path or a pattern is expected."""
    return random.choice(NAMES if random.random() < 0.75 else PATTERNS)


def number(random: Random) -> int | float:
    """Return a number at or beyond the ends of what a reader may expect."""
    return random.choice(NUMBERS)


def value(random: Random) -> Any:
    """Return a JSON value of any type."""
    kind = random.randrange(9)
    if kind <= 2:
        return number(random)
    if kind <= 4:
        return name(random)
    if kind == 5:
        return Raw(random.choice(LITERALS))
    if kind == 6:
        depth = random.choice((3, 1_000, 100_000))
        return Raw(random.choice(("[", '{"a":')) * depth)
    if kind == 7:
        depth = random.choice((3, 500, 50_000))
        return Raw("[" * depth + "]" * depth)
    simple = [None, True, False, [], {}, "", "x", [[]], [None], {"": {}}, {"a": 1}, [0] * 10_000]
    return random.choice(simple)
