"""Versions that are written in more than one file are the same in all of them."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from eckart.version import __version__

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def read(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


def test_pre_commit_runs_the_ruff_of_make_check() -> None:
    pinned = [line for line in PROJECT["dependency-groups"]["check"] if line.startswith("ruff==")]
    assert set(re.findall(r"ruff==[\d.]+", read(".pre-commit-config.yaml"))) == set(pinned)
    assert len(pinned) == 1


def test_every_environment_has_the_same_torch() -> None:
    versions = [
        re.findall(r"^torch==.+$", read(name), re.MULTILINE)
        for name in ("constraints.txt", "benchmarks/requirements-mergekit.txt")
    ]
    assert versions[0] == versions[1] and len(versions[0]) == 1


def test_the_workflow_runs_every_python_that_the_project_names() -> None:
    named = re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["project"]["classifiers"]))
    matrix = re.search(r"python: \[(.*)\]", read(".github/workflows/ci.yml"))
    assert matrix and re.findall(r"3\.\d+", matrix[1]) == named
    assert PROJECT["project"]["requires-python"] == f">={named[0]}"


def test_development_versions_are_exact() -> None:
    groups = PROJECT["dependency-groups"]
    lines = [line for group in groups.values() for line in group if isinstance(line, str)]
    assert lines and all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines)
    names = {line.partition("==")[0] for line in lines}
    assert len(names) == len(set(lines)), "a library has two versions"


def test_the_citation_has_the_version_of_the_package() -> None:
    assert f"\nversion: {__version__}\n" in read("CITATION.cff")
