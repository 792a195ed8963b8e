"""The page on linear algebra, run."""

import doctest
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "linalg.md"


def test_the_page():
    result = doctest.testfile(str(PAGE), module_relative=False)
    assert result.attempted > 40 and not result.failed
