"""Eckart finds the rank of a weight update and turns it into an adapter you can prove is right."""

from eckart.version import __version__ as __version__  # isort: skip  # the rooms below state it

from eckart.adapter import Adapter as Adapter
from eckart.adapter import Extraction as Extraction
from eckart.adapter import extract as extract
from eckart.adapter import read_peft as load_adapter
from eckart.adapter import verify as verify
from eckart.linalg import LowRank as LowRank
from eckart.linalg import Spectrum as Spectrum
from eckart.linalg import spectrum as spectrum
from eckart.linalg import svd as svd
from eckart.rank import RankPlan as RankPlan
from eckart.rank import RankRule as RankRule
from eckart.store import FactorStore as FactorStore
from eckart.store import factor as factor
from eckart.store import plan as plan
