"""The adapter as data: its modules, its statement, and the file formats that hold it."""

from eckart.adapter.adapter import Adapter, Module
from eckart.adapter.formats import load_adapter, save_adapter

__all__ = ["Adapter", "Module", "load_adapter", "save_adapter"]
