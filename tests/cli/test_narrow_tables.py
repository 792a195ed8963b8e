"""How a table is narrowed: which names and columns give way, and that no digit is ever cut."""

from __future__ import annotations

import os
import re
import struct
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from eckart.cli.shorten import SHORTEST, least_width, shorten, shorten_all
from eckart.cli.tables import Cells, Column, Layout, fit, render
from support.pairs import write_pair
from support.printed_tables import hidden_columns, is_shortened, recorded
from support.terminal import ENVIRONMENT, STYLE, run, start

NAME, VALUE = Column("name", Cells.NAME), Column("value")
LAYERS = [f"model.layers.{i}.self_attn.{kind}_proj" for i in range(12) for kind in "qkvo"]


# Names


@pytest.mark.parametrize(
    ("name", "width", "short"),
    [
        ("lm_head", 16, "lm_head"),
        ("model.layers.31.self_attn.q_proj", 32, "model.layers.31.self_attn.q_proj"),
        ("model.layers.31.self_attn.q_proj", 28, "model...31.self_attn.q_proj"),
        ("model.layers.31.self_attn.q_proj", 20, "model...attn.q_proj"),
        ("abcdefghijklmnopqrstuvwxyz", 16, "abc...qrstuvwxyz"),
        ("layers.1234567890.weight", 18, "laye...weight"),  # never the end of a number
        ("模型.层.12.注意力.查询.权重", 16, "模...查询.权重"),
    ],
)
def test_the_middle_of_a_name_gives_way(name, width, short):
    assert shorten(name, width) == short
    assert cell_len(short) <= width


def test_a_number_in_a_name_is_never_cut():
    for width in range(SHORTEST, 40):
        for beginning in (0.0, 0.3, 0.75):
            short = shorten("model.layers.4711.experts.1234.up_proj.5678", width, beginning)
            assert is_shortened(short, "model.layers.4711.experts.1234.up_proj.5678")


def test_names_that_differ_at_one_place_stay_different():
    for names in (
        [f"{letter}-model.layers.0.self_attn.q_proj" for letter in "abc"],
        [f"model.layers.0.self_attn.q_proj.{letter}" for letter in "abc"],
        [f"model.layers.{i}.self_attn.q_proj.weight" for i in range(40)],
    ):
        width = least_width(names)
        assert width < max(map(len, names))
        assert len(set(shorten_all(names, width))) == len(names)


@given(st.lists(st.text("ab1._é模", min_size=1, max_size=40), min_size=1), st.integers(16, 60))
def test_a_shortened_name_fits_and_is_different_where_the_least_width_allows_it(names, width):
    shortened = shorten_all(names, width)
    assert all(cell_len(short) <= width for short in shortened)
    for short, name in zip(shortened, names, strict=True):
        assert short == name or "..." in short
    least = least_width(names)
    assert len(set(shorten_all(names, least))) == len(set(names))


# Columns

PLAIN = st.text("abc", min_size=1, max_size=12)
TABLES = st.lists(
    st.tuples(PLAIN, st.sampled_from(Cells), st.booleans()), min_size=1, max_size=8, unique_by=lambda t: t[0]
).flatmap(
    lambda columns: st.tuples(
        st.just(columns),
        st.lists(
            st.tuples(
                *(
                    st.integers(0, 10**9).map(str)
                    if kind is Cells.VALUE
                    else st.lists(PLAIN, min_size=1, max_size=4).map(" ".join)
                    for _, kind, _ in columns
                )
            ),
            min_size=1,
            max_size=5,
        ),
    )
)


@given(TABLES, st.integers(10, 120))
def test_a_table_fits_or_is_whole(table, width):
    described, rows = table
    columns = [Column(title, kind) for title, kind, _ in described]
    drop = [title for title, _, is_droppable in described[1:] if is_droppable][::-1]
    layout = fit(columns, rows, width, drop)
    lines = [line for text in render(columns, rows, layout) for line in text.split("\n")]
    hidden = [column.title for i, column in enumerate(columns) if i not in layout.widths]
    assert sorted(hidden) == sorted(drop[: len(hidden)])  # in the stated order
    if any(len(line) > width for line in lines):
        assert layout == fit(columns, rows, None, drop)
    text = " ".join(lines)
    for row in rows:
        for i, column in enumerate(columns):
            if i in layout.widths and column.cells is not Cells.NAME:
                assert all(word in text.split() for word in row[i].split())


def test_names_give_way_before_columns():
    columns = [NAME, Column("rank"), Column("energy")]
    rows = [[name, "55", "100.0%"] for name in LAYERS]
    assert fit(columns, rows, None, ["rank"]) == Layout({0: 32, 1: 4, 2: 6})
    assert fit(columns, rows, 46, ["rank"]) == Layout({0: 32, 1: 4, 2: 6})
    assert fit(columns, rows, 45, ["rank"]) == Layout({0: 31, 1: 4, 2: 6})
    least = least_width(LAYERS)
    assert fit(columns, rows, least + 14, ["rank"]) == Layout({0: least, 1: 4, 2: 6})
    assert fit(columns, rows, least + 13, ["rank"]) == Layout({0: least + 5, 2: 6})
    assert fit(columns, rows, least + 7, ["rank"]) == Layout({0: 32, 1: 4, 2: 6})  # whole


def test_titles_wrap_between_words():
    columns = [NAME, Column("largest cosine")]
    assert list(render(columns, [["a", "+0.5"]], fit(columns, [["a", "+0.5"]], 13, []))) == [
        "      largest\nname   cosine",
        "a        +0.5",
    ]


# On a terminal


@pytest.fixture(scope="module")
def strange_pair(tmp_path_factory):
    """A pair whose tensors have wide characters, escape sequences and long names."""
    names = [
        "模型.层.0.注意力.查询投影.权重矩阵",
        "模型.层.10.注意力.查询投影.权重矩阵",
        "a\x1b[2J\tb",
        "e\u0301" * 30,
    ]
    names += [f"model.layers.{i}.block_sparse_moe.experts.{i}.down_proj" for i in (1, 11)]
    before = {f"{name}.weight": np.ones((20, 30), np.float32) for name in names}
    random = np.random.default_rng(0)
    after = {
        name: array + random.standard_normal(array.shape).astype(np.float32) for name, array in before.items()
    }
    return write_pair(tmp_path_factory.mktemp("strange"), before, after)


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_wide_characters_and_escapes_keep_the_columns_aligned(strange_pair, width):
    with recorded() as tables:
        done = run("inspect", *strange_pair.paths, width=width)
    assert done.code == 0, done.err
    (table,) = tables
    assert table.width <= width
    assert "\x1b" not in done.out and "\t" not in done.out
    titles, rows = table.read()
    assert "r90" in titles
    hidden = [title for titles in hidden_columns(done.out) for title in titles]
    assert (width < 120) == bool(hidden)
    assert titles == [column.title for column in table.columns if column.title not in hidden]
    assert all(len(row) == len(titles) and all(row) for row in rows)
    assert r"a\x1b[2J\tb" in [row[0] for row in rows]
    assert len({row[0] for row in rows}) == len(rows)


@pytest.mark.parametrize("width", [40, 80])
def test_a_real_terminal_gets_whole_lines(strange_pair, width):
    """The width is that of the device and not of a variable."""
    environment = {k: v for k, v in ENVIRONMENT.items() if k not in ("COLUMNS", "LINES")} | {"TERM": "xterm"}
    code, text = run_in_pseudo_terminal(width, "inspect", "-q", *strange_pair.paths, environment=environment)
    assert code == 0
    assert hidden_columns(text)
    assert max(cell_len(line) for line in text.splitlines()) <= width


def run_in_pseudo_terminal(width: int, *argv: object, environment: dict[str, str]) -> tuple[int, str]:
    """Run a command in a pseudo-terminal, and return its exit code and its text without styles."""
    fcntl = pytest.importorskip("fcntl", reason="Windows has no pseudo-terminals")
    pty, termios = pytest.importorskip("pty"), pytest.importorskip("termios")
    main, side = pty.openpty()
    fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "eckart", *map(str, argv)], stdout=side, stderr=side, env=environment
    )
    os.close(side)
    text = b""
    while True:
        try:
            part = os.read(main, 1 << 16)
        except OSError:  # how Linux reports that the other side is closed
            break
        if not part:
            break
        text += part
    os.close(main)
    return process.wait(), re.sub(STYLE, "", text.decode())


def test_prose_wraps_between_words_and_words_are_never_cut(strange_pair):
    whole = run("inspect", *strange_pair.paths).out.split("\n\n")[1]
    narrow = run("inspect", *strange_pair.paths, width=30).out.split("\n\n")[1]
    assert narrow.split() == whole.split()
    assert all(len(line) <= 30 or " " not in line for line in narrow.splitlines())


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_characters_that_the_encoding_of_stdout_lacks_are_escaped(strange_pair, encoding):
    done = start(
        "inspect", *strange_pair.paths, env={**ENVIRONMENT, "PYTHONIOENCODING": encoding}, text=False
    )
    assert done.returncode == 0, done.stderr
    name = "模型.层.0.注意力.查询投影.权重矩阵"
    assert name.encode(encoding, "backslashreplace") in done.stdout


def test_an_error_wraps_between_words_on_a_terminal(tmp_path):
    environment = {**ENVIRONMENT, "COLUMNS": "40", "TERM": "xterm"}
    code, text = run_in_pseudo_terminal(40, "inspect", "-q", tmp_path / "missing", environment=environment)
    assert code == 2
    lines = text.replace(str(tmp_path), "").splitlines()
    assert len(lines) > 1 and all(len(line) <= 40 for line in lines)
