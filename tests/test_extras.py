"""What to type for a missing optional library, for every way in which Eckart can have been installed."""

from __future__ import annotations

import ast
import json
from importlib.metadata import Distribution, PackageNotFoundError
from pathlib import Path

import pytest

from eckart import extras
from eckart.extras import requirement

SRC = Path(extras.__file__).parent


class Installed:
    """A distribution with a record of where it came from, as PEP 610 describes it; None for an index."""

    def __init__(self, record: dict[str, object] | None) -> None:
        self.record = record

    def read_text(self, name: str) -> str | None:
        assert name == "direct_url.json"
        return None if self.record is None else json.dumps(self.record)


def install(monkeypatch, record, from_clone=None):
    monkeypatch.setattr(Distribution, "from_name", lambda name: Installed(record))
    monkeypatch.setattr(extras, "_source_folder", lambda: from_clone)


def test_from_an_index_the_extra_is_named_alone(monkeypatch):
    install(monkeypatch, None)
    assert requirement("explain") == "'eckart[explain]'"


@pytest.mark.parametrize("editable", [True, False])
def test_from_a_clone_the_folder_is_named_and_a_dot_in_that_folder(monkeypatch, tmp_path, editable):
    clone = tmp_path / "my clone"
    clone.mkdir()
    install(monkeypatch, {"url": clone.as_uri(), "dir_info": {"editable": editable}})
    assert requirement("explain") == f"'{clone}[explain]'"
    monkeypatch.chdir(clone)
    assert requirement("explain") == "'.[explain]'"


def test_a_clone_that_is_not_installed_is_recognised(monkeypatch, tmp_path):
    def missing(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(Distribution, "from_name", missing)
    monkeypatch.setattr(extras, "_source_folder", lambda: tmp_path)
    assert requirement("plot") == f"'{tmp_path}[plot]'"


def test_a_clone_that_was_removed_is_not_named(monkeypatch, tmp_path):
    install(monkeypatch, {"url": (tmp_path / "gone").as_uri(), "dir_info": {}})
    assert requirement("plot") == "'eckart[plot]'"


def test_from_a_repository_its_address_is_named(monkeypatch):
    install(monkeypatch, {"url": "https://example.com/eckart.git", "vcs_info": {"vcs": "git"}})
    assert requirement("images") == "'eckart[images] @ git+https://example.com/eckart.git'"


def test_from_a_wheel_on_disk_the_extra_is_named_alone(monkeypatch):
    install(monkeypatch, {"url": "file:///tmp/eckart-1.0-py3-none-any.whl", "archive_info": {}})
    assert requirement("images") == "'eckart[images]'"


def test_a_damaged_record_is_ignored(monkeypatch):
    for text in ("{", "[]", '{"url": 3}'):
        monkeypatch.setattr(Installed, "read_text", lambda self, name, text=text: text)
        install(monkeypatch, None)
        assert requirement("images") == "'eckart[images]'"


def test_no_other_module_spells_out_how_to_install_an_extra():
    for path in SRC.rglob("*.py"):
        if path == SRC / "extras.py":
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert "pip install" not in node.value, path
