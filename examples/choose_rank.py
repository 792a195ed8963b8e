"""Compare rank rules at the cost of one pass over the checkpoints.

    python examples/choose_rank.py [FOLDER]

The pass stores the factors of every update. Every rule, rank and budget after it cuts the stored factors,
which takes a fraction of a second. The whole script takes a few seconds.
"""

import sys
from pathlib import Path

import eckart
from eckart.demo import BASE, TUNED

RULES = (
    {"rank": 16},
    {"energy": 0.9},
    {"error": 0.5},
    {"knee": True},
    {"budget": "6%"},
    {"energy": 0.9, "min_rank": 8, "max_rank": 64, "multiple_of": 8},
)


def main(folder: Path) -> None:
    store = eckart.factor(BASE, TUNED, folder / "store")

    # The spectrum of one layer: singular values of its update, and the rank for a share of its energy.
    spectrum = store.spectrum("model.layers.0.self_attn.q_proj.weight")
    largest, stable_rank = spectrum.values[0], spectrum.stable_rank
    print(f"q_proj of layer 0: largest singular value {largest:.3f}, stable rank {stable_rank:.1f}")
    print("rank at 80, 90 and 99 % of its energy:", *(spectrum.rank_at_energy(e) for e in (0.8, 0.9, 0.99)))

    # What each rule would cost and keep, over all layers.
    for rule in RULES:
        plan = eckart.plan(store, **rule)
        options = ", ".join(f"{key}={value}" for key, value in rule.items())
        print(f"{options:50} {plan.parameters:9,} parameters, {plan.energy:.1%} of the energy")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "build/examples"))
