"""Adapters: extract, read, write, resize, combine, merge and verify."""

from eckart.adapter.adapter import Adapter, Module
from eckart.adapter.combine import combine
from eckart.adapter.extract import Extraction, extract
from eckart.adapter.formats import load_adapter, save_adapter
from eckart.adapter.merge import merge
from eckart.adapter.verify import Verification, Verified, verify

__all__ = [
    "Adapter",
    "Extraction",
    "Module",
    "Verification",
    "Verified",
    "combine",
    "extract",
    "load_adapter",
    "merge",
    "save_adapter",
    "verify",
]
