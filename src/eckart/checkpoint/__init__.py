"""Checkpoint files: reading safetensors, pairing two checkpoints, and writing files atomically."""

from eckart.checkpoint.checkpoint import Checkpoint
from eckart.checkpoint.dtypes import (
    DTYPES,
    all_finite,
    dtype_name,
    is_float,
    mantissa_bits,
    name_of,
    parse_dtype,
    to_float,
)
from eckart.checkpoint.folder import OutputFolder, refuse_overlap
from eckart.checkpoint.header import Header, read_header
from eckart.checkpoint.order import natural_sort
from eckart.checkpoint.pair import Pair, PairEntry
from eckart.checkpoint.stream import stream_safetensors, write_safetensors
from eckart.checkpoint.tensorinfo import TensorInfo
from eckart.checkpoint.write import write_json

__all__ = [
    "DTYPES",
    "Checkpoint",
    "Header",
    "OutputFolder",
    "Pair",
    "PairEntry",
    "TensorInfo",
    "all_finite",
    "dtype_name",
    "is_float",
    "mantissa_bits",
    "name_of",
    "natural_sort",
    "parse_dtype",
    "read_header",
    "refuse_overlap",
    "stream_safetensors",
    "to_float",
    "write_json",
    "write_safetensors",
]
