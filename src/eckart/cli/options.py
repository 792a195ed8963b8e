"""Options that several commands share, and the rule they spell."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from eckart.errors import UsageError
from eckart.rank import RankRule

RULE = "How ranks are chosen (give one)"
SHAPE = "Bounds on the ranks"
HOW = "How the pass runs"

Base = Annotated[
    Path, typer.Argument(help="The base checkpoint: a .safetensors file or a folder.", show_default=False)
]
Tuned = Annotated[Path, typer.Argument(help="The fine-tuned checkpoint.", show_default=False)]

Rank = Annotated[
    int | None,
    typer.Option("--rank", help="This rank for every tensor.", rich_help_panel=RULE, show_default=False),
]
Energy = Annotated[
    float | None,
    typer.Option(
        "--energy",
        help="The least rank that keeps this share of sum sigma^2, e.g. 0.9.",
        rich_help_panel=RULE,
        show_default=False,
    ),
]
Error = Annotated[
    float | None,
    typer.Option(
        "--error",
        help="The least rank with this relative Frobenius error, e.g. 0.05.",
        rich_help_panel=RULE,
        show_default=False,
    ),
]
Ratio = Annotated[
    float | None,
    typer.Option(
        "--ratio", help="Keep sigma > sigma_1 / RATIO, e.g. 100.", rich_help_panel=RULE, show_default=False
    ),
]
Knee = Annotated[bool, typer.Option("--knee", help="The knee of each energy curve.", rich_help_panel=RULE)]
NoiseFloor = Annotated[
    bool,
    typer.Option(
        "--noise-floor", help="Keep what stands above the checkpoints' own rounding.", rich_help_panel=RULE
    ),
]
BudgetText = Annotated[
    str | None,
    typer.Option(
        "--budget",
        help="Share parameters (2M), bytes (8MB) or a share of the base (1%) among all tensors.",
        rich_help_panel=RULE,
        show_default=False,
    ),
]

MinRank = Annotated[int, typer.Option("--min-rank", help="No rank under this.", rich_help_panel=SHAPE)]
MaxRank = Annotated[
    int | None,
    typer.Option("--max-rank", help="No rank over this.", rich_help_panel=SHAPE, show_default=False),
]
MultipleOf = Annotated[
    int, typer.Option("--multiple-of", help="Round ranks up to a multiple.", rich_help_panel=SHAPE)
]
Uniform = Annotated[bool, typer.Option("--uniform", help="One rank for all tensors.", rich_help_panel=SHAPE)]
Include = Annotated[
    list[str] | None,
    typer.Option(
        "--include",
        help="Only tensors whose name matches this regular expression; may be repeated.",
        rich_help_panel=SHAPE,
        show_default=False,
    ),
]
Exclude = Annotated[
    list[str] | None,
    typer.Option(
        "--exclude",
        help="Not the tensors whose name matches; may be repeated.",
        rich_help_panel=SHAPE,
        show_default=False,
    ),
]

Dtype = Annotated[
    str | None,
    typer.Option("--dtype", help="F32, F16, BF16 or F64.", show_default="the adapter's own"),
]
Format = Annotated[
    str | None,
    typer.Option("--format", help="peft, kohya or diffusers.", show_default="the adapter's own"),
]
For = Annotated[
    str | None,
    typer.Option(
        "--for",
        help="Programs that must compute it right: peft, vllm, vllm-0.30, sglang, llama.cpp, tgi, lorax, "
        "tensorrt-llm, diffusers, comfyui; parted by commas.",
        show_default=False,
    ),
]
BaseOf = Annotated[
    Path | None,
    typer.Option("--base", help="The base model of the adapter.", show_default=False),
]
Weights = Annotated[
    str | None,
    typer.Option(
        "--weights", help="A number for each adapter, e.g. 0.7,0.3 or 1,-1.", show_default="1 for each"
    ),
]

Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        min=1,
        help="Tensors in flight at once.",
        rich_help_panel=HOW,
        show_default="one per core",
    ),
]
Device = Annotated[
    str, typer.Option("--device", help="cpu, or cuda (needs eckart[torch]).", rich_help_panel=HOW)
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no remarks.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]


# What a rule's options are when they are not given: a plan excludes them all.
UNSET = {
    **dict.fromkeys(("rank", "energy", "error", "ratio", "budget", "max_rank", "include", "exclude")),
    **dict.fromkeys(("knee", "noise_floor", "uniform"), False),
    "min_rank": 0,
    "multiple_of": 1,
}


def rule_of(words: dict[str, Any]) -> RankRule:
    """Build a rule from a command's options (its ``locals()``, or a part of them)."""
    names = (
        "rank", "energy", "error", "ratio", "knee", "noise_floor", "budget",
        "min_rank", "max_rank", "multiple_of", "uniform",
    )  # fmt: skip
    return RankRule.of(
        **{name: words[name] for name in names},
        include=words["include"] or (),
        exclude=words["exclude"] or (),
    )


def weights_of(text: str | None) -> list[float] | None:
    """Read ``"0.7,0.3"``."""
    if text is None:
        return None
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f"--weights {text}", "expected numbers parted by commas, e.g. 0.7,0.3") from None
