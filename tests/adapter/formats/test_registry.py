"""The registry: a format that is added by one entry is recognised, read, written and listed."""

import inspect
import re
from pathlib import Path

import numpy as np
import pytest

from eckart.adapter import Adapter, Module, load_adapter
from eckart.adapter.formats import (
    FORMATS,
    Format,
    is_adapter,
    make_writer,
    registry,
    save_adapter,
    written_format,
)
from eckart.adapter.formats.writer import FilePlan
from eckart.errors import AdapterError, UsageError
from eckart.operations import combine, convert, resize
from support.adapters import adapter, file_of, kohya, matrix, module, same

KEY = re.compile(r"toy/(?P<name>.+)/(?P<part>B|A)")


def read_toy(file):
    names = {KEY.fullmatch(key)["name"] for key in file.keys}
    modules = {
        name: Module(name, "linear", file.array(f"toy/{name}/B"), file.array(f"toy/{name}/A"))
        for name in sorted(names)
    }
    return Adapter(modules, format="toy", path=file.path, files=file.mapped)


class ToyWriter:
    is_folder = False
    marker = ""
    notes = ()

    def __init__(self, adapter):
        self.adapter = adapter

    def files(self):
        return [FilePlan(Path(), [[m.name] for m in self.adapter])]

    def tensors(self, modules):
        (m,) = modules
        return {f"toy/{m.name}/B": m.left, f"toy/{m.name}/A": m.right}

    def finish(self, folder, statement):
        pass


@pytest.fixture
def toy(monkeypatch):
    """Add a format by one entry."""
    entry = Format("toy", KEY, read_toy, ToyWriter)
    monkeypatch.setattr(registry, "REGISTRY", (*registry.REGISTRY, entry))


def test_the_formats_are_listed():
    assert FORMATS == registry.writable_formats() == ("peft", "kohya", "diffusers")
    assert registry.readable_formats() == ("peft", "cloneofsimo", "kohya", "diffusers")


def test_a_new_format_is_recognised_read_and_written(toy, tmp_path):
    original = adapter(module("a"), module("b", seed=7))
    assert original.save(tmp_path / "a.safetensors", "toy") == ()
    assert is_adapter(tmp_path / "a.safetensors")
    read = load_adapter(tmp_path / "a.safetensors")
    assert read.format == written_format(read) == "toy" and same(original, read)
    read.save(tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_a_new_format_is_listed_in_messages(toy, tmp_path):
    with pytest.raises(UsageError, match="expected one of peft, kohya, diffusers, toy"):
        make_writer(adapter(module("a")), "gguf")
    path = file_of(tmp_path / "x.safetensors", {"w": matrix(2, 2)})
    with pytest.raises(AdapterError, match=r"found keys such as w\. .*cloneofsimo, kohya, diffusers or toy"):
        load_adapter(path)


def test_a_file_with_the_keys_of_a_new_format_and_another_is_refused(toy, tmp_path):
    tensors = kohya("lora_unet_conv_in") | {"toy/a/B": matrix(2, 1), "toy/a/A": matrix(1, 2)}
    with pytest.raises(AdapterError, match=r"`.*: toy/a/A`: is in the toy format, .* in the kohya format"):
        load_adapter(file_of(tmp_path / "a.safetensors", tensors))


def test_a_format_that_is_read_only_is_not_written():
    with pytest.raises(UsageError, match="expected one of peft, kohya, diffusers"):
        make_writer(adapter(module("a")), "cloneofsimo")
    assert written_format(adapter(module("a"), format="cloneofsimo")) == "kohya"


@pytest.mark.parametrize("name", ["a.safetensors", "adapter_model.safetensors"])
def test_peft_weights_without_a_configuration_are_recognised_and_refused(name, tmp_path):
    key = "base_model.model.q.lora_{}.weight"
    path = file_of(tmp_path / name, {key.format("A"): matrix(2, 5), key.format("B"): matrix(6, 2)})
    assert is_adapter(path) and is_adapter(tmp_path)
    with pytest.raises(AdapterError, match=r"there is no adapter_config\.json in its folder"):
        load_adapter(path)


def test_checkpoints_and_missing_paths_are_not_adapters(tmp_path):
    assert not is_adapter(tmp_path) and not is_adapter(tmp_path / "none.safetensors")
    path = file_of(tmp_path / "model.safetensors", {"layers.0.weight": np.ones((2, 2), np.float32)})
    assert not is_adapter(path) and not is_adapter(tmp_path)
    file_of(tmp_path / "k.safetensors", kohya("lora_unet_conv_in"))
    assert not is_adapter(tmp_path) and is_adapter(tmp_path / "k.safetensors")


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_and_its_writer_agree_on_folder_or_file(name):
    writer = make_writer(adapter(module("layers.0.q_proj")), name)
    assert writer.is_folder == bool(writer.marker) == (name in registry.folder_formats())


@pytest.mark.parametrize("function", [make_writer, save_adapter, Adapter.save, resize, combine, convert])
def test_a_docstring_lists_every_format_that_can_be_written(function):
    listed = ", ".join(f'"{name}"' for name in FORMATS)
    assert f": {{{listed}}}" in inspect.getdoc(function)
