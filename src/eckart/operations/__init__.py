"""Operations on adapters: resize, combine, merge, convert, compare and inspect."""

from eckart.operations.batch import Batch, resize_all
from eckart.operations.combine import Combined, combine
from eckart.operations.compare import Comparison, compare
from eckart.operations.convert import Converted, convert
from eckart.operations.inspect import AdapterSummary, ModuleSummary, inspect_adapter
from eckart.operations.merge import Merged, merge
from eckart.operations.merge_statement import MergeStatement, TensorChange
from eckart.operations.new_adapter import NewAdapter, RankRange
from eckart.operations.overlap import Overlap, overlaps
from eckart.operations.resize import Resized, resize

__all__ = [
    "AdapterSummary",
    "Batch",
    "Combined",
    "Comparison",
    "Converted",
    "MergeStatement",
    "Merged",
    "ModuleSummary",
    "NewAdapter",
    "Overlap",
    "RankRange",
    "Resized",
    "TensorChange",
    "combine",
    "compare",
    "convert",
    "inspect_adapter",
    "merge",
    "overlaps",
    "resize",
    "resize_all",
]
