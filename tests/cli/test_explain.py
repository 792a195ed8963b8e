"""`eckart explain` from the command line."""

from __future__ import annotations

import json
import re
import sys
from unittest import mock

import numpy as np
import pytest

from support.terminal import ENVIRONMENT, run, start


def test_the_textbook_matrix_is_explained_exactly():
    done = run("explain", "svd", "4 0; 3 5")
    assert done.code == 0 and done.err == ""
    assert "σ₁ = √40 = 2√10 ≈ 6.3246" in done.out
    assert done.out.count("✓ exact") == 4 and "✗" not in done.out


@pytest.mark.parametrize("matrix", ["-1 2; 3 4", "-sqrt(2) 0; 0 1", "-3", "-1/2,-2"])
def test_a_matrix_may_start_with_a_minus(matrix):
    done = run("explain", "rank", matrix)
    assert done.code == 0 and "The rank is" in done.out


def test_csv_and_npy_files_give_the_same_page(tmp_path):
    np.save(tmp_path / "w.npy", np.array([[3.0, 1], [1, 3], [1, 1]]))
    (tmp_path / "w.csv").write_text("3,1\n1,3\n1,1\n")
    pages = {run("explain", "lowrank", tmp_path / f"w.{kind}", "--rank", 1).out for kind in ("npy", "csv")}
    assert len(pages) == 1 and "81.8%" in pages.pop()


def test_output_is_written_in_the_format_of_its_suffix(tmp_path):
    argv = ("explain", "rank", "1 2; 2 4")
    for name, format in (("a.txt", "terminal"), ("a.md", "markdown"), ("a.tex", "latex"), ("a.html", "html")):
        done = run(*argv, "-o", tmp_path / name)
        assert (done.code, done.err) == (0, "") and done.out == f"{tmp_path / name}: written as {format}\n"
        assert (tmp_path / name).read_text("utf-8") == run(*argv, "--format", format).out
    done = run(*argv, "--output", tmp_path / "b.html", "--format", "markdown", "--lang", "ja")
    assert (tmp_path / "b.html").read_text("utf-8").startswith("# ランク")


def test_output_is_not_overwritten_unless_asked(tmp_path):
    path = tmp_path / "page.md"
    path.write_text("mine")
    done = run("explain", "rank", "1", "-o", path)
    assert done.code == 2 and "--overwrite" in done.err and path.read_text() == "mine"
    assert run("explain", "rank", "1", "-o", path, "--overwrite").code == 0
    assert path.read_text("utf-8").startswith("# Three ways")
    done = run("explain", "rank", "1", "-o", tmp_path / "no" / "page.md")
    assert done.code == 2 and "cannot be written" in done.err


def test_json_is_one_document():
    done = run("explain", "lora", "4 0; 3 5", "--rank", 1, "--alpha", 16, "--given", "1; 2", "--json")
    document = json.loads(done.out)
    assert document["holds"] is True and document["results"]["best"] == [["2", "2"], ["4", "4"]]
    assert document["results"]["scale"] == "16" and document["results"]["rank"] == 1
    assert document["text"].startswith("# From an update")


@pytest.mark.parametrize(
    ("format", "first"),
    [("terminal", "手算"), ("markdown", "# 手算"), ("latex", r"\documentclass"), ("html", "<!DOCTYPE html>")],
)
def test_formats_and_languages(format, first):
    done = run("explain", "svd", "1 1; 0 1", "--format", format, "--lang", "zh")
    assert done.code == 0 and done.out.startswith(first)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["svd", "1 2; 3"], "row 2 has 1 entry and row 1 has 2"),
        (["svd", ""], "found no number"),
        (["svd", "1 nan"], "expected a finite number, got 'nan'"),
        (["svd", "1 2 3 4 5 6"], "Use eckart.svd"),
        (["svd", "1", "--lang", "fr"], "expected one of en, ja, zh"),
        (["svd", "1", "--format", "pdf"], "expected one of terminal"),
        (["svd", "1", "--rank", "1"], "only for lowrank and lora"),
        (["eigen", "1"], "expected one of svd"),
        (["svd", "no/such.npy"], "no such file"),
    ],
)
def test_bad_input_is_reported_in_one_line(argv, message):
    done = run("explain", *argv)
    assert done.code == 2 and done.out == ""
    assert done.err.startswith("eckart: `") and done.err.count("\n") == 1 and message in done.err


def test_unknown_options_are_refused():
    done = run("explain", "svd", "1", "--rnk", "3")
    assert done.code == 2 and done.out == "" and "--rnk" in done.err


def test_a_missing_sympy_is_reported_with_its_extra():
    hidden = {name: None for name in sys.modules if name.split(".")[0] == "sympy"}
    ours = [name for name in sys.modules if name.startswith("eckart.explain")]
    with mock.patch.dict(sys.modules, {"sympy": None, **hidden}):
        for name in ours:
            del sys.modules[name]
        done = run("explain", "svd", "1")
    assert (
        done.code == 2 and re.search(r"pip install '\S*\[explain\]'", done.err) and done.err.count("\n") == 1
    )


def test_output_is_utf_8_when_the_encoding_cannot_represent_it():
    for encoding in ("ascii", "utf-8"):
        done = start(
            "explain",
            "rank",
            "1",
            env={**ENVIRONMENT, "PYTHONIOENCODING": f"{encoding}:strict"},
            encoding="utf-8",
        )
        assert done.returncode == 0 and "W = [1]" in done.stdout and "λ" in done.stdout


def test_other_commands_do_not_import_sympy():
    done = start("--version", env={**ENVIRONMENT, "PYTHONPROFILEIMPORTTIME": "1"})
    assert done.returncode == 0 and "sympy" not in done.stderr
