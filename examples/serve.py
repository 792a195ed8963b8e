"""Write one adapter that several servers load correctly, and check it against their rules.

    python examples/serve.py [FOLDER]

Servers read the same file differently. This example finds which of them would load an adapter incorrectly,
and writes one that all of them load correctly. It takes a few seconds.
"""

import sys
from pathlib import Path

import eckart
from eckart.demo import BASE, TUNED

SERVERS = ("vllm", "llama.cpp", "tgi")


def report(path: Path) -> None:
    for verdict in eckart.check(path, SERVERS).verdicts:
        problems = "; ".join(problem.what for problem in verdict.problems[:1])
        print(f"  {verdict.consumer.title:15} {'correct' if verdict.holds else problems}")


def main(folder: Path) -> None:
    # Ranks that differ from layer to layer: correct in PEFT and vLLM, wrong in other servers.
    varied = eckart.extract(BASE, TUNED, folder / "varied", energy=0.9, overwrite=True)
    print("ranks by energy:")
    report(varied.path)

    # One rank for all layers, laid out for the three servers.
    uniform = eckart.extract(BASE, TUNED, folder / "served", rank=16, consumers=SERVERS, overwrite=True)
    print(f"rank 16, written for {', '.join(SERVERS)}:")
    report(uniform.path)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "build/examples"))
