"""The public names of `eckart`: who adds or removes one changes this list, and knows it."""

import inspect
from types import ModuleType

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


def test_the_public_names():
    assert sorted(eckart.__all__) == NAMES
    # A folder of the package becomes an attribute when it is imported; nothing else may.
    found = {n for n, v in vars(eckart).items() if n[0] != "_" and not isinstance(v, ModuleType)}
    assert found | {"__version__"} == set(NAMES)
    assert eckart.__version__.count(".") == 2


def test_every_public_name_is_documented():
    for name in set(NAMES) - {"__version__"}:
        text = inspect.getdoc(getattr(eckart, name))
        assert text, name
        assert text.splitlines()[0].endswith("."), name


def test_words_that_are_promised():
    assert {"rank", "energy", "error", "method"} <= set(inspect.signature(eckart.svd).parameters)
    assert list(inspect.signature(eckart.factor).parameters)[:3] == ["base", "tuned", "store"]
    assert list(inspect.signature(eckart.extract).parameters)[:3] == ["base", "tuned", "out"]
    assert set(RuleOptions.__annotations__) == {
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
