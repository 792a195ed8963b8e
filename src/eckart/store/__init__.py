"""The factor store, the pass over two checkpoints that fills it, and the plan that is made from it."""

from eckart.store.decide import decide, plan
from eckart.store.fill import factor
from eckart.store.record import TensorRecord
from eckart.store.store import FactorStore

__all__ = ["FactorStore", "TensorRecord", "decide", "factor", "plan"]
