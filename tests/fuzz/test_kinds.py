"""The fuzzer starts from inputs that commands accept; otherwise no case would get past the first check."""

from __future__ import annotations

import os

import pytest

pytest.importorskip("resource", reason="the fuzzer limits memory and time as Unix does")

from fuzz.batch import Scratch
from fuzz.case import Case, copy_inputs, run
from fuzz.guard import Watch
from fuzz.kinds import FAMILIES, KINDS

WATCH = Watch()


@pytest.fixture
def run_valid(tmp_path, monkeypatch):
    """Return a function that runs a command on the valid inputs of a kind."""
    monkeypatch.chdir(tmp_path)
    scratch = Scratch(tmp_path)

    def run_one(kind, command):
        copy_inputs(scratch.valid(kind), scratch.place)
        result = run(Case(0, kind, command), scratch.place, WATCH)
        os.chdir(tmp_path)
        scratch.clear(0, keep=False)
        return result

    return run_one


@pytest.mark.parametrize("kind", KINDS)
def test_commands_accept_the_valid_inputs(kind, run_valid):
    for command in KINDS[kind].commands:
        result = run_valid(kind, command)
        check_failed = command.startswith("check")  # some programs cannot load some formats
        assert result.code in ((0, 1) if check_failed else (0,)), (command, result.output)
        assert not result.faults, (command, result.faults)
    for command in KINDS[kind].refused:
        result = run_valid(kind, command)
        assert (result.code, result.faults) == (2, []), (command, result.output)


def test_every_family_has_kinds():
    assert {kind.family for kind in KINDS.values()} == set(FAMILIES)


def test_a_seed_gives_the_same_case_twice(tmp_path):
    for seed in range(60):
        case, again = Case.of(seed), Case.of(seed)
        assert case == again
