"""`eckart demo`: extract, verify and measure adapters for a small pair of models that is packaged."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from threadpoolctl import threadpool_limits

from eckart.adapter import load_adapter
from eckart.adapter.formats.peft.settings import CONFIG
from eckart.checkpoint import Checkpoint, OutputFolder, read_header
from eckart.checkpoint.target import FileKind
from eckart.cli import console
from eckart.cli import options as opt
from eckart.cli.demo_report import (
    DemoAdapter,
    ModelLoss,
    print_adapters,
    print_losses,
    print_pair,
    print_updates,
)
from eckart.demo import BASE, PYTHON, TUNED
from eckart.errors import CheckFailedError
from eckart.extraction.extract import extract
from eckart.extraction.inspect import summarise_layers
from eckart.extraction.verify import verify
from eckart.parallel import OnProgress, Progress
from eckart.store import FactorStore, factor
from eckart.unfinished import scratch_folder

PAIR_MARKER = f"{BASE.name}/model.safetensors"  # by which a copy of the pair is recognised
BUDGETS = ("2%", "6%", "18%")
LOSS_BYTES = 16_384  # bytes of the held-out text on which losses are measured
INTRODUCTION = (
    "This demo makes LoRA adapters of three sizes from a small real fine-tune, verifies the error that each "
    "states, and measures how much of the fine-tune's effect each keeps. It downloads nothing and takes "
    "about 15 seconds of processor time.\n"
)


def demo(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder to write: the adapters, or the pair with --pair.")
    ] = Path("eckart-demo"),
    pair: Annotated[
        bool, typer.Option("--pair", help="Only copy the two models, to try other commands on them.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace what an earlier demo wrote.")
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
    folders = {budget: output / f"budget-{budget.rstrip('%')}" for budget in BUDGETS}
    for folder in folders.values():
        OutputFolder(folder, overwrite=overwrite, marker=CONFIG).check()
    if not json:
        console.say(INTRODUCTION, quiet)
    with scratch_folder() as scratch:
        with console.progress_bar(quiet, "factoring") as bar:
            store = factor(BASE, TUNED, scratch / "store", progress=bar)
        summary = summarise_layers(store)
        adapters = [_extract(store, budget, folder, overwrite) for budget, folder in folders.items()]
    with console.progress_bar(quiet, "measuring losses") as bar:
        losses = _measure_losses(adapters, store.base_parameters, bar)
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
        print_losses(losses, adapters)
        print_pair()
        print_adapters(adapters)
        print_updates(summary)
        console.say(f"\nThe adapters are in {output}. For your own models:", quiet)
        console.say_next("inspect", "BASE", "TUNED", quiet=quiet)
    if not all(adapter.holds for adapter in adapters):
        raise CheckFailedError("eckart demo", "a stated error does not hold", "Please report this")


def is_packaged_base(path: Path) -> bool:
    """Whether a file is a copy of the packaged base model, judged by its header."""
    return read_header(path).digest == read_header(BASE / "model.safetensors").digest


PAIR = FileKind("the demo's base model", is_packaged_base)


def _copy_pair(folder: Path, overwrite: bool, json: bool) -> None:
    with OutputFolder(folder, overwrite=overwrite, marker=PAIR_MARKER, kind=PAIR) as staging:
        for side in (BASE, TUNED):
            (staging / side.name).mkdir()
            for file in sorted(side.iterdir()):
                (staging / side.name / file.name).write_bytes(file.read_bytes())
    if json:
        console.print_json({"base": str(folder / BASE.name), "tuned": str(folder / TUNED.name)})
    else:
        console.out().print(f"{folder / BASE.name}\n{folder / TUNED.name}", markup=False)


def _extract(store: FactorStore, budget: str, folder: Path, overwrite: bool) -> DemoAdapter:
    """Extract an adapter within a budget, and verify its stated error from the files."""
    extracted = extract(
        BASE,
        TUNED,
        folder,
        budget=budget,
        store=store.path,
        base_name="eckart-demo-base",
        overwrite=overwrite,
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


def _measure_losses(adapters: list[DemoAdapter], parameters: int, progress: OnProgress) -> list[ModelLoss]:
    """Measure the base, the base with each adapter, and the fine-tune, which has this many parameters."""
    text = PYTHON.read_bytes()[:LOSS_BYTES]
    models: list[tuple[str, int, Path, Path | None]] = [
        ("base", 0, BASE, None),
        *((f"base + {a.budget}", a.parameters, BASE, Path(a.path)) for a in adapters),
        ("tuned", parameters, TUNED, None),
    ]
    losses = []
    # The model's products are small. On a busy machine, more threads would mostly wait for each other.
    with threadpool_limits(1, user_api="blas"):
        for name, added, model, adapter in models:
            losses.append(ModelLoss(name, added, _loss(model, adapter, text)))
            progress(Progress(len(losses), len(models), name, noun="model"))
    return losses


def _loss(model: Path, adapter: Path | None, text: bytes) -> float:
    """Return the loss of a model in nats per byte, with an adapter merged into it if one is given."""
    from eckart.demo.llama import Llama

    checkpoint = Checkpoint.open(model)
    weights = {name: checkpoint.read_float(name) for name in checkpoint.names()}
    for module in load_adapter(adapter) if adapter else ():
        left, right = module.float_factors()
        weights[f"{module.name}.weight"] = weights[f"{module.name}.weight"] + left @ right
    return float(np.float64(Llama(checkpoint.config, weights).loss(text)))
