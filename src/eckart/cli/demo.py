"""`eckart demo`: the main job on a real pair that comes with the package."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from eckart.adapter import load_adapter
from eckart.checkpoint import Checkpoint, OutputFolder
from eckart.cli import console
from eckart.cli import options as opt
from eckart.cli.inspect import print_layers
from eckart.demo import BASE, PYTHON, TUNED
from eckart.demo.llama import Llama
from eckart.errors import CheckFailedError
from eckart.extraction.extract import extract
from eckart.extraction.verify import verify
from eckart.store import FactorStore, factor
from eckart.store.summary import diagnose, summarise

BUDGETS = ("2%", "6%", "18%")
SHARE = 16_384  # bytes of the held-out text that the losses are measured on


def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the adapters.")] = Path("eckart-demo"),
    pair: Annotated[
        Path | None,
        typer.Option(
            "--pair", help="Only copy the pair to this folder, to try other commands on.", show_default=False
        ),
    ] = None,
    quiet: opt.Quiet = False,
    json: opt.Json = False,
) -> None:
    """Extract adapters from a small real fine-tune, verify them, and measure what they are worth.

    The pair is a 1.3 M parameter byte-level Llama trained on English prose, and the same model
    trained on to write Python. Nothing is downloaded.

    Examples: **eckart demo** · **eckart demo --pair pair/**, then **eckart inspect pair/base pair/tuned**
    """
    if pair is not None:
        _copy_pair(pair, json)
        return
    result: dict[str, Any] = {"base": str(BASE), "tuned": str(TUNED)}
    if not json:
        _say_pair()
    with tempfile.TemporaryDirectory(prefix="eckart-") as scratch:
        with console.progress_bar(quiet, "factoring") as bar:
            store = factor(BASE, TUNED, Path(scratch) / "store", progress=bar)
        rows = summarise(store)
        result["layers"] = [r.to_json() for r in rows]
        if not json:
            console.out().print("\nWhat the update of each layer looks like", style="bold")
            print_layers(store, rows)
            for remark in diagnose(store, rows):
                console.out().print(remark, markup=False)
        written = [_extract(store, budget, out / f"budget-{budget.rstrip('%')}") for budget in BUDGETS]
        result["adapters"] = written
    if not json:
        _print_written(written)
    text = PYTHON.read_bytes()[:SHARE]
    losses = [["base", 0, _loss(BASE, None, text)]]
    losses += [
        [f"base + {w['budget']}", w["parameters"], _loss(BASE, Path(w["path"]), text)] for w in written
    ]
    losses.append(["tuned", store.base_parameters, _loss(TUNED, None, text)])
    result["losses"] = [
        dict(zip(("model", "parameters", "nats_per_byte"), row, strict=True)) for row in losses
    ]
    if json:
        console.print_json(result)
    else:
        _print_losses(losses)
        console.say(f"\nThe adapters are in {out}. Yours: eckart inspect BASE TUNED", quiet)
    if not all(w["holds"] for w in written):
        raise CheckFailedError("eckart demo", "a stated error does not hold", "Please report this")


def _copy_pair(folder: Path, json: bool) -> None:
    with OutputFolder(folder) as staging:
        for side in (BASE, TUNED):
            (staging / side.name).mkdir()
            for file in sorted(side.iterdir()):
                (staging / side.name / file.name).write_bytes(file.read_bytes())
    if json:
        console.print_json({"base": str(folder / BASE.name), "tuned": str(folder / TUNED.name)})
    else:
        console.out().print(f"{folder / BASE.name}\n{folder / TUNED.name}", markup=False)


def _say_pair() -> None:
    base = Checkpoint.open(BASE)
    parameters = sum(info.size for info in base.tensors.values())
    console.out().print("The pair", style="bold")
    console.out().print(
        f"base   {BASE}: byte-level Llama, {parameters:,} parameters, bfloat16, trained on the King James "
        f"Bible\ntuned  {TUNED}: all of it trained on, on Python source code",
        markup=False,
    )


def _extract(store: FactorStore, budget: str, folder: Path) -> dict[str, Any]:
    """Extract at one budget, verify from the files, and return both sides' numbers."""
    done = extract(
        BASE, TUNED, folder, budget=budget, store=store.path, base_name="eckart-demo-base", overwrite=True
    )
    checked = verify(BASE, TUNED, folder)
    return {
        "budget": budget,
        "path": str(folder),
        "parameters": done.adapter.parameters,
        "ranks": {m.name: m.rank for m in done.adapter},
        "stated_error": done.statement.error,
        "measured_error": checked.error,
        "holds": checked.holds,
    }


def _loss(model: Path, adapter: Path | None, text: bytes) -> float:
    """Return nats per byte of a model, with an adapter merged in if there is one."""
    checkpoint = Checkpoint.open(model)
    weights = {name: checkpoint.read_float(name) for name in checkpoint.names()}
    for module in load_adapter(adapter) if adapter else ():
        left, right = module.float_factors()
        weights[f"{module.name}.weight"] = weights[f"{module.name}.weight"] + left @ right
    return float(np.float64(Llama(checkpoint.config, weights).loss(text)))


def _print_written(written: list[dict[str, Any]]) -> None:
    console.out().print("\nAdapters written, and their errors recomputed from the files", style="bold")
    console.print_table(
        ["adapter", "budget", "parameters", "ranks", "stated error", "measured", "holds"],
        [
            [w["path"], w["budget"], f"{w['parameters']:,}",
             f"{min(w['ranks'].values())}-{max(w['ranks'].values())}", f"{w['stated_error']:.6f}",
             f"{w['measured_error']:.6f}", "yes" if w["holds"] else "NO"]
            for w in written
        ],
    )  # fmt: skip


def _print_losses(losses: list[list[Any]]) -> None:
    console.out().print("\nLoss on held-out Python, nats per byte", style="bold")
    worst, best = losses[0][2], losses[-1][2]
    console.print_table(
        ["model", "parameters added", "loss", "of the way"],
        [
            [name, f"{count:,}", f"{loss:.3f}", console.percent((worst - loss) / (worst - best))]
            for name, count, loss in losses
        ],
    )
