"""`eckart demo`: the adapters it writes, and what it prints about them."""

from __future__ import annotations

import re

from support.printed_tables import recorded
from support.terminal import run, start


def test_the_demo_verifies_its_adapters_and_measures_their_loss(tmp_path):
    done = start("demo", "--output", tmp_path / "adapters", "--quiet", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    headings = [
        "What each adapter is worth",
        "The pair of models",
        "The adapters, with their errors recomputed from the files",
        "The update of each layer",
    ]
    starts = [done.stdout.index(heading) for heading in headings]
    assert starts == sorted(starts)
    losses, adapters = done.stdout[: starts[1]], done.stdout[starts[2] : starts[3]]
    assert " NO" not in adapters
    rows = [line.split() for line in adapters.splitlines() if line.rstrip().endswith("yes")]
    assert [row[1] for row in rows] == ["2%", "6%", "18%"]
    for row in rows:
        stated, measured = float(row[-3]), float(row[-2])
        assert abs(stated - measured) <= 2e-4 * measured + 2e-6  # the tolerance that verify states
    stated_errors = [float(row[-3]) for row in rows]
    assert stated_errors == sorted(stated_errors, reverse=True)  # more parameters, less error
    values = [float(line.split()[-2]) for line in losses.splitlines() if line.rstrip().endswith("%")]
    assert len(values) == 5
    assert values == sorted(values, reverse=True)  # from the base to the fine-tune, step by step
    assert sorted(p.name for p in (tmp_path / "adapters").iterdir()) == ["budget-18", "budget-2", "budget-6"]
    assert [p.name for p in tmp_path.iterdir()] == ["adapters"]


def test_the_help_says_that_nothing_is_downloaded():
    assert "Nothing is downloaded" in " ".join(run("demo", "--help").out.split())


def test_an_existing_copy_of_the_pair_is_replaced_only_with_overwrite(tmp_path):
    command = ("demo", "--pair", "-o", tmp_path / "pair")
    assert run(*command).code == 0
    (tmp_path / "pair" / "base" / "config.json").write_text("{}")
    again = run(*command)
    assert again.code == 2 and "--overwrite" in again.err
    assert run(*command, "--overwrite").code == 0
    assert (tmp_path / "pair" / "base" / "config.json").read_text() != "{}"


def test_the_demo_says_what_it_does_leads_with_the_result_and_explains_every_column(tmp_path):
    with recorded() as tables:
        done = run("demo", "-o", tmp_path / "adapters")
    assert done.code == 0, done.err
    assert done.err.startswith("This demo makes LoRA adapters of three sizes from a small real fine-tune")
    assert re.search(r"takes about \d+ seconds of processor time", done.err)
    assert done.err.splitlines()[-1] == "Next: eckart inspect BASE TUNED"
    assert done.out.startswith("What each adapter is worth\nmodel ")
    worth, explained, *details = tables
    assert not worth.is_legend and explained.is_legend
    closed = {row[0]: row[-1] for row in worth.read()[1]}
    sentence = done.out[: done.out.index("column ")].strip().splitlines()[-1]
    shares = re.findall(r"\b(\d+)%", sentence)
    assert shares[0::2] == ["18", "2"]
    for size, share in zip(shares[0::2], shares[1::2], strict=True):
        assert abs(float(closed[f"base + {size}%"].rstrip("%")) - int(share)) <= 0.5  # rounded
    for table, legend in zip([worth, *details[0::2]], [explained, *details[1::2]], strict=True):
        titles = [title for row in legend.read()[1] for title in row[0].split(", ")]
        assert titles == [column.title for column in table.columns]
