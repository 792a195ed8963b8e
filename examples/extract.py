"""Extract a LoRA adapter from a fine-tune, and prove its error from the files.

    python examples/extract.py [FOLDER]

Uses the small pair of models that comes with the package; put your own two checkpoints in place of BASE and
TUNED. It takes a few seconds.
"""

import sys
from pathlib import Path

import eckart
from eckart.demo import BASE, TUNED


def main(folder: Path) -> None:
    # Keep 90 % of the energy of every layer's update: the least rank that does, layer by layer.
    result = eckart.extract(BASE, TUNED, folder / "adapter", energy=0.9, overwrite=True)
    ranks = [module.rank for module in result.adapter]
    print(
        f"{len(ranks)} modules, ranks {min(ranks)} to {max(ranks)}, {result.adapter.parameters:,} parameters"
    )

    # Recompute the error from the two checkpoints and the adapter alone.
    check = eckart.verify(BASE, TUNED, result.path)
    print(f"relative error of the adapted layers: {check.error:.4f}, stated {check.stated:.4f}")
    print(f"relative error of the whole change: {check.error_of_whole_change:.4f}")
    print(f"every statement holds: {check.holds}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "build/examples"))
