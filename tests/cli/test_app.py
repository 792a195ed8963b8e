"""What all commands share: their help, their options, and what they print on stdout and on stderr."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer.main

import eckart
from eckart.cli.app import app
from support.fine_tune import FineTune
from support.pairs import write_pair
from support.terminal import ENVIRONMENT, run, start

COMMANDS = [
    "demo",
    "inspect",
    "factor",
    "plan",
    "extract",
    "verify",
    "resize",
    "combine",
    "merge",
    "convert",
    "check",
    "explain",
    "image",
    "recommend",
]
"""Every command, in the order of the help."""

OUTPUT_IS_REQUIRED = {
    "demo": False,
    "factor": True,
    "plan": False,
    "extract": True,
    "resize": True,
    "combine": True,
    "merge": False,  # nothing is written with --dry-run
    "convert": True,
    "explain": False,
    "image": False,
    "recommend": False,
}
"""The commands that write, and whether they do nothing else."""

ARCHAIC = ["anew", "parted", "spelt", "mend", "mended", "foretold", "heed", "unasked", "aright", "beside"]
ARCHAIC += ["says so", "is told", "goes on", "to speak of", "of these"]
"""Words and phrases that the help must not contain, because readers stumble over them."""

ESTIMATE_KEYS = """
    tensors matrices parameters bytes_read flops_leading flops_whole seconds_leading seconds_whole peak_bytes
    adapter_bytes
"""
EXTRACT_KEYS = """
    adapter notes format base dtype rule error error_of_whole_change modules not_carried carried_whole plan
    versions parameters
"""
JSON_KEYS = {
    "inspect": "layers diagnosis notes",
    "inspect, one checkpoint": "layers diagnosis notes",
    "inspect, adapter": "modules diagnosis notes",
    "inspect, dry run": ESTIMATE_KEYS,
    "factor": "store tensors",
    "plan": "format ranks reasons rule parameters energy dense",
    "extract": EXTRACT_KEYS,
    "verify": "holds error stated error_of_whole_change problems modules",
}
"""The keys of the JSON document, by command line."""


def command_line(name: str, fine_tune: FineTune, out: Path) -> list[object]:
    """Return a valid command line that writes, if anything, to ``out``."""
    base, tuned = fine_tune.pair.paths
    return {
        "inspect": ["inspect", base, tuned],
        "inspect, one checkpoint": ["inspect", tuned],
        "inspect, adapter": ["inspect", fine_tune.adapter],
        "inspect, dry run": ["inspect", base, tuned, "--dry-run"],
        "factor": ["factor", base, tuned, "-o", out],
        "plan": ["plan", fine_tune.store, "--energy", "0.9"],
        "extract": ["extract", base, tuned, "-o", out, "--rank", "4"],
        "verify": ["verify", base, tuned, fine_tune.adapter],
    }[name]


def option_names(command: str) -> list[list[str]]:
    """Return the spellings of every option of a command, without those of ``--help``."""
    parameters: list[Any] = typer.main.get_command(app).commands[command].params  # type: ignore[attr-defined]
    return [[*p.opts, *p.secondary_opts] for p in parameters if p.param_type_name == "option"]


# Help


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(command):
    done = run(command, "--help")
    assert done.code == 0 and done.err == ""
    assert re.search(rf"Examples?:.*eckart {command}\b", " ".join(done.out.split()))


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_at_most_80_columns_wide_and_names_every_option_in_full(command):
    text = run(command, "--help").out
    assert max(len(line) for line in text.splitlines()) <= 80
    assert "…" not in text  # how a cell that is too narrow for an option would be cut
    spellings = {spelling for names in option_names(command) for spelling in names}
    assert spellings <= set(re.findall(r"(?<!\S)--?[a-z][a-z-]*", text))


@pytest.mark.parametrize("command", COMMANDS)
def test_every_example_of_the_help_is_one_line(command):
    callback = typer.main.get_command(app).commands[command].callback  # type: ignore[attr-defined]
    examples = re.findall(r"\*\*(eckart .+?)\*\*", " ".join(callback.__doc__.split()))
    assert examples
    lines = run(command, "--help").out.splitlines()
    for example in examples:
        assert any(re.fullmatch(rf" +• {re.escape(example)}( \(.*)? *", line) for line in lines), example


def test_help_names_values_as_the_guide_does():
    lines = run("inspect", "--help").out.splitlines()
    assert lines[1].split(" ", 2)[2].rstrip().endswith("inspect BASE [TUNED] [OPTIONS]")
    text = "\n".join(lines)
    for option in ("--store +PATH +Use", "--dry-run +Read", "--workers +N ", "--help +-h +Show"):
        assert re.search(option, text)


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_is_in_present_day_english(command):
    text = " ".join(run(*command.split(), "--help").out.replace("│", " ").split())
    assert re.findall(rf"\b(?:{'|'.join(ARCHAIC)})\b", text, re.IGNORECASE) == []


def test_the_help_lists_every_command_and_the_exit_codes():
    done = run("--help")
    assert done.code == 0 and done.err == ""
    assert re.findall(r"^│ ([a-z]+) ", done.out.partition("Commands")[2], re.MULTILINE) == COMMANDS
    assert "Exit codes: 0 done, 1 a check did not hold, 2 bad usage or input, 130 interrupted." in " ".join(
        done.out.split()
    )
    assert run("-h") == done


def test_no_arguments_print_the_help_and_exit_with_2():
    done = run()
    assert (done.code, done.err) == (2, "")
    assert done.out.rstrip() == run("--help").out.rstrip()


def test_the_version():
    done = start("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, eckart.__version__ + "\n", "")


# Options


def test_every_command_that_writes_has_the_output_option():
    commands: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    assert list(commands) == COMMANDS
    outputs = {
        name: parameter
        for name, command in commands.items()
        for parameter in command.params
        if {"-o", "--out", "--output"} & set(parameter.opts)
    }
    assert {name: parameter.required for name, parameter in outputs.items()} == OUTPUT_IS_REQUIRED
    assert {name for name, parameter in outputs.items() if set(parameter.opts) != {"-o", "--output"}} == set()


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_json_and_no_option_twice(command):
    spellings = [spelling for names in option_names(command) for spelling in names]
    assert "--json" in spellings
    assert len(set(spellings)) == len(spellings)


# Where commands print


@pytest.mark.parametrize("name", JSON_KEYS)
def test_json_is_one_document_on_stdout(fine_tune, tmp_path, name):
    done = run(*command_line(name, fine_tune, tmp_path / "first"), "--json")
    assert done.code == 0
    assert list(json.loads(done.out)) == JSON_KEYS[name].split()
    quiet = run(*command_line(name, fine_tune, tmp_path / "second"), "--json", "-q")
    assert quiet.code == 0
    assert list(json.loads(quiet.out)) == JSON_KEYS[name].split()
    assert quiet.err == ""


@pytest.mark.parametrize("name", JSON_KEYS)
def test_a_pipe_gets_no_escape_codes_and_no_progress(fine_tune, tmp_path, name):
    done = run(*command_line(name, fine_tune, tmp_path / "out"))
    assert done.code == 0 and done.out
    for text in (done.out, done.err):
        assert "\x1b" not in text and "\r" not in text
        assert "tensors/" not in text
    # Every line on stderr is a remark: a note about the files, or the next command.
    assert all(line.startswith(("note: ", "Next: ")) for line in done.err.splitlines())
    assert "note: " not in done.out and "Next: " not in done.out


@pytest.mark.parametrize(
    "variables", [{}, {"NO_COLOR": "1", "TERM": "xterm-256color"}], ids=["pipe", "NO_COLOR"]
)
def test_a_process_prints_no_colour_into_a_pipe(fine_tune, variables):
    done = start("inspect", *fine_tune.pair.paths, env={**ENVIRONMENT, **variables})
    assert done.returncode == 0
    assert "\x1b" not in done.stdout + done.stderr
    assert "q_proj" in done.stdout and done.stderr.startswith("note: Skipped 1 tensor")


@pytest.fixture(scope="module")
def long_pair(tmp_path_factory):
    """A pair with so many layers that their table does not fit into the buffer of a pipe."""
    folder = tmp_path_factory.mktemp("long")
    before = {f"layers.{i}.proj.weight": np.ones((3, 3), np.float32) for i in range(600)}
    after = {name: ones + np.eye(3, dtype=np.float32) for name, ones in before.items()}
    return write_pair(folder, before, after)


@pytest.mark.parametrize("command", [["inspect"], ["inspect", "--json"]], ids=["table", "json"])
def test_a_reader_that_closes_the_pipe_is_no_error(long_pair, command):
    with subprocess.Popen(
        [sys.executable, "-m", "eckart", *command, "-q", *map(str, long_pair.paths)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=ENVIRONMENT,
    ) as process:
        assert process.stdout.readline()
        process.stdout.close()  # as `head -1` does
        errors = process.stderr.read().decode()
    assert errors == ""
    assert process.returncode == 0


def test_output_into_head_prints_no_stack_trace(long_pair):
    line = f"{sys.executable} -m eckart inspect -q {long_pair.base} {long_pair.tuned} | head -1"
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, env=ENVIRONMENT, timeout=60)
    assert done.stdout.startswith("layer") and done.stdout.count("\n") == 1
    assert done.stderr == ""
