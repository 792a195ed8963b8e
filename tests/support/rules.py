"""One example of every rank rule, so that a new rule reaches the tests of all rooms by one entry here."""

from __future__ import annotations

from typing import Any

from eckart.rank.options import RULES

EXAMPLES: dict[str, Any] = {
    "rank": 4,
    "energy": 0.9,
    "error": 0.3,
    "ratio": 5,
    "knee": True,
    "noise_floor": True,
    "budget": "30%",
}
"""A value for the keyword of every rule."""


def one_of_each(**values: Any) -> dict[str, dict[str, Any]]:
    """Return the keyword arguments of one example of every rule, by the rule's keyword with spaces.

    Parameters
    ----------
    **values
        Values that suit the data of the test better than those of `EXAMPLES`, by keyword.
    """
    keywords = [rule_type.option.keyword for rule_type in RULES]
    assert set(EXAMPLES) == set(keywords), "give every rule one entry in EXAMPLES"
    assert set(values) <= set(keywords)
    return {
        keyword.replace("_", " "): {keyword: values.get(keyword, EXAMPLES[keyword])} for keyword in keywords
    }


def command_line(keywords: dict[str, Any]) -> list[str]:
    """Return keyword arguments of a rule as options of the command line."""
    options = []
    for keyword, value in keywords.items():
        flag = f"--{keyword.replace('_', '-')}"
        options += [flag] if value is True else [flag, str(value)]
    return options
