"""Adapters: extract, write, read and verify."""

from eckart.adapter.adapter import Adapter, Module
from eckart.adapter.extract import Extraction, extract
from eckart.adapter.peft import read_peft, write_peft
from eckart.adapter.verify import Verification, Verified, verify

__all__ = [
    "Adapter",
    "Extraction",
    "Module",
    "Verification",
    "Verified",
    "extract",
    "read_peft",
    "verify",
    "write_peft",
]
