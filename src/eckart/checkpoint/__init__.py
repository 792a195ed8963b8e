"""Files in, tensors out: safetensors checkpoints, their pairing, and writing that is atomic."""

from eckart.checkpoint.checkpoint import Checkpoint
from eckart.checkpoint.dtypes import DTYPES, all_finite, is_float, mantissa_bits, name_of, to_float
from eckart.checkpoint.folder import OutputFolder
from eckart.checkpoint.header import Header, read_header
from eckart.checkpoint.order import natural_sort
from eckart.checkpoint.pair import Pair, PairEntry
from eckart.checkpoint.tensorinfo import TensorInfo
from eckart.checkpoint.write import stream_safetensors, write_json, write_safetensors

__all__ = [
    "DTYPES",
    "Checkpoint",
    "Header",
    "OutputFolder",
    "Pair",
    "PairEntry",
    "TensorInfo",
    "all_finite",
    "is_float",
    "mantissa_bits",
    "name_of",
    "natural_sort",
    "read_header",
    "stream_safetensors",
    "to_float",
    "write_json",
    "write_safetensors",
]
