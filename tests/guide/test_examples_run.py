"""Run the scripts in examples/ on the packaged pair, each twice in the same folder."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
PRINTED = {
    "extract.py": [
        "29 modules, ranks 1 to 63, 507,120 parameters",
        "relative error of the adapted layers: 0.2557, stated 0.2557",
        "relative error of the whole change: 0.2697",
        "every statement holds: True",
    ],
    "choose_rank.py": [
        "q_proj of layer 0: largest singular value 1.929, stable rank 5.2",
        "rank at 80, 90 and 99 % of its energy: 14 23 60",
        "rank=16                                              202,240 parameters, 78.6% of the energy",
        "budget=6%                                             79,088 parameters, 65.9% of the energy",
    ],
    "serve.py": [
        "ranks by energy:",
        "  vLLM            correct",
        "rank 16, written for vllm, llama.cpp, tgi:",
        "  vLLM            correct",
        "  llama.cpp       correct",
        "  TGI and LoRAX   correct",
    ],
}


def test_every_example_is_tested() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(PRINTED)


@pytest.mark.parametrize("name", PRINTED)
def test_example_runs_and_runs_again(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [name, str(tmp_path)])
    for _ in range(2):
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        printed = iter(capsys.readouterr().out.splitlines())
        for line in PRINTED[name]:
            assert line in printed, f"{name} does not print, in this order: {line!r}"
