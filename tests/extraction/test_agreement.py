"""Stated errors are those of the files, whatever the checkpoints hold, and `verify` agrees with them."""

from __future__ import annotations

import json
import math
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import eckart
from eckart.checkpoint import write_safetensors
from eckart.errors import AdapterError
from support.checkpoints import checkpoints, read, write
from support.dense_change import dense_parts, relative_error

RULES = st.one_of(
    st.fixed_dictionaries({"rank": st.sampled_from([1, 2, 4, 64])}),
    st.fixed_dictionaries({"energy": st.sampled_from([0.5, 0.9, 1.0])}),
    st.fixed_dictionaries({"error": st.sampled_from([0.0, 0.3])}),
    st.fixed_dictionaries({"ratio": st.just(10.0)}),
    st.fixed_dictionaries({"knee": st.just(True)}),
    st.fixed_dictionaries({"noise_floor": st.just(True)}),
    st.fixed_dictionaries({"budget": st.just("90%")}),
)
BOUNDS = st.fixed_dictionaries(
    {},
    optional={
        "max_rank": st.just(3),
        "uniform": st.just(True),
        "exclude": st.just(["up_proj"]),
    },
)
READERS = st.sampled_from([(), ("peft",), ("vllm",), ("llama.cpp",)])
OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "embeddings": st.just(True),
        "modules_to_save": st.just(True),
        "dtype": st.sampled_from(["float32", "bfloat16", "float64", "float16"]),
    },
)


def close(stated: float, exact: float, is_wide: bool = False) -> bool:
    """Whether a stated error is right: to 0.02 %, and to the rounding of float32 or float64 sums."""
    return math.isclose(stated, exact, rel_tol=2e-4, abs_tol=1e-12 if is_wide else 2e-6)


def extract(pair, folder, options):
    """Extract, or discard the draw if its rule keeps nothing at all."""
    try:
        return eckart.extract(*pair, folder, **options)
    except AdapterError as error:
        assume("the adapter would be empty" not in str(error))
        raise


@given(checkpoints(), RULES, BOUNDS, OPTIONS, READERS)
def test_stated_errors_are_those_of_the_files(drawn, rule, bounds, options, readers):
    if readers in (("vllm",), ("llama.cpp",)):
        options = {name: value for name, value in options.items() if name == "dtype"}
        # These programs read experts split, and the order of this model's fused rows is not known.
        assume(drawn.config.get("model_type") != "gpt_oss")
    with tempfile.TemporaryDirectory() as place:
        pair, adapter = write(drawn, Path(place)), Path(place) / "adapter"
        done = extract(pair, adapter, {**rule, **bounds, **options, "consumers": readers})
        stated = json.loads((adapter / "eckart.json").read_text())
        parts = dense_parts(*pair, adapter, drawn.prefix)
        is_wide = "F64" in (drawn.base_dtype, drawn.tuned_dtype)
        held = {key[0]: part for key, part in parts.items() if part.holder == "factors"}
        own = {name: entry for name, entry in stated["modules"].items() if "tied" not in entry}
        assert {n if n.endswith("]") else f"{n}.weight" for n in own} == held.keys()
        for name, entry in own.items():
            part = held[name if name.endswith("]") else f"{name}.weight"]
            assert close(entry["error"], part.lost / part.update, is_wide), name
            assert math.isclose(entry["update"], part.update, rel_tol=1e-6), name
        assert close(stated["error"], relative_error(list(held.values())), is_wide)
        assert close(stated["error_of_whole_change"], relative_error(list(parts.values())), is_wide)
        whole = math.hypot(*(part.update for part in parts.values()))
        for key, holders in (("not_carried", [""]), ("carried_whole", ["whole", "bias"])):
            expected = sorted((n, p.update) for (n, _), p in parts.items() if p.holder in holders)
            entries = sorted((entry["name"], entry["update"]) for entry in stated[key])
            assert [n for n, _ in entries] == [n for n, _ in expected], key
            assert [u for _, u in entries] == pytest.approx([u for _, u in expected], rel=1e-6)
            assert [
                entry["share"] for entry in sorted(stated[key], key=lambda e: (e["name"], e["update"]))
            ] == (pytest.approx([(u / whole) ** 2 for _, u in expected], rel=1e-6))
        checked = eckart.verify(*pair, adapter)
        assert checked.holds, (checked.problems, [m for m in checked.modules if not m.holds])
        assert done.statement.error_of_whole_change == stated["error_of_whole_change"]


def flip(adapter: Path) -> bool:
    """Change the sign of a factor that matters, and return whether there is one."""
    stated = json.loads((adapter / "eckart.json").read_text())["modules"]
    plain = [name for name in stated if not name.endswith("]") and stated[name]["error"] < 0.999]
    tensors = {key: array.astype(np.float32) for key, array in read(adapter).items()}
    keys = [key for name in plain if (key := f"base_model.model.{name}.lora_A.weight") in tensors]
    if not keys:
        return False
    tensors[keys[0]] = -tensors[keys[0]]
    write_safetensors(adapter / "adapter_model.safetensors", tensors)
    return True


@given(checkpoints(("F32", "BF16")), RULES)
def test_a_factor_of_the_opposite_sign_is_noticed(drawn, rule):
    with tempfile.TemporaryDirectory() as place:
        pair, adapter = write(drawn, Path(place)), Path(place) / "adapter"
        extract(pair, adapter, rule | {"dtype": "float32"})
        assume(flip(adapter))
        assert not eckart.verify(*pair, adapter).holds


def numbers(value: object, path: tuple = ()) -> list[tuple]:
    """Return the places of all numbers that `verify` can measure in a statement."""
    if isinstance(value, dict):
        kept = {
            k: v for k, v in value.items() if k not in ("plan", "versions", "format", "rank_bounds", "layout")
        }
        return [place for key, item in kept.items() for place in numbers(item, (*path, key))]
    if isinstance(value, list):
        return [place for i, item in enumerate(value) for place in numbers(item, (*path, i))]
    return [path] if isinstance(value, (int, float)) else []


def changed(stated: dict, place: tuple) -> dict:
    """Return a statement with one number enlarged by 1 %, or by one."""
    edited = json.loads(json.dumps(stated))
    target = edited
    for key in place[:-1]:
        target = target[key]
    old = target[place[-1]]
    target[place[-1]] = old + 1 if isinstance(old, int) else 1.01 * old + 1e-4
    return edited


@given(checkpoints(), RULES, OPTIONS, st.data())
def test_every_number_of_a_statement_is_checked(drawn, rule, options, data):
    with tempfile.TemporaryDirectory() as place:
        pair, adapter = write(drawn, Path(place)), Path(place) / "adapter"
        extract(pair, adapter, rule | options)
        stated = json.loads((adapter / "eckart.json").read_text())
        assert eckart.verify(*pair, adapter).holds
        edited = changed(stated, data.draw(st.sampled_from(numbers(stated))))
        (adapter / "eckart.json").write_text(json.dumps(edited))
        assert not eckart.verify(*pair, adapter).holds


@given(checkpoints(), RULES, OPTIONS, st.data())
def test_every_entry_of_a_statement_is_checked(drawn, rule, options, data):
    """An entry that is removed, and a tensor that is moved from one list to the other."""
    with tempfile.TemporaryDirectory() as place:
        pair, adapter = write(drawn, Path(place)), Path(place) / "adapter"
        extract(pair, adapter, rule | options)
        stated = json.loads((adapter / "eckart.json").read_text())
        lists = [key for key in ("not_carried", "carried_whole") if stated[key]]
        key = data.draw(st.sampled_from(["modules", *lists]))
        if key == "modules":
            del stated[key][data.draw(st.sampled_from(sorted(stated[key])))]
        else:
            entry = stated[key].pop(data.draw(st.integers(0, len(stated[key]) - 1)))
            if data.draw(st.booleans()):
                stated[{"not_carried": "carried_whole", "carried_whole": "not_carried"}[key]].append(entry)
        (adapter / "eckart.json").write_text(json.dumps(stated))
        assert not eckart.verify(*pair, adapter).holds


@given(checkpoints(("F32", "F64")), st.sampled_from([2, 4]))
def test_exchanged_checkpoints_are_recognised(drawn, rank):
    same_sizes = all(entry.base == entry.tuned for entry in drawn.entries if entry.stored_in == "both")
    assume(same_sizes and not any("gate_proj" in entry.name for entry in drawn.entries))
    with tempfile.TemporaryDirectory() as place:
        pair, adapter = write(drawn, Path(place)), Path(place) / "adapter"
        extract(pair, adapter, {"rank": rank})
        assert not eckart.verify(*pair, adapter).is_exchanged
        checked = eckart.verify(pair[1], pair[0], adapter)
        assert checked.is_exchanged and not checked.holds
        (adapter / "eckart.json").unlink()
        assert eckart.verify(pair[1], pair[0], adapter).is_exchanged
        assert not eckart.verify(*pair, adapter).is_exchanged
