"""A hostile value at any place of any document: it is read, or refused in one line that names the file.

Each document is changed at each of its places to a value of each wrong kind, and read by the function that
every command reads it with. A random sample then goes through the commands.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import eckart
from eckart.adapter import load_adapter
from eckart.adapter.statement import read_statement
from eckart.checkpoint import Checkpoint, write_safetensors
from eckart.errors import EckartError, UsageError
from eckart.rank import RankPlan
from eckart.store.checksum import seal, unseal
from eckart.store.journal import read_journal
from eckart.store.store import FactorStore
from support.adapters import file_of, kohya, peft_style
from support.fine_tune import FineTune, make_fine_tune
from support.hostile import as_json, changed, places, variants
from support.terminal import run

SECONDS = 5.0


@dataclass(frozen=True)
class Document:
    """A document in a folder: its contents, how it is written, and the function that reads it."""

    content: Any
    write: Callable[[Any], object]
    read: Callable[[], object]


@pytest.fixture(scope="module")
def fine_tune(tmp_path_factory: pytest.TempPathFactory) -> FineTune:
    return make_fine_tune(tmp_path_factory.mktemp("fine-tune"))


def plain(file: Path, read: Callable[[], object]) -> Document:
    return Document(json.loads(file.read_bytes()), lambda content: file.write_bytes(as_json(content)), read)


def sealed(content: Any, indent: Literal[1] | None = 1) -> bytes:
    """Return a document with a checksum that is right; of what cannot be sealed, its JSON."""
    try:
        return seal(content, indent) + b"\n"
    except (ValueError, TypeError, AttributeError):
        return as_json(content) + b"\n"


def document_of(name: str, fine_tune: FineTune, folder: Path) -> Document:
    """Copy what a document is part of into a folder, and return the document."""
    if name in ("adapter_config.json", "eckart.json"):
        adapter = fine_tune.copy_adapter(folder)
        if name == "eckart.json":
            return plain(adapter / name, lambda: read_statement(adapter / name))
        config = json.loads((adapter / name).read_bytes())
        config["rank_pattern"] |= {"other": 2, "a|b+": 3}
        config |= {"exclude_modules": ["x"], "layers_pattern": "h"}
        config |= {
            "trainable_token_indices": {"embed": [1]},
            "target_parameters": ["x.p"],
            "use_rslora": False,
        }
        (adapter / name).write_text(json.dumps(config))
        return plain(adapter / name, lambda: load_adapter(adapter))
    if name == "plan.json":
        plan = eckart.plan(FactorStore.open(fine_tune.store), rank=3)
        (folder / name).write_text(json.dumps(plan.to_json()))
        return plain(folder / name, lambda: RankPlan.read(folder / name))
    if name == "manifest.json":
        store = Path(shutil.copytree(fine_tune.store, folder / "store"))
        content = unseal((store / name).read_bytes().removesuffix(b"\n"))

        def read() -> object:
            opened = FactorStore.open(store)
            with contextlib.suppress(UsageError):  # the store is valid, but the rule has nothing to choose
                eckart.plan(opened, budget="10000")
            return opened

        return Document(content, lambda changed: (store / name).write_bytes(sealed(changed)), read)
    if name == "journal.jsonl":
        content = unseal((fine_tune.store / "manifest.json").read_bytes().removesuffix(b"\n"))
        assert content is not None
        header = {key: content[key] for key in ("kind", "format", "sources")}
        header |= {"starts_over": True, "demands": "0"}

        def write(lines: Any) -> None:
            lines = lines if isinstance(lines, list) else [lines]
            (folder / name).write_bytes(b"".join(sealed(line, None) for line in lines))

        return Document([header, {"tensor": content["tensors"][0]}], write, lambda: read_journal(folder))
    if name in ("config.json", "index"):
        weights = {"model.embed_tokens.weight": np.ones((4, 2), np.float32), "h.0.w": np.ones(3, np.float32)}
        write_safetensors(folder / "a.safetensors", weights)
        config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "tie_word_embeddings": True}
        config |= {
            "text_config": {"tie_word_embeddings": True},
            "num_experts": 4,
            "is_encoder_decoder": False,
        }
        (folder / "config.json").write_text(json.dumps(config))
        index = {"metadata": {"total_size": 44}, "weight_map": dict.fromkeys(weights, "a.safetensors")}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
        file = "config.json" if name == "config.json" else "model.safetensors.index.json"
        return plain(folder / file, lambda: eckart.inspect(folder))
    if name == "header":
        path = folder / "model.safetensors"
        entry = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}
        content = {"__metadata__": {"format": "pt"}, "h.0.w": entry}

        def write_header(changed: Any) -> None:
            text = as_json(changed)
            path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(24))

        return Document(content, write_header, lambda: Checkpoint.open(path))
    kind, _, entry = name.partition(": ")
    tensors = kohya("lora_unet_conv_in") if kind == "kohya" else peft_style("unet.conv_in")
    path = folder / "lora.safetensors"
    contents = {
        "eckart.names": {"lora_unet_conv_in": "unet.conv_in"},
        "eckart.components": ["unet"],
        "lora_adapter_metadata": {
            "unet.r": 2,
            "unet.lora_alpha": 2,
            "unet.rank_pattern": {"^conv_in": 2, "a+": 3},
            "unet.alpha_pattern": {"q": 2.0},
            "unet.use_dora": False,
        },
    }
    return Document(
        contents[entry],
        lambda changed: file_of(path, tensors, **{entry: as_json(changed).decode()}),
        lambda: load_adapter(path),
    )


DOCUMENTS = [
    "adapter_config.json",
    "eckart.json",
    "plan.json",
    "manifest.json",
    "journal.jsonl",
    "config.json",
    "index",
    "header",
    "kohya: eckart.names",
    "kohya: eckart.components",
    "diffusers: eckart.components",
    "diffusers: lora_adapter_metadata",
]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_document_with_a_hostile_value_is_read_or_refused_in_one_line(
    name: str, fine_tune: FineTune, tmp_path: Path
) -> None:
    document = document_of(name, fine_tune, tmp_path)
    document.write(document.content)
    document.read()  # the good document is accepted
    refused = 0
    for description, content in variants(document.content):
        document.write(content)
        start = time.perf_counter()
        try:
            document.read()
        except EckartError as error:
            refused += 1
            assert len(str(error).splitlines()) == 1, description
            assert str(tmp_path) in str(error), description
        except Exception as error:
            raise AssertionError(description) from error
        assert time.perf_counter() - start < SECONDS, description
    assert refused > 20


ADAPTER_COMMANDS: dict[str, Callable[[FineTune, Path], list[object]]] = {
    "inspect": lambda tune, folder: ["inspect", folder / "adapter"],
    "check": lambda tune, folder: ["check", folder / "adapter", "--for", "vllm,sglang,ollama"],
    "check --against": lambda tune, folder: ["check", folder / "adapter", "--against", tune.adapter],
    "verify": lambda tune, folder: ["verify", *tune.pair.paths, folder / "adapter"],
    "resize": lambda tune, folder: ["resize", folder / "adapter", "-o", folder / "out", "--rank", 1],
    "combine": lambda tune, folder: ["combine", folder / "adapter", tune.adapter, "-o", folder / "out"],
    "merge": lambda tune, folder: ["merge", tune.pair.base, folder / "adapter", "-o", folder / "out"],
    "convert": lambda tune, folder: [
        "convert",
        folder / "adapter",
        "-o",
        folder / "o.safetensors",
        "--to",
        "kohya",
    ],
}
OTHER_COMMANDS: dict[str, Callable[[FineTune, Path], list[object]]] = {
    "plan.json": lambda tune, folder: [
        *("extract", *tune.pair.paths, "-o", folder / "out", "--plan", folder / "plan.json"),
    ],
    "manifest.json": lambda tune, folder: ["plan", folder / "store", "--energy", 0.9],
    "config.json": lambda tune, folder: ["inspect", folder, folder],
    "header": lambda tune, folder: ["factor", folder, folder, "-o", folder / "out"],
}
COMMANDS = [
    (name, command) for name in ("adapter_config.json", "eckart.json") for command in ADAPTER_COMMANDS
]
COMMANDS += [(name, "") for name in OTHER_COMMANDS]


@pytest.mark.parametrize(("name", "command"), COMMANDS)
@given(data=st.data())
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_a_command_reads_or_refuses_a_hostile_document_and_leaves_nothing_behind(
    name: str,
    command: str,
    fine_tune: FineTune,
    tmp_path_factory: pytest.TempPathFactory,
    data: st.DataObject,
) -> None:
    folder = tmp_path_factory.mktemp("hostile")
    document = document_of(name, fine_tune, folder)
    values = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(10**400),
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
        max_leaves=4,
    )
    place = data.draw(st.sampled_from(list(places(document.content))))
    document.write(changed(document.content, place, data.draw(values)))
    argv = (ADAPTER_COMMANDS[command] if command else OTHER_COMMANDS[name])(fine_tune, folder)
    start = time.perf_counter()
    done = run(*argv)
    assert time.perf_counter() - start < SECONDS
    assert done.code in (0, 1, 2)
    assert "internal error" not in done.err and "out of memory" not in done.err
    if done.code == 2:
        assert done.err.count("eckart: ") == 1
        assert not (folder / "out").exists() and not (folder / "o.safetensors").exists()
    shutil.rmtree(folder)
