"""`eckart demo`: the adapters it writes, and what it prints about them."""

from __future__ import annotations

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
