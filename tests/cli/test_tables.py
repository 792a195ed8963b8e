"""Every table of every command, on terminals of several widths, against the JSON of the same command.

The expected text of a cell is formatted here from the JSON document, not by the code that prints tables.
"""

from __future__ import annotations

import io
import json
import math
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import eckart
from eckart.applications.images import write_picture
from eckart.applications.images.samples import sample
from eckart.applications.simulate import simulate_ratings
from eckart.cli import demo_report
from eckart.serving.consumers import CONSUMERS
from support.fine_tune import FineTune
from support.lora_folders import random_pair, write_lora
from support.printed_tables import Table, agrees, hidden_columns, recorded
from support.terminal import STYLE, Screen, run

WIDTHS = (40, 60, 80, 120)
ENERGIES = ("80%", "90%", "95%", "99%")
Document = Any
Rows = list[dict[str, str]]


@dataclass(frozen=True)
class Case:
    """A command line, and what its tables must show, by title of the column, given its JSON document."""

    line: Callable[[FineTune, Path], list[object]]
    tables: Callable[[Document, FineTune], list[Rows]]


def three(number: float | None) -> str:
    """Return three significant digits."""
    return "-" if number is None else f"{number:.3g}"


def whole(number: int | None) -> str:
    return "-" if number is None else str(number)


def times(shape: list[int]) -> str:
    return "x".join(map(str, shape))


def layers(document: Document, _: FineTune) -> list[Rows]:
    return [
        [
            {
                "layer": row["name"].removesuffix(".weight"),
                "shape": times(row["shape"]),
                "|dW|/|W|": three(row["relative"]),
                "sigma_1": three(row["sigma_1"]),
                "stable": three(row["stable_rank"]),
                "effective": three(row["effective_rank"]),
                **{f"r{energy[:-1]}": whole(row["ranks"][energy]) for energy in ENERGIES},
                "knee": whole(row["knee"]),
                "above noise": whole(row["above_noise"]),
                "decay": row["decay"],
                "unchanged": f"{100 * row['unchanged']:.0f}%",
            }
            for row in document["layers"]
        ]
    ]


def modules(document: Document, with_base: bool) -> list[Rows]:
    return [
        [
            {
                "module": row["name"],
                "shape": times(row["shape"]),
                "rank": whole(row["rank"]),
                "|BA|": three(row["size"]),
                **({"|BA|/|W|": three(row["relative"])} if with_base else {}),
                "sigma_1": three(row["sigma_1"]),
                "first": f"{100 * row['first']:.0f}%",
                "stable": three(row["stable_rank"]),
                "effective": three(row["effective_rank"]),
                **{f"r{energy[:-1]}": whole(row["ranks"][energy]) for energy in ENERGIES},
                "knee": whole(row["knee"]),
            }
            for row in document["modules"]
        ]
    ]


def bytes_text(number: float) -> str:
    unit = min(3, int(math.log10(max(number, 1)) // 3))
    return f"{number:.0f} B" if unit == 0 else f"{number / 1000**unit:.1f} {' kMG'[unit]}B"


def estimate(document: Document, _: FineTune) -> list[Rows]:
    seconds = {key: f"{document[f'seconds_{key}']:.1f} s here" for key in ("leading", "whole")}
    values = {
        "tensors": f"{document['tensors']} ({document['matrices']} matrices)",
        "parameters": f"{document['parameters']:,}",
        "to read": bytes_text(document["bytes_read"]),
        "rank 32": f"{document['flops_leading']:.2g} flops, about {seconds['leading']}",
        "all singular values": f"{document['flops_whole']:.2g} flops, about {seconds['whole']}",
        "peak memory": bytes_text(document["peak_bytes"]),
        **{f"adapter, rank {r}": bytes_text(size) for r, size in document["adapter_bytes"].items()},
    }
    return [[{"cost of a pass": name, "": value} for name, value in values.items()]]


def plan(document: Document, fine_tune: FineTune) -> list[Rows]:
    store = eckart.FactorStore.open(fine_tune.store)
    rows = []
    for name, rank in document["ranks"].items():
        shape = store.record(name).shape
        rows.append(
            {
                "tensor": name,
                "shape": times(list(shape)),
                "rank": str(rank),
                "energy": f"{100 * store.spectrum(name).energy(rank):.1f}%",
                "parameters": f"{rank * sum(shape):,}",
                "why": document["reasons"][name],
            }
        )
    return [rows]


def verified(document: Document, _: FineTune) -> list[Rows]:
    return [
        [
            {
                "module": row["name"],
                "rank": str(row["rank"]),
                "measured": f"{row['error']:.6f}",
                "stated": f"{row['stated']:.6f}",
                "holds": "yes" if row["holds"] else "NO",
            }
            for row in document["modules"]
        ]
    ]


def left_out(document: Document, _: FineTune) -> list[Rows]:
    return [
        [
            {"tensor": row["name"], "share": f"{100 * row['share']:.3f}%", "why": row["why"]}
            for row in document["not_carried"]
        ]
    ]


def programs(document: Document, _: FineTune) -> list[Rows]:
    rows = []
    for row in document["programs"]:
        is_refused = any(problem["severity"] == "refused" for problem in row["problems"])
        rows.append(
            {
                "program": CONSUMERS[row["name"]].title,
                "correct": "yes" if row["holds"] else "NO",
                "error of its update": "does not load" if is_refused else three(row["error"]),
                "start it with": row["start_with"] or "-",
            }
        )
    return [rows]


def overlaps(document: Document, fine_tune: FineTune) -> list[Rows]:
    rows = []
    for first, second in ((0, 1), (0, 2), (1, 2)):
        of_pair = [row for row in document["overlaps"] if (row["first"], row["second"]) == (first, second)]
        most = max(of_pair, key=lambda row: abs(row["cosine"]))
        names = [str(fine_tune.adapter), str(fine_tune.folder / "x"), str(fine_tune.folder / "y")]
        rows.append(
            {
                "overlap (1 same space, 0 orthogonal)": f"{names[first]} and {names[second]}",
                "modules": str(len(of_pair)),
                "writes to": f"{sum(row['left'] for row in of_pair) / len(of_pair):.3f}",
                "reads from": f"{sum(row['right'] for row in of_pair) / len(of_pair):.3f}",
                "largest cosine": f"{most['cosine']:+.3f}",
                "in": most["name"],
            }
        )
    return [rows]


def planes(document: Document, _: FineTune) -> list[Rows]:
    return [
        [
            {
                "plane": row["name"],
                "coded as": f"{row['block']}x{row['block']} blocks" if row["block"] else "factors",
                "rank": str(row["rank"]),
                "step": three(row["step"]),
            }
            for row in document["planes"]
        ]
    ]


def formats(document: Document, fine_tune: FineTune) -> list[Rows]:
    pixels = document["shape"][0] * document["shape"][1]
    rows = []
    for row in document["compare"]:
        is_missing = row["bytes"] is None
        rows.append(
            {
                "format": row["name"],
                "bytes": "-" if is_missing else f"{row['bytes']:,}",
                "bits per pixel": "-" if is_missing else f"{8 * row['bytes'] / pixels:.3f}",
                "PSNR": "-" if is_missing else f"{row['psnr']:.2f}",
                "SSIM": "-" if row["ssim"] is None else f"{row['ssim']:.4g}",
                "": row["why_not"],
            }
        )
    return [*planes(document, fine_tune), rows]


def suggestions(document: Document, _: FineTune) -> list[Rows]:
    items = document["suggestions"]["items"]
    return [[{"items for user u3": row["item"], "predicted": f"{row['rating']:.2f}"} for row in items]]


CASES = {
    "inspect, pair": Case(lambda f, _: ["inspect", *f.pair.paths], layers),
    "inspect, store": Case(lambda f, out: ["inspect", *f.pair.paths, "--store", out], layers),
    "inspect, one checkpoint": Case(lambda f, _: ["inspect", f.pair.tuned], layers),
    "inspect, adapter": Case(lambda f, _: ["inspect", f.adapter], lambda d, _: modules(d, False)),
    "inspect, base and adapter": Case(
        lambda f, _: ["inspect", f.pair.base, f.adapter], lambda d, _: modules(d, True)
    ),
    "inspect, dry run": Case(lambda f, _: ["inspect", *f.pair.paths, "--dry-run"], estimate),
    "plan": Case(lambda f, _: ["plan", f.store, "--energy", 0.9], plan),
    "plan, budget": Case(lambda f, _: ["plan", f.store, "--budget", "20%"], plan),
    "verify": Case(lambda f, _: ["verify", *f.pair.paths, f.adapter], verified),
    "extract": Case(lambda f, out: ["extract", *f.pair.paths, "-o", out, "--rank", 3], left_out),
    "check": Case(lambda f, _: ["check", f.adapter, "--for", "peft,vllm,llama.cpp,tgi,sglang"], programs),
    "combine": Case(
        lambda f, out: ["combine", f.adapter, f.folder / "x", f.folder / "y", "-o", out], overlaps
    ),
    "image": Case(lambda f, _: ["image", f.folder / "photo.png"], planes),
    "image, compare": Case(
        lambda f, _: ["image", f.folder / "photo.png", "--size", "1KB", "--compare"], formats
    ),
    "recommend": Case(
        lambda f, _: ["recommend", f.folder / "u.csv", "--method", "biases", "--user", "u3"], suggestions
    ),
}


@pytest.fixture(scope="module")
def inputs(fine_tune: FineTune) -> FineTune:
    """Add to the fine-tune's folder two adapters, a picture and ratings."""
    shapes = {"model.layers.0.q_proj": (40, 30), "model.layers.1.q_proj": (33, 70)}
    for seed, name in enumerate(("x", "y")):
        if not (fine_tune.folder / name).exists():
            write_lora(
                fine_tune.folder / name,
                {module: random_pair(m, n, 12, seed) for module, (m, n) in shapes.items()},
            )
    write_picture(fine_tune.folder / "photo.png", sample("still", 48))
    ratings = simulate_ratings(users=20, items=30, ratings=300, rank=1, noise=0.4, taste=0.9).ratings
    triples = zip(ratings.users, ratings.items, ratings.values, strict=True)
    lines = [
        f"u{user},a film with a long title {item},{min(5, max(1, round(v)))}" for user, item, v in triples
    ]
    (fine_tune.folder / "u.csv").write_text("user,item,rating\n" + "\n".join(lines))
    return fine_tune


@pytest.fixture(autouse=True)
def steady_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    """The speed of this machine, which --dry-run measures, differs between two runs."""
    monkeypatch.setattr("eckart.store.estimate._product_rate", lambda: 1e6)


def check_table(table: Table, expected: Rows, hidden: list[str]) -> None:
    """Compare every shown cell of a table, and its titles, with what they must show."""
    shown = [column for column in table.columns if column.title not in hidden]
    assert [column.title for column in table.columns] == list(expected[0])
    titles, rows = table.read()
    visible = [column for column in shown if column.title or any(row[column.title] for row in expected)]
    assert titles == [column.title for column in visible]
    assert len(rows) == len(expected)
    for cells, row in zip(rows, expected, strict=True):
        for cell, column in zip(cells, visible, strict=True):
            assert agrees(cell, row[column.title], column), (column.title, cell, row[column.title])
    for i, column in enumerate(visible):
        different = len({row[column.title] for row in expected})
        assert len({row[i] for row in rows}) == different, f"two {column.title}s look the same"


@pytest.mark.parametrize("width", [None, *WIDTHS])
@pytest.mark.parametrize("name", CASES)
def test_every_number_of_a_table_is_that_of_the_json_document(inputs, tmp_path, name, width):
    if name.startswith("image"):
        pytest.importorskip("PIL.Image")
    case = CASES[name]
    document = json.loads(run(*case.line(inputs, tmp_path / "first"), "--json").out)
    with recorded() as tables:
        done = run(*case.line(inputs, tmp_path / "second"), width=width)
    expected = case.tables(document, inputs)
    assert len(tables) == len(expected)
    hidden = hidden_columns(done.out)
    for table, rows in zip(tables, expected, strict=True):
        assert "\n".join(table.printed) in done.out
        titles = [column.title for column in table.columns]
        hides = hidden.pop(0) if hidden and set(hidden[0]) <= set(titles) else []
        check_table(table, rows, hides)
        if width is None:
            assert not hides
            assert [text for text in table.printed if "\n" in text] == []
        elif table.width > width:
            assert not hides
            assert name == "combine"  # its paths are wider than the terminal, which wraps the lines
    assert not hidden


def losses(document: Document) -> Rows:
    worst, best = (document["losses"][i]["nats_per_byte"] for i in (0, -1))
    files = [Path(row["path"]) / "adapter_model.safetensors" for row in document["adapters"]]
    sizes = [
        bytes_text(file.stat().st_size) for file in (*files, Path(document["tuned"]) / "model.safetensors")
    ]
    return [
        {
            "model": row["model"],
            "parameters added": f"{row['parameters']:,}",
            "size": size,
            "loss": f"{row['nats_per_byte']:.3f}",
            "gap closed": f"{100 * (worst - row['nats_per_byte']) / (worst - best):.1f}%",
        }
        for row, size in zip(document["losses"], ["-", *sizes], strict=True)
    ]


def adapters(document: Document) -> Rows:
    return [
        {
            "adapter": row["path"],
            "budget": row["budget"],
            "parameters": f"{row['parameters']:,}",
            "ranks": f"{min(row['ranks'].values())}-{max(row['ranks'].values())}",
            "stated error": f"{row['stated_error']:.6f}",
            "measured": f"{row['measured_error']:.6f}",
            "holds": "yes" if row["holds"] else "NO",
        }
        for row in document["adapters"]
    ]


@pytest.fixture(scope="module")
def demonstration(tmp_path_factory: pytest.TempPathFactory) -> Document:
    done = run("demo", "-o", tmp_path_factory.mktemp("demo") / "adapters", "--json")
    assert done.code == 0, done.err
    return json.loads(done.out)


@pytest.mark.parametrize("width", [None, *WIDTHS])
def test_every_number_of_the_demo_is_that_of_its_json_document(demonstration, capsys, monkeypatch, width):
    made = [demo_report.DemoAdapter(**row) for row in demonstration["adapters"]]
    measured = [demo_report.ModelLoss(**row) for row in demonstration["losses"]]
    out = Screen() if width is not None else io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(width))
    with recorded() as tables:
        demo_report.print_losses(measured, made)
        demo_report.print_adapters(made)
    expected = [losses(demonstration), adapters(demonstration)]
    hidden = hidden_columns(re.sub(STYLE, "", out.getvalue()))
    for table, rows in zip([table for table in tables if not table.is_legend], expected, strict=True):
        titles = [column.title for column in table.columns]
        hides = hidden.pop(0) if hidden and set(hidden[0]) <= set(titles) else []
        check_table(table, rows, hides)
        assert not (width is None and hides)
        assert width is None or table.width <= width
    for table in tables:
        if table.is_legend:
            assert width is None or table.width <= width
            described = [title for row in table.read()[1] for title in row[0].split(", ")]
            assert described in ([*expected[0][0]], [*expected[1][0]])


PROSE = {
    "factor": lambda f, out: ["factor", *f.pair.paths, "-o", out / "store"],
    "resize": lambda f, out: ["resize", f.adapter, "-o", out / "served", "--rank", 16, "--for", "vllm,tgi"],
    "merge": lambda f, out: ["merge", f.pair.base, f.adapter, "-o", out / "model"],
    "convert": lambda f, out: ["convert", f.adapter, "-o", out / "lora.safetensors", "--to", "kohya"],
    "compare": lambda f, out: ["check", f.folder / "x", "--against", f.adapter],
    "fit": lambda f, out: ["recommend", f.folder / "u.csv", "--method", "biases"],
}


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", PROSE)
def test_prose_wraps_between_words_and_shows_the_same_words(inputs, tmp_path, monkeypatch, name, width):
    outs = []
    for i, columns in enumerate((None, width)):
        (tmp_path / str(i)).mkdir()
        monkeypatch.chdir(tmp_path / str(i))
        done = run(*PROSE[name](inputs, Path(".")), width=columns)
        assert done.code == 0, done.err
        outs.append(done.out)
    piped, shown = outs
    assert piped and shown.split() == piped.split()
    assert all(len(line) <= width or " " not in line.strip() for line in shown.splitlines())


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("topic", ["svd", "rank", "lowrank", "lora", "pinv", "pca"])
def test_an_explanation_wraps_its_prose_between_words(topic, width):
    pytest.importorskip("sympy")
    piped = run("explain", topic, "4 0; 3 5").out
    shown = run("explain", topic, "4 0; 3 5", width=width).out
    lines = shown.splitlines()
    is_heading = [{*line} <= {"─", "═"} or {*below} <= {"─", "═"} for line, below in pairwise([*lines, "."])]
    prose = [
        line for line, heading in zip(lines, is_heading, strict=True) if not heading and line[:4].strip()
    ]
    assert max(map(len, prose)) <= width
    words = [[word for word in out.split() if "─" not in word and "═" not in word] for out in (piped, shown)]
    assert sorted(words[0]) == sorted(words[1])
