"""Worked explanations for small matrices: exact, step by step, in four formats and three languages."""

from __future__ import annotations

from eckart.errors import MissingExtraError

try:
    import sympy as _sympy  # noqa: F401  (every module of this package needs it)
except ImportError:
    raise MissingExtraError(
        "eckart.explain", "sympy is not installed", "Run pip install 'eckart[explain]'"
    ) from None

from eckart.explain.explain import TOPICS, explain
from eckart.explain.render import FORMATS, LANGUAGES, render
from eckart.explain.steps import Explanation

__all__ = ["FORMATS", "LANGUAGES", "TOPICS", "Explanation", "explain", "render"]
