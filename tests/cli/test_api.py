"""The public names of `eckart`. Adding or removing one is a decision, so this list must change with it."""

import inspect
from types import ModuleType

import pytest

import eckart
from eckart.rank import RuleOptions

NAMES = [
    "Adapter",
    "AdapterSummary",
    "Budget",
    "CheckResult",
    "Combined",
    "Comparison",
    "Converted",
    "EckartError",
    "Energy",
    "Error",
    "Extraction",
    "FactorStore",
    "Knee",
    "LayersSummary",
    "LowRank",
    "Merged",
    "NoiseFloor",
    "Rank",
    "RankPlan",
    "RankRule",
    "Ratio",
    "Resized",
    "Spectrum",
    "Verification",
    "__version__",
    "check",
    "combine",
    "compare",
    "convert",
    "extract",
    "factor",
    "inspect",
    "load_adapter",
    "merge",
    "plan",
    "resize",
    "spectrum",
    "svd",
    "verify",
]

FIRST_PARAMETERS = {
    "check": ["adapter", "consumers", "base"],
    "combine": ["adapters", "out"],
    "compare": ["one", "other"],
    "convert": ["adapter", "out"],
    "extract": ["base", "tuned", "out"],
    "factor": ["base", "tuned", "store"],
    "inspect": ["base", "tuned"],
    "merge": ["base", "adapters", "out"],
    "plan": ["store", "rule"],
    "resize": ["adapter", "out"],
    "svd": ["A"],
    "verify": ["base", "tuned", "adapter"],
}

RULE_OPTIONS = {
    "rank",
    "energy",
    "error",
    "ratio",
    "knee",
    "noise_floor",
    "budget",
    "min_rank",
    "max_rank",
    "multiple_of",
    "uniform",
    "include",
    "exclude",
}


def test_the_public_names_are_exactly_these():
    assert sorted(eckart.__all__) == NAMES
    # A subpackage becomes an attribute when it is imported. There must be no other attributes.
    attributes = {n for n, v in vars(eckart).items() if n[0] != "_" and not isinstance(v, ModuleType)}
    assert attributes | {"__version__"} == set(NAMES)
    assert eckart.__version__.count(".") == 2


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"__version__"}))
def test_every_public_name_has_a_docstring_that_starts_with_a_sentence(name):
    text = inspect.getdoc(getattr(eckart, name))
    assert text
    assert text.splitlines()[0].endswith(".")


@pytest.mark.parametrize("name", FIRST_PARAMETERS)
def test_the_first_parameters_of_the_main_functions(name):
    parameters = list(inspect.signature(getattr(eckart, name)).parameters)
    assert parameters[: len(FIRST_PARAMETERS[name])] == FIRST_PARAMETERS[name]


def test_svd_takes_every_kind_of_goal():
    assert {"rank", "energy", "error", "method"} <= set(inspect.signature(eckart.svd).parameters)


def test_the_keywords_of_rank_rules():
    assert set(RuleOptions.__annotations__) == RULE_OPTIONS
