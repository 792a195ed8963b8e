"""The statement of an adapter in one file is part of the file, and used only if it is about its tensors."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from eckart import resize
from eckart.adapter import load_adapter
from eckart.adapter.formats.single_file.stated import DIGEST, ENTRY, late_statement
from eckart.adapter.statement import ModuleStatement, Statement
from eckart.checkpoint import read_header
from eckart.checkpoint.stream import tensors_digest
from eckart.errors import AdapterError
from support.adapters import adapter, module

FORMATS = ("kohya", "diffusers")
STATED = Statement(0.5, 22, {"unet.conv_in": ModuleStatement(2, 0.5, 1.25)}, rule="rank 2")


@pytest.fixture(params=FORMATS)
def saved(request, tmp_path):
    """Return the path of an adapter that states its error."""
    path = tmp_path / "lora.safetensors"
    original = adapter(module("unet.conv_in"), components=("unet",), statement=STATED)
    original.save(path, request.param)
    return path


def metadata_of(path):
    with safe_open(path, "np") as file:
        return file.metadata()


def test_the_file_alone_holds_the_statement(saved):
    assert [path.name for path in saved.parent.iterdir()] == ["lora.safetensors"]
    assert load_adapter(saved).statement == STATED
    moved = saved.rename(saved.with_name("other.safetensors"))
    assert load_adapter(moved).statement == STATED


def test_the_library_reads_tensors_and_metadata(saved):
    """Consumers use it. The digest is recomputed from what the library reads."""
    metadata, tensors = metadata_of(saved), load_file(saved)
    assert json.loads(metadata[ENTRY]) == STATED.to_json()
    assert metadata[DIGEST] == tensors_digest(tensors)
    assert metadata["format"] == "pt"


def change_a_number(tensors):
    name = next(name for name, array in tensors.items() if array.ndim == 2)
    changed = tensors[name].copy()
    changed[0, 0] += 1
    return tensors | {name: changed}


def add_a_tensor(tensors):
    return tensors | {"extra": np.zeros(1, np.float32)}


def change_a_dtype(tensors):
    return {name: array.astype(np.float16) for name, array in tensors.items()}


@pytest.mark.parametrize("change", [change_a_number, add_a_tensor, change_a_dtype])
def test_a_statement_about_other_tensors_is_ignored_with_a_note(saved, change):
    """Other programs copy the metadata of the file that they change."""
    save_file(change(load_file(saved)), saved, metadata_of(saved))
    read = load_adapter(saved)
    assert read.statement is None
    assert sum("about other tensors" in note for note in read.notes) == 1


def test_a_file_that_another_program_writes_unchanged_keeps_its_statement(saved):
    save_file(load_file(saved), saved, metadata_of(saved))
    assert load_adapter(saved).statement == STATED


def test_a_statement_without_a_digest_is_ignored(saved):
    metadata = metadata_of(saved)
    del metadata[DIGEST]
    save_file(load_file(saved), saved, metadata)
    assert load_adapter(saved).statement is None


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000, '{"error": "x"}', '{"error": 1e999}'])
def test_an_entry_that_is_not_a_statement_is_refused_by_name(saved, text):
    save_file(load_file(saved), saved, metadata_of(saved) | {ENTRY: text})
    with pytest.raises(AdapterError, match=re.escape(f"{saved}: {ENTRY}")):
        load_adapter(saved)


@pytest.mark.parametrize("content", [json.dumps(STATED.to_json()), "{}", "no JSON"])
def test_a_separate_statement_of_an_earlier_version_is_ignored_with_a_note(saved, content):
    separate = saved.with_name("lora.eckart.json")
    separate.write_text(content)
    assert load_adapter(saved).statement == STATED
    assert not any("lora.eckart.json" in note for note in load_adapter(saved).notes)
    metadata = metadata_of(saved)
    save_file(load_file(saved), saved, {k: v for k, v in metadata.items() if k not in (ENTRY, DIGEST)})
    read = load_adapter(saved)
    assert read.statement is None
    assert [note for note in read.notes if "lora.eckart.json is ignored" in note]


def test_an_adapter_without_a_statement_states_nothing(tmp_path):
    adapter(module("unet.conv_in"), components=("unet",)).save(tmp_path / "a.safetensors", "kohya")
    assert load_adapter(tmp_path / "a.safetensors").statement is None
    assert not {ENTRY, DIGEST} & metadata_of(tmp_path / "a.safetensors").keys()


@pytest.mark.parametrize("format", FORMATS)
def test_a_conversion_and_a_new_statement_replace_the_old_one(tmp_path, format):
    """Kohya's metadata is kept from one file to the next; the statement is not."""
    original = adapter(module("unet.conv_in"), components=("unet",), statement=STATED)
    original.save(tmp_path / "a.safetensors", "kohya")
    read = load_adapter(tmp_path / "a.safetensors")
    replace(read, statement=None).save(tmp_path / "b.safetensors", format)
    assert load_adapter(tmp_path / "b.safetensors").statement is None
    assert not any("about other tensors" in note for note in load_adapter(tmp_path / "b.safetensors").notes)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("uniform", [False, True])
def test_resizing_writes_the_statement_into_the_file_and_the_same_bytes_each_time(tmp_path, format, uniform):
    modules = [module(f"unet.m{i}", rank=4, rows=9, columns=8, seed=3 * i) for i in range(5)]
    adapter(*modules, components=("unet",)).save(tmp_path / "a.safetensors", format)
    results = [
        resize(tmp_path / "a.safetensors", tmp_path / f"{n}.safetensors", energy=0.7, uniform=uniform)
        for n in range(2)
    ]
    read = load_adapter(tmp_path / "0.safetensors")
    assert read.statement == results[0].statement
    assert 0 < read.statement.error < 1
    first, second = ((tmp_path / f"{n}.safetensors").read_bytes() for n in range(2))
    assert first == second
    assert read_header(tmp_path / "0.safetensors").metadata[ENTRY]


@given(
    st.lists(
        st.tuples(st.integers(0, 10**6), st.floats(0, allow_nan=False, allow_infinity=False)),
        min_size=1,
        max_size=5,
    ),
    st.text(max_size=20),
)
def test_the_room_that_a_draft_reserves_fits_every_statement(modules, rule):
    """Also with names and rules that JSON escapes."""
    draft, final = (
        Statement(
            error,
            10,
            {f'"{rule}\n{n}': ModuleStatement(rank, error, error) for n, (rank, error) in enumerate(stated)},
            rule=rule,
        )
        for stated, error in (
            ([(rank, 0.0) for rank, _ in modules], 0.0),
            (modules, modules[0][1]),
        )
    )
    late = late_statement(draft, lambda: final)
    longest, entries = late.draft, late.final("f" * 64)
    assert json.loads(entries[ENTRY]) == json.loads(json.dumps(final.to_json()))
    assert longest.keys() == entries.keys()
    for key, text in entries.items():
        assert len(json.dumps(text, ensure_ascii=False)) <= len(json.dumps(longest[key], ensure_ascii=False))
