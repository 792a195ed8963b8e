"""A folder of PEFT folders is read as one adapter and written as one folder; links out of it are refused."""

import json

import pytest

from eckart.adapter import load_adapter
from eckart.adapter.formats import make_writer
from eckart.errors import AdapterError, InputError, OutputError
from support.adapters import adapter, module, pipeline_cases, same

MADE = pipeline_cases()["ranks vary"]


def test_each_component_is_written_to_a_folder_of_its_own(tmp_path):
    MADE.save(tmp_path / "a", "peft")
    assert {p.relative_to(tmp_path / "a").as_posix() for p in (tmp_path / "a").rglob("*") if p.is_file()} == {
        f"{component}/{file}"
        for component in ("unet", "text_encoder_2")
        for file in ("adapter_config.json", "adapter_model.safetensors")
    }
    read = load_adapter(tmp_path / "a")
    assert same(MADE, read) and read.format == "peft" and set(read.config) == {"unet", "text_encoder_2"}
    part = load_adapter(tmp_path / "a" / "unet")  # each is an adapter by itself
    assert {f"unet.{m.name}" for m in part} == {m.name for m in MADE if m.name.startswith("unet.")}
    assert json.loads((tmp_path / "a" / "unet" / "adapter_config.json").read_text())["r"] == 4


def test_whole_and_unknown_tensors_stay_in_their_component(tmp_path):
    original = adapter(
        module("unet.q"),
        module("text_encoder.q", rank=3),
        components=("unet", "text_encoder"),
        dense={"unet.norm.weight": module("x").left},
        unknown={"text_encoder.odd": module("x").right},
    )
    original.save(tmp_path / "a", "peft")
    read = load_adapter(tmp_path / "a")
    assert (
        same(original, read)
        and list(read.dense) == ["unet.norm.weight"]
        and list(read.unknown) == ["text_encoder.odd"]
    )
    read.save(tmp_path / "b")
    again = load_adapter(tmp_path / "b")
    assert list(again.dense) == ["unet.norm.weight"] and list(again.unknown) == ["text_encoder.odd"]


def test_only_a_pipeline_folder_is_overwritten(tmp_path):
    MADE.save(tmp_path / "a", "peft")
    with pytest.raises(OutputError, match="not empty"):
        MADE.save(tmp_path / "a", "peft")
    MADE.save(tmp_path / "a", "peft", overwrite=True)
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter.txt").write_text("dear")
    with pytest.raises(OutputError, match=r"has no unet/adapter_config\.json"):
        MADE.save(tmp_path / "home", "peft", overwrite=True)
    assert (tmp_path / "home" / "letter.txt").read_text() == "dear"


@pytest.mark.parametrize("linked", ["folder", "config", "weights", "statement"])
def test_links_that_lead_out_of_the_folder_are_refused(linked, tmp_path):
    MADE.save(tmp_path / "elsewhere", "peft")
    MADE.save(tmp_path / "a", "peft")
    file = {"config": "adapter_config.json", "weights": "adapter_model.safetensors"}.get(linked)
    if linked == "statement":
        (tmp_path / "elsewhere" / "eckart.json").write_text("{}")
        (tmp_path / "a" / "eckart.json").symlink_to(tmp_path / "elsewhere" / "eckart.json")
    elif file:
        (tmp_path / "a" / "unet" / file).unlink()
        (tmp_path / "a" / "unet" / file).symlink_to(tmp_path / "elsewhere" / "unet" / file)
    else:
        (tmp_path / "a" / "vae").symlink_to(tmp_path / "elsewhere" / "unet")
    with pytest.raises(InputError, match="this link leads out of its folder"):
        load_adapter(tmp_path / "a")


def test_component_names_that_cannot_be_folders_are_refused(tmp_path):
    for component in ("..", "a/b", "", "-x", "x" * 65):
        with pytest.raises(AdapterError):
            make_writer(adapter(module(f"{component}.q"), components=(component,)), "peft")
    with pytest.raises(AdapterError, match=r"`vae\.q`: expected a name that begins with a component: unet"):
        make_writer(adapter(module("unet.q"), module("vae.q"), components=("unet",)), "peft")
    with pytest.raises(AdapterError, match="has no modules"):
        make_writer(adapter(components=("unet",)), "peft")


def test_checkpoints_of_a_training_run_are_not_a_pipeline(tmp_path):
    for step in (500, 1000):
        adapter(module("q")).save(tmp_path / f"checkpoint-{step}", "peft")
    with pytest.raises(AdapterError, match=r"found neither adapter_config\.json nor a \.safetensors file"):
        load_adapter(tmp_path)
