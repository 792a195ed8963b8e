"""`eckart extract`: two checkpoints in, an adapter out."""

from __future__ import annotations

import json as jsonlib
from pathlib import Path
from typing import Annotated

import typer

from eckart.cli import console
from eckart.cli import options as opt
from eckart.errors import UsageError
from eckart.extraction.extract import Extraction
from eckart.extraction.extract import extract as extract_adapter
from eckart.rank import RankPlan


def extract(
    base: opt.Base,
    tuned: opt.Tuned,
    out: Annotated[Path, typer.Argument(help="Folder of the adapter to make.", show_default=False)],
    rank: opt.Rank = None,
    energy: opt.Energy = None,
    error: opt.Error = None,
    ratio: opt.Ratio = None,
    knee: opt.Knee = False,
    noise_floor: opt.NoiseFloor = False,
    budget: opt.BudgetText = None,
    plan: Annotated[
        Path | None,
        typer.Option("--plan", help="Ranks from a plan written by eckart plan --out.", show_default=False),
    ] = None,
    min_rank: opt.MinRank = 0,
    max_rank: opt.MaxRank = None,
    multiple_of: opt.MultipleOf = 1,
    uniform: opt.Uniform = False,
    include: opt.Include = None,
    exclude: opt.Exclude = None,
    store: Annotated[
        Path | None,
        typer.Option("--store", help="Use this store, or make it and keep it.", show_default=False),
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option("--dtype", help="F32, F16, BF16 or F64.", show_default="the tuned checkpoint's"),
    ] = None,
    embeddings: Annotated[bool, typer.Option("--embeddings", help="Factor embedding tables too.")] = False,
    modules_to_save: Annotated[
        bool, typer.Option("--modules-to-save", help="Carry norms, biases and new rows whole.")
    ] = False,
    consumers: opt.For = None,
    experts: Annotated[
        str | None,
        typer.Option(
            "--experts",
            help="fused or split: how a mixture's experts are held.",
            show_default="as PEFT needs",
        ),
    ] = None,
    base_name: Annotated[
        str | None, typer.Option("--base-name", help="What the adapter calls its base.", show_default="BASE")
    ] = None,
    workers: opt.Workers = None,
    device: opt.Device = "cpu",
    overwrite: opt.Overwrite = False,
    quiet: opt.Quiet = False,
    json: opt.Json = False,
) -> None:
    """Extract a LoRA adapter (PEFT format) and state its error, measured on what was written.

    Examples: **eckart extract base/ tuned/ adapter/ --budget 1%** ·
    **eckart extract base/ tuned/ adapter/ --energy 0.9 --max-rank 128 --store store/**
    """
    words = locals()
    given = [f"--{c.replace('_', '-')}" for c, unset in opt.UNSET.items() if words[c] != unset]
    if plan is not None and given:
        raise UsageError("eckart extract", f"expected a rule or --plan, got both: {', '.join(given)}")
    rule = opt.rule_of(words) if plan is None else None
    with console.progress_bar(quiet, "factoring") as bar:
        done = extract_adapter(
            base, tuned, out, rule=rule, plan=read_plan(plan) if plan else None, store=store,
            dtype=dtype, embeddings=embeddings, modules_to_save=modules_to_save,
            consumers=consumers or "", experts=experts, base_name=base_name,
            overwrite=overwrite, workers=workers, device=device, progress=bar,
            say=lambda words: console.say(words, quiet),
        )  # fmt: skip
    for note in done.notes:
        console.say(f"note: {note}", quiet)
    if json:
        console.print_json({"adapter": str(out), "notes": list(done.notes), **done.statement})
        return
    print_extraction(done)
    console.say(f"note: this is the update that turns {base} into {tuned}.", quiet)
    console.say(f"Next: eckart verify {base} {tuned} {out}", quiet)


def read_plan(path: Path) -> RankPlan:
    """Read a plan file."""
    try:
        return RankPlan.from_json(jsonlib.loads(path.read_text("utf-8")), str(path))
    except OSError as error:
        raise UsageError(str(path), f"cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError):
        raise UsageError(str(path), "is not JSON", "Write one: eckart plan STORE --out plan.json") from None


def print_extraction(done: Extraction) -> None:
    """Print what was written, its error, and what it does not carry."""
    said = done.statement
    out = console.out()
    ranks = sorted(m.rank for m in done.adapter)
    spread = f"rank {ranks[0]}" if ranks and ranks[0] == ranks[-1] else "ranks "
    if ranks and ranks[0] != ranks[-1]:
        spread += f"{ranks[0]} to {ranks[-1]} (median {ranks[len(ranks) // 2]})"
    out.print(
        f"{done.path}: {len(done.adapter)} modules, {spread if ranks else 'no factors'}, "
        f"{done.adapter.parameters:,} parameters, {said['dtype']}\n"
        f"error {said['error']:.4f} of the adapted layers' update, "
        f"{said['error_of_whole_change']:.4f} of the whole change",
        markup=False,
    )
    missing = said["not_carried"]
    if missing:
        total = sum(item["share"] for item in missing)
        out.print(
            f"not carried: {len(missing)} tensors, {console.percent(total, 2)} of the change's energy",
            markup=False,
        )
        rows = [[i["name"], console.percent(i["share"], 3), i["why"]] for i in missing[:5]]
        console.print_table(["tensor", "share", "why"], rows)
        if len(missing) > 5:
            out.print(f"... and {len(missing) - 5} more in {done.path / 'eckart.json'}", markup=False)
