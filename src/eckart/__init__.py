"""Eckart finds the rank of a weight update and turns it into a LoRA adapter you can prove is right."""

from eckart.adapter import Adapter, Extraction, Verification, combine, extract, load_adapter, merge, verify
from eckart.errors import EckartError
from eckart.linalg import LowRank, Spectrum, spectrum, svd
from eckart.rank import RankPlan, RankRule
from eckart.store import FactorStore, factor, plan
from eckart.version import __version__

__all__ = [
    "Adapter",
    "EckartError",
    "Extraction",
    "FactorStore",
    "LowRank",
    "RankPlan",
    "RankRule",
    "Spectrum",
    "Verification",
    "__version__",
    "combine",
    "extract",
    "factor",
    "load_adapter",
    "merge",
    "plan",
    "spectrum",
    "svd",
    "verify",
]
