"""Pairs of checkpoints: which tensors are matched, which differences are tolerated and which refused."""

import json

import ml_dtypes
import numpy as np
import pytest

from eckart.checkpoint import DTYPES, Checkpoint, Pair, write_safetensors
from eckart.errors import PairError

F32, BF16, INT8, INT32 = np.float32, ml_dtypes.bfloat16, np.int8, np.int32
FP8 = ml_dtypes.float8_e4m3fn


@pytest.fixture
def match(tmp_path):
    """Write two checkpoints, each a mapping of name to shape or (shape, dtype), and match them."""

    def write(side, layout):
        arrays = {}
        for name, given in layout.items():
            shape, dtype = given if given and isinstance(given[0], tuple) else (given, F32)
            arrays[name] = np.zeros(shape, dtype)
        write_safetensors(tmp_path / f"{side}.safetensors", arrays)
        return Checkpoint.open(tmp_path / f"{side}.safetensors")

    return lambda base, tuned: Pair.match(write("base", base), write("tuned", tuned))


LAYERS = {f"layers.{i}.{part}.weight": (4, 3 + i) for i in range(12) for part in ("q", "v")}


def prefixed(prefix, layout):
    return {prefix + name: shape for name, shape in layout.items()}


def pairs(pair):
    return {entry.name: (entry.base.name, entry.tuned.name) for entry in pair.entries}


def refused(match, base, tuned):
    with pytest.raises(PairError) as caught:
        match(base, tuned)
    assert caught.value.fix
    return str(caught.value)


def test_equal_names_are_matched_in_natural_order_without_a_note(match):
    pair = match(LAYERS, LAYERS)
    assert [entry.name for entry in pair.entries] == list(LAYERS)
    assert all(entry.base.name == entry.tuned.name == entry.name for entry in pair.entries)
    assert {entry.base.file.name for entry in pair.entries} == {"base.safetensors"}
    assert {entry.tuned.file.name for entry in pair.entries} == {"tuned.safetensors"}
    assert (pair.only_base, pair.only_tuned, pair.grown, pair.prefix, pair.notes) == ((),) * 3 + (
        "",
        (),
    )


@pytest.mark.parametrize("prefix", ["model.", "bert.", "base_model.model.", "a.b.c.d."])
@pytest.mark.parametrize("in_base", [True, False])
def test_any_prefix_is_found_on_either_side_and_output_layers_stay_without(match, prefix, in_base):
    head = {"lm_head.weight": (9, 4)}
    longer, shorter = {**prefixed(prefix, LAYERS), **head}, {**LAYERS, **head}
    pair = match(longer, shorter) if in_base else match(shorter, longer)
    expected = {prefix + n: (prefix + n, n) if in_base else (n, prefix + n) for n in LAYERS}
    assert pairs(pair) == {**expected, "lm_head.weight": ("lm_head.weight",) * 2}
    assert pair.prefix == prefix
    side = "base" if in_base else "tuned"
    assert pair.notes == (f"Tensor names begin with {prefix} only in the {side} checkpoint.",)


def test_prefix_with_the_most_pairs_of_equal_shape_wins(match):
    base = {"w": (2, 2), "v": (3, 2), "u": (5, 2)}
    tuned = {"ema.w": (2, 2), "ema.v": (9, 9), "ema.u": (9, 9), "net.w": (2, 2), "net.v": (3, 2)}
    pair = match(base, tuned)
    assert pair.prefix == "net."
    assert pairs(pair) == {"net.w": ("w", "net.w"), "net.v": ("v", "net.v")}
    assert pair.only_base == ("u",)


def test_exact_name_takes_precedence_over_a_prefixed_one(match):
    pair = match({"w": (2, 2), "v": (2, 2)}, {"w": (2, 2), "m.w": (2, 2), "m.v": (2, 2)})
    assert pairs(pair) == {"w": ("w", "w"), "m.v": ("v", "m.v")}
    assert pair.only_tuned == ("m.w",)


def test_differing_shape_behind_a_prefix_is_refused(match):
    message = refused(match, {"a.w": (2, 2), "b.w": (2, 3)}, {"m.a.w": (2, 2), "m.b.w": (2, 4)})
    assert message.startswith("`m.b.w`")


def test_tensors_on_one_side_are_counted_and_five_are_listed(match):
    extra = {f"extra.{i}": (1,) for i in range(12)}
    pair = match({**LAYERS, **extra}, {**LAYERS, "classifier.weight": (7, 4)})
    assert pair.only_base == tuple(extra)
    assert pair.only_tuned == ("classifier.weight",)
    first = "extra.0, extra.1, extra.2, extra.3, extra.4"
    assert pair.notes == (
        f"Skipped 12 tensors found only in the base checkpoint: {first} and 7 more.",
        "Skipped 1 tensor found only in the tuned checkpoint: classifier.weight.",
    )


@pytest.mark.parametrize(
    "name",
    [
        "model.embed_tokens.weight",
        "transformer.wte.weight",
        "lm_head.weight",
        "shared.weight",
        "bert.embeddings.word_embeddings.weight",
        "embed_out.weight",
        "output.weight",
    ],
)
@pytest.mark.parametrize(("before", "after"), [(10, 12), (12, 10)])
def test_vocabulary_may_grow_and_shrink(match, name, before, after):
    pair = match({**LAYERS, name: (before, 4)}, {**LAYERS, name: (after, 4)})
    (grown,) = pair.grown
    assert (grown.name, grown.rows) == (name, 10)
    assert grown in pair.entries
    assert {entry.rows for entry in pair.entries if entry is not grown} == {None}
    assert pair.notes == (
        f"The vocabulary {name} went from {before} to {after} rows; the first 10 are compared.",
    )


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("layers.0.q.weight", (10, 4), (12, 4)),
        ("lm_head.weight", (10, 4), (10, 5)),
        ("lm_head.weight", (10, 4), (10, 4, 1)),
        ("lm_head.bias", (10,), (12,)),
        ("mlp.shared_expert.up.weight", (10, 4), (12, 4)),
        ("encoder.layer.0.attention.output.weight", (10, 4), (12, 4)),
        ("classifier.weight", (2, 4), (77, 4)),
    ],
)
def test_any_other_shape_difference_is_refused_with_tensor_shapes_and_files(match, name, before, after):
    message = refused(match, {"w": (2, 2), name: before}, {"w": (2, 2), name: after})
    for part in (f"`{name}`", f"{before} in ", f"{after} in ", "base.safe", "tuned.safe"):
        assert part in message


def test_checkpoints_without_a_common_tensor_are_refused_with_names_of_both(match):
    message = refused(match, {"a.1": (2,), "a.2": (2,), "a.3": (2,)}, {"b.1": (3,), "b.2": (3,)})
    assert "found a.1, a.2 in the base and b.1, b.2 in the fine-tune" in message
    assert "no tensor in the base" in refused(match, {}, {"b": (3,)})


def test_integer_buffers_are_skipped_and_noted(match):
    layout = {"w": (2, 2), "position_ids": ((4,), np.int64), "mask": ((4,), bool)}
    pair = match(layout, layout)
    assert pairs(pair) == {"w": ("w", "w")}
    assert pair.notes == (
        "Skipped 2 tensors not in a floating-point dtype: mask (bool), position_ids (int64).",
    )


def test_checkpoints_with_only_integer_tensors_in_common_are_refused(match):
    assert "expected floating-point tensors" in refused(match, {"i": ((4,), INT32)}, {"i": ((4,), INT32)})


def test_differing_dtypes_are_noted(match):
    pair = match({"v": (2,), "w": ((2,), BF16)}, {"v": (2,), "w": (2,)})
    assert pair.notes == (
        "The dtypes of 1 tensor differ between the checkpoints, for example w: "
        "bfloat16 in base, float32 in tuned.",
    )


def test_checkpoint_matches_itself(tmp_path):
    write_safetensors(tmp_path / "model.safetensors", {"w": np.zeros((2, 2))})
    checkpoint = Checkpoint.open(tmp_path)
    assert pairs(Pair.match(checkpoint, checkpoint)) == {"w": ("w", "w")}


QUANTISED = [
    ("GPTQ", {"q.qweight": ((2, 2), INT32), "q.scales": (2,)}, "q.qweight", "int32"),
    ("packed", {"q.weight_packed": ((2, 2), INT32)}, "q.weight_packed", "int32"),
    ("bnb 8", {"q.weight": ((2, 2), INT8), "q.SCB": (2,)}, "q.weight", "int8"),
    ("bnb 4", {"q.weight": ((2, 1), np.uint8), "q.weight.absmax": (2,)}, "q.weight", "uint8"),
    ("fp8", {"q.weight": ((2, 2), FP8), "q.weight_scale": (1,)}, "q.weight", "float8_e4m3fn"),
    ("DeepSeek", {"q.weight": ((2, 2), FP8), "q.weight_scale_inv": (1,)}, "q.weight", "float8_e4m3fn"),
    ("MLX", {"q.weight": ((2, 1), np.uint32), "q.scales": (2,)}, "q.weight", "uint32"),
    (
        "MXFP4",
        {"up_blocks": ((2, 2), np.uint8), "up_scales": ((2,), np.uint8)},
        "up_blocks",
        "uint8",
    ),
]


@pytest.mark.parametrize(
    ("layout", "name", "dtype"), [row[1:] for row in QUANTISED], ids=[row[0] for row in QUANTISED]
)
def test_quantised_checkpoint_is_refused_on_either_side(match, layout, name, dtype):
    for base, tuned in (({"w": (2, 2)}, layout), (layout, {"w": (2, 2)})):
        message = refused(match, {"w": (2, 2), **base}, {"w": (2, 2), **tuned})
        assert f": {name}`" in message
        assert f"found {dtype} " in message
        assert "Dequantise the checkpoint first" in message


def test_dtype_used_only_for_quantisation_is_refused(tmp_path):
    file = tmp_path / "model.safetensors"
    header = json.dumps({"w": {"dtype": "F4", "shape": [4], "data_offsets": [0, 2]}}).encode()
    file.write_bytes(len(header).to_bytes(8, "little") + header + bytes(2))
    checkpoint = Checkpoint.open(file)
    with pytest.raises(PairError, match="F4, which only quantised checkpoints use"):
        Pair.match(checkpoint, checkpoint)


@pytest.mark.parametrize(
    "layout",
    [
        {"w": ((2, 2), FP8)},
        {"w": (2, 2), "w_scale": (1,)},
        {"w": (2, 2), "num_blocks": ((1,), np.int64), "logit_scale": ()},
    ],
)
def test_checkpoint_that_only_looks_quantised_is_accepted(match, layout):
    assert "w" in pairs(match(layout, layout))


def test_every_floating_point_dtype_gives_an_entry(match):
    layout = {name: ((2,), dtype) for name, dtype in DTYPES.items()}
    floats = {"F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"}
    assert set(pairs(match(layout, layout))) == floats


def test_tensors_without_entries_are_skipped_with_a_note(match):
    layout = {"w.weight": (2, 2), "none.weight": (0, 2**33), "embed.weight": (0, 4)}
    pair = match(layout, {**layout, "embed.weight": (3, 4)})
    assert [entry.name for entry in pair.entries] == ["w.weight"]
    assert "Skipped 2 tensors without entries: embed.weight, none.weight." in pair.notes
