"""A small real pair of language models: one trained on English prose, and the same one fine-tuned on Python.

`data/README.md` describes the models, their licences and how they were made. `llama.py` runs them with NumPy,
to measure the effect of an approximation as a loss in nats and not only as a norm.
"""

from pathlib import Path
from typing import Final

DATA: Final = Path(__file__).parent / "data"
BASE: Final = DATA / "base"
TUNED: Final = DATA / "tuned"
ENGLISH: Final = DATA / "heldout-english.txt"
PYTHON: Final = DATA / "heldout-python.txt"
FIGURES: Final = DATA / "FIGURES.json"
