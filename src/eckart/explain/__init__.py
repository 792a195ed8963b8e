"""Worked explanations for small matrices: exact, step by step, in four formats and three languages."""

from __future__ import annotations

from eckart.extras import missing_extra

try:
    import sympy as _sympy  # noqa: F401  (every module of this package needs it)
except ImportError:
    raise missing_extra("eckart.explain", "sympy is not installed", "explain") from None

from eckart.explain.explain import TOPICS, explain
from eckart.explain.render import FORMATS, LANGUAGES, render
from eckart.explain.steps import Explanation

__all__ = ["FORMATS", "LANGUAGES", "TOPICS", "Explanation", "explain", "render"]
