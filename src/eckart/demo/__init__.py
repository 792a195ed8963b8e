"""A small real pair of models, packaged: English prose, and the same weights taught Python.

`data/README.md` says what the pair is, under which licences, and how it was made; `llama.py` runs
it with NumPy alone, so that what a decomposition costs can be said in nats and not only in norms.
"""

from pathlib import Path
from typing import Final

DATA: Final = Path(__file__).parent / "data"
BASE: Final = DATA / "base"
TUNED: Final = DATA / "tuned"
ENGLISH: Final = DATA / "heldout-english.txt"
PYTHON: Final = DATA / "heldout-python.txt"
FIGURES: Final = DATA / "FIGURES.json"
