"""`eckart demo`: extract, verify and measure adapters for a small pair of models that is packaged."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from eckart.adapter import load_adapter
from eckart.checkpoint import Checkpoint, OutputFolder
from eckart.cli import console
from eckart.cli import options as opt
from eckart.cli.inspect import print_layers
from eckart.demo import BASE, PYTHON, TUNED
from eckart.errors import CheckFailedError
from eckart.extraction.extract import extract
from eckart.extraction.inspect import summarise_layers
from eckart.extraction.verify import verify
from eckart.store import FactorStore, factor
from eckart.unfinished import scratch_folder

PAIR_MARKER = f"{BASE.name}/model.safetensors"  # by which a copy of the pair is recognised
BUDGETS = ("2%", "6%", "18%")
LOSS_BYTES = 16_384  # bytes of the held-out text on which losses are measured


@dataclass(frozen=True)
class DemoAdapter:
    """An extracted adapter, with its stated error and the error recomputed from its files."""

    budget: str
    path: str
    parameters: int
    ranks: dict[str, int]
    stated_error: float | None
    measured_error: float
    holds: bool


@dataclass(frozen=True)
class ModelLoss:
    """The loss of a model on held-out Python code, in nats per byte."""

    model: str
    parameters: int
    nats_per_byte: float


def demo(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder to write: the adapters, or the pair with --pair.")
    ] = Path("eckart-demo"),
    pair: Annotated[
        bool, typer.Option("--pair", help="Only copy the two models, to try other commands on them.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="With --pair: replace an existing copy of the pair.")
    ] = False,
    quiet: opt.Quiet = False,
    json: opt.Json = False,
) -> None:
    """Extract adapters from a small real fine-tune, verify them and measure their loss.

    The base is a byte-level Llama with 1.3 million parameters, trained on English prose. The fine-tune is
    the same model after further training on Python code. Both are part of the package. Nothing is downloaded.

    Examples: **eckart demo** · **eckart demo --pair -o pair**, then **eckart inspect pair/base pair/tuned**
    """
    if pair:
        _copy_pair(output, overwrite, json)
        return
    if not json:
        _print_pair()
    with scratch_folder() as scratch:
        with console.progress_bar(quiet, "factoring") as bar:
            store = factor(BASE, TUNED, scratch / "store", progress=bar)
        summary = summarise_layers(store)
        if not json:
            console.out().print("\nThe update of each layer", style="bold")
            print_layers(summary)
        adapters = [_extract(store, budget, output / f"budget-{budget.rstrip('%')}") for budget in BUDGETS]
    if not json:
        _print_adapters(adapters)
    losses = _measure_losses(adapters, store.base_parameters)
    if json:
        console.print_json(
            {
                "base": str(BASE),
                "tuned": str(TUNED),
                "layers": [row.to_json() for row in summary.layers],
                "adapters": [asdict(adapter) for adapter in adapters],
                "losses": [asdict(loss) for loss in losses],
            }
        )
    else:
        _print_losses(losses)
        console.say(
            f"\nThe adapters are in {output}. To inspect your own models: eckart inspect BASE TUNED", quiet
        )
    if not all(adapter.holds for adapter in adapters):
        raise CheckFailedError("eckart demo", "a stated error does not hold", "Please report this")


def _copy_pair(folder: Path, overwrite: bool, json: bool) -> None:
    with OutputFolder(folder, overwrite=overwrite, marker=PAIR_MARKER) as staging:
        for side in (BASE, TUNED):
            (staging / side.name).mkdir()
            for file in sorted(side.iterdir()):
                (staging / side.name / file.name).write_bytes(file.read_bytes())
    if json:
        console.print_json({"base": str(folder / BASE.name), "tuned": str(folder / TUNED.name)})
    else:
        console.out().print(f"{folder / BASE.name}\n{folder / TUNED.name}", markup=False)


def _print_pair() -> None:
    base = Checkpoint.open(BASE)
    parameters = sum(info.size for info in base.tensors.values())
    console.out().print("The pair of models", style="bold")
    console.out().print(
        f"base   {BASE}: byte-level Llama, {parameters:,} parameters, bfloat16, trained on the King James "
        f"Bible\ntuned  {TUNED}: the same model with all weights fine-tuned on Python source code",
        markup=False,
    )


def _extract(store: FactorStore, budget: str, folder: Path) -> DemoAdapter:
    """Extract an adapter within a budget, and verify its stated error from the files."""
    extracted = extract(
        BASE, TUNED, folder, budget=budget, store=store.path, base_name="eckart-demo-base", overwrite=True
    )
    checked = verify(BASE, TUNED, folder)
    return DemoAdapter(
        budget=budget,
        path=str(folder),
        parameters=extracted.adapter.parameters,
        ranks={module.name: module.rank for module in extracted.adapter},
        stated_error=extracted.statement.error,
        measured_error=checked.error,
        holds=checked.holds,
    )


def _measure_losses(adapters: list[DemoAdapter], parameters: int) -> list[ModelLoss]:
    """Measure the base, the base with each adapter, and the fine-tune, which has this many parameters."""
    text = PYTHON.read_bytes()[:LOSS_BYTES]
    adapted = [
        ModelLoss(f"base + {a.budget}", a.parameters, _loss(BASE, Path(a.path), text)) for a in adapters
    ]
    return [
        ModelLoss("base", 0, _loss(BASE, None, text)),
        *adapted,
        ModelLoss("tuned", parameters, _loss(TUNED, None, text)),
    ]


def _loss(model: Path, adapter: Path | None, text: bytes) -> float:
    """Return the loss of a model in nats per byte, with an adapter merged into it if one is given."""
    from eckart.demo.llama import Llama

    checkpoint = Checkpoint.open(model)
    weights = {name: checkpoint.read_float(name) for name in checkpoint.names()}
    for module in load_adapter(adapter) if adapter else ():
        left, right = module.float_factors()
        weights[f"{module.name}.weight"] = weights[f"{module.name}.weight"] + left @ right
    return float(np.float64(Llama(checkpoint.config, weights).loss(text)))


def _print_adapters(adapters: list[DemoAdapter]) -> None:
    console.out().print("\nAdapters, with their errors recomputed from the files", style="bold")
    console.print_table(
        ["adapter", "budget", "parameters", "ranks", "stated error", "measured", "holds"],
        [
            [
                adapter.path,
                adapter.budget,
                f"{adapter.parameters:,}",
                f"{min(adapter.ranks.values())}-{max(adapter.ranks.values())}",
                None if adapter.stated_error is None else f"{adapter.stated_error:.6f}",
                f"{adapter.measured_error:.6f}",
                "yes" if adapter.holds else "NO",
            ]
            for adapter in adapters
        ],
    )


def _print_losses(losses: list[ModelLoss]) -> None:
    console.out().print("\nLoss on held-out Python code, in nats per byte", style="bold")
    worst, best = losses[0].nats_per_byte, losses[-1].nats_per_byte
    console.print_table(
        ["model", "parameters added", "loss", "gap closed"],
        [
            [
                loss.model,
                f"{loss.parameters:,}",
                f"{loss.nats_per_byte:.3f}",
                console.percent((worst - loss.nats_per_byte) / (worst - best)),
            ]
            for loss in losses
        ],
    )
