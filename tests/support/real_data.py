"""Real checkpoints and adapters, where a folder of them is at hand: ECKART_TEST_DATA names it.

The folder holds ``pairs/`` (base and tuned checkpoints) and ``loras/`` (adapters). Tests that need it are
skipped where it is absent.
"""

import os
from pathlib import Path

DATA = Path(os.environ.get("ECKART_TEST_DATA", "no such folder"))
PAIRS = DATA / "pairs"
LORAS = DATA / "loras"
