"""What `eckart demo` prints: what each adapter is worth, then the details, with every column explained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from eckart.adapter.formats.peft.peft import WEIGHTS
from eckart.checkpoint import Checkpoint
from eckart.cli import console
from eckart.cli.spectra import print_layers
from eckart.cli.tables import Cells, Column, print_legend, print_table
from eckart.demo import BASE, TUNED
from eckart.extraction.inspect import LayersSummary

MOST_LAYERS = 9  # rows that are shown
LOSS_COLUMNS = (
    Column("model", Cells.PHRASE, full="The base, the base with an adapter of a budget, or the fine-tune."),
    Column("parameters added", full="Parameters of the adapter; for the fine-tune, all of its own."),
    Column("size", full="Size of the file that holds them."),
    Column("loss", full="Nats per byte on Python code that neither model was trained on. Less is better."),
    Column("gap closed", full="Share of the difference in loss between the base and the fine-tune."),
)
ADAPTER_COLUMNS = (
    Column("adapter", Cells.NAME, full="Folder of the adapter."),
    Column("budget", full="Parameters allowed, as a share of the base: --budget of eckart extract."),
    Column("parameters", full="Parameters used."),
    Column("ranks", full="Smallest and largest rank of a layer."),
    Column(
        "stated error", full="||dW - B A|| / ||dW|| over the adapted layers, as eckart extract states it."
    ),
    Column("measured", full="The same, as eckart verify recomputes it from the files."),
    Column("holds", full="Whether every stated number is right."),
)


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


def print_losses(losses: Sequence[ModelLoss], adapters: Sequence[DemoAdapter]) -> None:
    """Print what each adapter is worth, and what that means."""
    worst, best = losses[0].nats_per_byte, losses[-1].nats_per_byte
    closed = [(worst - loss.nats_per_byte) / (worst - best) for loss in losses]
    files = [None, *(Path(adapter.path) / WEIGHTS for adapter in adapters), TUNED / "model.safetensors"]
    out = console.out()
    out.print("What each adapter is worth", style="bold")
    print_table(
        LOSS_COLUMNS,
        [
            [
                loss.model,
                f"{loss.parameters:,}",
                None if file is None else console.size(file.stat().st_size),
                f"{loss.nats_per_byte:.3f}",
                console.percent(share),
            ]
            for loss, file, share in zip(losses, files, closed, strict=True)
        ],
        drop=["parameters added"],
    )
    least, most = adapters[0], adapters[-1]
    out.print(
        f"\nAn adapter with {most.budget} of the model's parameters has {console.percent(closed[-2], 0)} of "
        f"the fine-tune's effect on the loss, and one with {least.budget} still has "
        f"{console.percent(closed[1], 0)}.",
        markup=False,
    )
    print_legend(LOSS_COLUMNS, LOSS_COLUMNS, explain=True)


def print_pair() -> None:
    """Print what the two models are, and where they are."""
    base = Checkpoint.open(BASE)
    parameters = sum(info.size for info in base.tensors.values())
    out = console.out()
    out.print("\nThe pair of models", style="bold")
    out.print(
        f"base: a byte-level Llama with {parameters:,} parameters in bfloat16, trained on the King James "
        "Bible\ntuned: the same model with all weights fine-tuned on Python source code\n"
        f"Both are in {BASE.parent}",
        markup=False,
    )


def print_adapters(adapters: Sequence[DemoAdapter]) -> None:
    """Print each adapter with its stated and its recomputed error."""
    console.out().print("\nThe adapters, with their errors recomputed from the files", style="bold")
    print_table(
        ADAPTER_COLUMNS,
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
        drop=["parameters", "ranks", "budget", "stated error"],
    )
    print_legend(ADAPTER_COLUMNS, ADAPTER_COLUMNS, explain=True)


def print_updates(summary: LayersSummary) -> None:
    """Print the spectra of the first layers, as `eckart inspect` does."""
    console.out().print("\nThe update of each layer, which eckart inspect shows", style="bold")
    print_layers(summary, explain=True, most=MOST_LAYERS)
