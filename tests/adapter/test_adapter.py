"""The adapter as data: it does not change, and shows itself in one line or as a table."""

from dataclasses import FrozenInstanceError, replace
from html.parser import HTMLParser

import numpy as np
import pytest

from eckart.adapter import Module, load_adapter
from eckart.adapter.adapter import SHOWN
from eckart.checkpoint.kinds import Kind
from eckart.errors import UsageError
from support.adapters import adapter, file_of, kohya, matrix, module


def test_a_module_shows_its_kind_shape_rank_and_scale():
    assert repr(module("q", scale=0.5)) == "Module('q', linear, 6 x 5, rank 2, scale 0.5, float32)"


def test_the_kind_of_a_module_may_be_a_plain_string():
    assert Module("q", "conv1d", matrix(6, 2), matrix(2, 5)).kind is Kind.CONV1D
    assert replace(module("q"), kind="embedding").kind is Kind.EMBEDDING
    assert module("q").as_kind(Kind.CONV1D).shape == (5, 6)


@pytest.mark.parametrize("kind", ["Linear", "dense", "", None, 2, []])
def test_an_unknown_kind_of_module_is_refused(kind):
    with pytest.raises(UsageError) as error:
        Module("q", kind, matrix(6, 2), matrix(2, 5))
    assert error.value.where == f"q: kind={kind!r}"
    assert error.value.fix == (
        "Use linear, conv1d, embedding, conv, experts, expert, expert_transposed, router, vector or other"
    )


def test_an_adapter_shows_its_format_ranks_size_and_path(tmp_path):
    assert repr(adapter(module("q"))) == "Adapter(peft, 1 module, rank 2, 22 parameters, float32)"
    two = adapter(module("q"), module("k", rank=3), dense={"norm.weight": matrix(3)})
    assert (
        repr(two)
        == "Adapter(peft, 2 modules, ranks 2 to 3 (median 3), 1 whole tensor, 55 parameters, float32)"
    )
    path = file_of(tmp_path / "a.safetensors", kohya("lora_unet_conv_in"))
    summary = "kohya, 1 module, rank 2, 22 parameters, float32"
    assert repr(load_adapter(path)) == f"Adapter({summary}, {str(path)!r})"


def test_an_adapter_without_modules_shows_itself():
    assert repr(adapter()) == "Adapter(peft, 0 modules, 0 parameters, float32)"


def cells(html):
    """Return the texts of a table's cells, and the tags that are not part of a table."""
    texts, tags = [], set()

    class Reader(HTMLParser):
        def handle_starttag(self, tag, attrs):
            tags.add(tag)

        def handle_data(self, data):
            texts.append(data)

    Reader().feed(html)
    return texts, tags - {"table", "caption", "thead", "tbody", "tr", "th", "td"}


def test_a_notebook_shows_a_table_of_the_modules():
    texts, others = cells(adapter(module("q", scale=0.5), module("k", rank=3))._repr_html_())
    assert not others
    assert texts[1:7] == ["module", "kind", "shape", "rank", "scale", "dtype"]
    assert texts[7:] == [
        "q",
        "linear",
        "6 x 5",
        "2",
        "0.5",
        "float32",
        *"k",
        "linear",
        "6 x 5",
        "3",
        "1",
        "float32",
    ]


def test_the_table_escapes_names_and_is_cut_off():
    modules = [module(f"<script>alert({n})</script>") for n in range(SHOWN + 3)]
    texts, others = cells(adapter(*modules)._repr_html_())
    assert not others
    assert texts.count("linear") == SHOWN and texts[-1] == "and 3 more"


def test_an_adapter_does_not_change():
    one = adapter(module("q"))
    with pytest.raises(FrozenInstanceError):
        one.modules = {}
    with pytest.raises(FrozenInstanceError):
        one.notes = ("a note",)
    assert replace(one, notes=("a note",)).notes == ("a note",) and one.notes == ()


def test_saving_returns_notes_and_leaves_the_adapter_as_it_is(tmp_path):
    one = adapter(module("q"), unknown={"odd": matrix(2)})
    assert one.save(tmp_path / "a") == ()
    (note,) = one.save(tmp_path / "a.safetensors", "kohya")
    assert note.startswith("1 tensor (odd) left out") and one.notes == ()


def test_the_configuration_holds_what_the_file_holds(tmp_path):
    """What a writer needs beyond it is in `origin`."""
    kohya_file = file_of(tmp_path / "k.safetensors", kohya("lora_unet_conv_in"), ss_base_model_version="x")
    assert load_adapter(kohya_file).config == {}
    adapter(module("q")).save(tmp_path / "a")
    read = load_adapter(tmp_path / "a")
    assert not [key for key in read.config if key.startswith("_")]
    assert read.config["target_modules"] == ["q"]


def test_resize_takes_a_rule_and_a_dtype():
    small = adapter(module("q", rank=4)).resize(rank=1, dtype="float64")
    assert (small.modules["q"].rank, small.dtype) == (1, np.float64)
    with pytest.raises(UsageError):
        adapter(module("q", rank=4)).resize()


def test_experts_are_recognised_by_name():
    assert Module("mlp.experts.up[3]", "expert", matrix(6, 2), matrix(2, 5)).expert == ("mlp.experts.up", 3)
    assert module("mlp.experts.3.up").expert is None
