"""Standard streams that are closed, full, or connected to a reader that has left."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from support.fine_tune import FineTune, make_fine_tune
from support.terminal import ENVIRONMENT, tree

if sys.platform == "win32":
    pytest.skip("redirects as a Unix shell does", allow_module_level=True)
needs_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")

FULL = (
    "eckart: `stdout`: the results cannot be printed (No space left on device). "
    "Free some space, or use another path.\n"
)
CLOSED = "eckart: `stdout`: it is closed, so results cannot be printed. Use > /dev/null to discard them.\n"

# Every way of printing: by typer, by print, as text, as JSON, as a table, and several of them in turn.
LINES = {
    "help": "--help",
    "no arguments": "",
    "version": "--version",
    "text": "explain svd 4,0;3,5",
    "json": "explain svd 4,0;3,5 --json",
    "table": "inspect BASE TUNED -q",
}


@pytest.fixture(scope="module")
def fine_tune(tmp_path_factory) -> FineTune:
    return make_fine_tune(tmp_path_factory.mktemp("fine_tune"))


def shell(command: str, fine_tune: FineTune, line: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command of bash, in which ``eckart`` stands for the program with the arguments of the line."""
    names = {
        "BASE": fine_tune.pair.base,
        "TUNED": fine_tune.pair.tuned,
        "ADAPTER": fine_tune.adapter,
    }
    words = [str(names.get(word, word)) for word in line.split()]
    environment = {name: value for name, value in ENVIRONMENT.items() if name != "PYTHONUNBUFFERED"}
    return subprocess.run(
        ["bash", "-c", f'eckart() {{ "$PYTHON" -m eckart "$@"; }}; {command}', "bash", *words],
        capture_output=True,
        text=True,
        timeout=120,
        env={**environment, "PYTHON": sys.executable, **variables},
    )


@needs_full
@pytest.mark.parametrize("name", LINES)
def test_a_full_stdout_is_one_line(fine_tune, name):
    done = shell('eckart "$@" > /dev/full', fine_tune, LINES[name])
    assert (done.returncode, done.stdout, done.stderr) == (2, "", FULL)


@pytest.mark.parametrize("name", LINES)
def test_a_reader_that_has_left_is_no_error(fine_tune, name):
    """The exit code is that of the same command with a reader."""
    expected = {"no arguments": 2}.get(name, 0)
    done = shell('{ sleep 0.2; eckart "$@"; echo $? >&2; } | true', fine_tune, LINES[name])
    assert (done.stdout, done.stderr) == ("", f"{expected}\n")


@pytest.mark.parametrize("name", ["help", "table"])
def test_a_closed_stdout_is_one_line(fine_tune, name):
    done = shell('eckart "$@" >&-', fine_tune, LINES[name])
    assert (done.returncode, done.stdout, done.stderr) == (2, "", CLOSED)


def test_a_closed_stdout_is_reported_before_any_work(fine_tune, tmp_path):
    done = shell('eckart "$@" >&-', fine_tune, f"factor BASE TUNED -o {tmp_path / 'store'}")
    assert (done.returncode, done.stderr) == (2, CLOSED)
    assert list(tmp_path.iterdir()) == []


def test_a_stdout_that_is_open_for_reading_only_is_one_line(fine_tune):
    done = shell('eckart "$@" 1< /dev/null', fine_tune, LINES["text"])
    assert done.returncode == 2
    assert done.stderr == (
        "eckart: `stdout`: the results cannot be printed (Bad file descriptor). "
        "Use a stream that can be written.\n"
    )


@needs_full
def test_an_unbuffered_python_behaves_in_the_same_way(fine_tune):
    done = shell('eckart "$@" > /dev/full', fine_tune, LINES["text"], PYTHONUNBUFFERED="1")
    assert (done.returncode, done.stderr) == (2, FULL)
    done = shell('eckart "$@" | head -1', fine_tune, LINES["text"], PYTHONUNBUFFERED="1")
    assert (done.stdout, done.stderr) == ("The singular value decomposition by hand\n", "")


@pytest.mark.parametrize("redirect", ["2>&-", pytest.param("2> /dev/full", marks=needs_full)])
@pytest.mark.parametrize(("line", "code"), [("inspect BASE TUNED", 0), ("check ADAPTER", 2)])
def test_stderr_does_not_change_the_result(fine_tune, redirect, line, code):
    """The first line prints a table and a remark, and the second one an error."""
    done = shell(f'eckart "$@" {redirect}', fine_tune, line)
    assert (done.returncode, done.stderr) == (code, "")
    assert done.stdout.startswith("layer" if code == 0 else "") and bool(done.stdout) == (code == 0)


def test_all_streams_closed_is_an_exit_code(fine_tune):
    done = shell('eckart "$@" <&- >&- 2>&-', fine_tune, LINES["text"])
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "")


def test_a_file_never_gets_the_number_of_a_closed_stream(fine_tune, tmp_path):
    """Otherwise what is printed would be written into the first file that is opened."""
    contents = []
    for number, streams in enumerate(["", "<&-", "2>&-"]):
        store = tmp_path / str(number)
        done = shell(f'eckart "$@" {streams}', fine_tune, f"factor BASE TUNED -o {store} --json")
        assert done.returncode == 0
        assert json.loads(done.stdout)["store"] == str(store)
        contents.append(tree(store))
    assert contents[0] == contents[1] == contents[2]


@needs_full
def test_an_output_is_complete_although_its_report_cannot_be_printed(fine_tune, tmp_path):
    done = shell('eckart "$@" > /dev/full', fine_tune, f"extract BASE TUNED -o {tmp_path / 'a'} --rank 2 -q")
    assert (done.returncode, done.stderr) == (2, FULL)
    assert shell('eckart "$@"', fine_tune, f"verify BASE TUNED {tmp_path / 'a'} -q").returncode == 0


@needs_full
def test_a_progress_bar_that_cannot_be_drawn_is_no_error(fine_tune, tmp_path):
    """The variable makes rich draw the bar although stderr is not a terminal."""
    line = f"factor BASE TUNED -o {tmp_path / 'store'}"
    done = shell('eckart "$@" 2> /dev/full', fine_tune, line, FORCE_COLOR="1", TERM="xterm")
    assert (done.returncode, done.stderr) == (0, "")
    assert "5 tensors" in done.stdout
