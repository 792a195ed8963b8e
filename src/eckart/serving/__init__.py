"""Programs that load adapters: their rules as data, the layout they need, and a check against both."""

from eckart.serving.consumer import Consumer, Scaling, Treatment
from eckart.serving.consumers import CONSUMERS, consumers_named
from eckart.serving.problems import Problem, Severity
from eckart.serving.verdict import CheckResult, Verdict, check

__all__ = [
    "CONSUMERS",
    "CheckResult",
    "Consumer",
    "Problem",
    "Scaling",
    "Severity",
    "Treatment",
    "Verdict",
    "check",
    "consumers_named",
]
