"""Eckart finds the rank of a weight update and turns it into a LoRA adapter you can prove is right."""

# First, because it handles Ctrl-C during the imports below.
from eckart.cli import starting as _starting  # noqa: F401  # isort: skip
from eckart.adapter import Adapter, load_adapter
from eckart.errors import EckartError
from eckart.extraction.extract import Extraction, extract
from eckart.extraction.inspect import LayersSummary, inspect
from eckart.extraction.verify import Verification, verify
from eckart.linalg import LowRank, Spectrum, spectrum, svd
from eckart.operations import (
    AdapterSummary,
    Combined,
    Comparison,
    Converted,
    Merged,
    Resized,
    combine,
    compare,
    convert,
    merge,
    resize,
)
from eckart.rank import Budget, Energy, Error, Knee, NoiseFloor, Rank, RankPlan, RankRule, Ratio
from eckart.serving import CheckResult, check
from eckart.store import FactorStore, factor, plan
from eckart.version import __version__

__all__ = [
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
