"""Resized adapters, compared with what PEFT computes and with NumPy's SVD of every update."""

import json
import math

import ml_dtypes
import numpy as np
import pytest

import eckart
from eckart.adapter import load_adapter
from eckart.checkpoint import read_header
from eckart.errors import AdapterError, InputError, OutputError, UsageError
from eckart.linalg.routes.product import ProductCore
from eckart.operations import compare, resize
from support.lora_folders import pair_with_values, write_lora
from support.matrices import with_values
from support.terminal import run, tree
from support.zoo import ZOO, case_of, cut, dense, distance, json_of, matrices, same_outputs

EPS32 = float(np.finfo(np.float32).eps)
DTYPES = {"F32": np.dtype(np.float32), "F16": np.dtype(np.float16), "BF16": np.dtype(ml_dtypes.bfloat16)}


def stated(folder):
    return json.loads((folder / "eckart.json").read_text())


def ranks(folder):
    return {m.name: m.rank for m in load_adapter(folder)}


# --- through PEFT ---


@pytest.mark.parametrize("name", ZOO)
def test_a_rank_above_its_own_leaves_the_outputs_of_peft_unchanged(name, tmp_path):
    case = case_of(name)
    resized = resize(case.adapter, tmp_path / "a", rank=24)
    same_outputs(case.outputs(case.loaded(tmp_path / "a")), case.outputs(case.loaded()))
    # The only error is the rounding of the float32 factors.
    assert resized.statement.error < 10 * EPS32
    assert ranks(tmp_path / "a") == ranks(case.adapter)


@pytest.mark.parametrize("name", ZOO)
def test_a_cut_equals_numpys_truncated_svd_of_every_module(name, tmp_path):
    case = case_of(name)
    resized = resize(case.adapter, tmp_path / "a", rank=2)
    before, after = matrices(case.adapter), matrices(tmp_path / "a")
    assert before.keys() == after.keys()
    for module, update in before.items():
        # float32 factors of norm near 1
        np.testing.assert_allclose(
            after[module], cut(update, 2), rtol=0, atol=20 * EPS32 * np.abs(update).sum()
        )
    # float64 sums over float32 factors; the stated error is accurate to 1e-5 of itself
    assert resized.statement.error == pytest.approx(distance(after, before), rel=1e-4, abs=1e-6)
    for module, stated_module in resized.statement.modules.items():
        expected = distance({module: after[module]}, {module: before[module]})
        assert stated_module.error == pytest.approx(expected, rel=1e-4, abs=1e-6)
        assert stated_module.update == pytest.approx(np.linalg.norm(before[module]), rel=1e-6)
    case.loaded(tmp_path / "a")  # PEFT loads it with no key missing


@pytest.mark.parametrize("name", ["llama", "bert biases", "llama lora_bias", "bert"])
def test_biases_and_whole_tensors_are_kept(name, tmp_path):
    case = case_of(name)
    resize(case.adapter, tmp_path / "a", rank=1)
    for key, value in dense(case.adapter).items():
        if value.ndim == 1:
            np.testing.assert_allclose(dense(tmp_path / "a")[key], value, rtol=2 * EPS32)
    before, after = load_adapter(case.adapter).dense, load_adapter(tmp_path / "a").dense
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[key], after[key]) for key in before)


# --- the statement ---


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["llama patterns rsLoRA", "mixtral", "conv", "llama embeddings"])
def test_the_stated_error_is_what_numpy_measures_in_the_files(name, dtype, tmp_path):
    case = case_of(name)
    resized = resize(case.adapter, tmp_path / "a", energy=0.8, dtype=dtype)
    assert {
        info.dtype for info in read_header(tmp_path / "a" / "adapter_model.safetensors").tensors.values()
    } == {dtype}
    before, after = matrices(case.adapter), matrices(tmp_path / "a")
    assert resized.statement.to_json() == stated(tmp_path / "a")
    assert resized.statement.error == pytest.approx(distance(after, before), rel=1e-4)
    assert 0.1 < resized.statement.error < math.sqrt(0.2) + 0.01  # something was cut, but not too much
    for module, stated_module in resized.statement.modules.items():
        expected = distance({module: after[module]}, {module: before[module]})
        # The estimate ignores the rounding across the cut: below 1e-5 in float32, eps^2 in other dtypes.
        assert stated_module.error == pytest.approx(expected, rel=2e-4, abs=EPS32)
    assert compare(load_adapter(tmp_path / "a"), load_adapter(case.adapter)).holds


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_rounding_error_of_a_lossless_resize_is_stated(dtype, tmp_path):
    case = case_of("llama")
    resized = resize(case.adapter, tmp_path / "a", rank=4, dtype=dtype)
    expected = distance(matrices(tmp_path / "a"), matrices(case.adapter))
    assert resized.statement.error == pytest.approx(expected, rel=1e-3, abs=1e-7)
    assert expected > 0.05 * float(ml_dtypes.finfo(DTYPES[dtype]).eps)


@pytest.mark.parametrize("scale", [1e-12, 1e-6, 1e6, 1e12])
def test_the_error_is_stated_correctly_for_extreme_magnitudes(scale, tmp_path):
    B, A = pair_with_values([3.0, 2.0, 1.0], 40, 30)
    write_lora(tmp_path / "in", {"q": (B * np.float32(scale), A)})
    resized = resize(tmp_path / "in", tmp_path / "out", rank=2)
    assert resized.statement.error == pytest.approx(1 / math.sqrt(14), rel=1e-5)
    assert resized.statement.modules["q"].update == pytest.approx(scale * math.sqrt(14), rel=1e-5)


def test_float16_refuses_updates_that_overflow_and_states_the_error_of_tiny_ones(tmp_path):
    B, A = pair_with_values([3.0, 2.0], 40, 30)
    write_lora(tmp_path / "large", {"q": (B * np.float32(1e12), A)})
    with pytest.raises(InputError, match=r"q`: its factors overflow float16"):
        resize(tmp_path / "large", tmp_path / "a", rank=2, dtype="F16")
    assert not (tmp_path / "a").exists()
    write_lora(tmp_path / "small", {"q": (B * np.float32(1e-14), A)})
    resized = resize(tmp_path / "small", tmp_path / "b", rank=2, dtype="F16")
    expected = distance(matrices(tmp_path / "b"), matrices(tmp_path / "small"))
    assert expected > 0.1  # subnormal numbers have few digits
    assert resized.statement.error == pytest.approx(expected, rel=1e-3)


# --- edge cases ---


@pytest.mark.parametrize(
    "options", [{"rank": 8}, {"energy": 0.999}, {"error": 0.001}, {"ratio": 100}, {"knee": True}]
)
def test_an_update_of_rank_one_stays_of_rank_one(options, tmp_path):
    write_lora(
        tmp_path / "in", {"q": pair_with_values([3.142], 40, 30), "v": pair_with_values([2.718], 5, 1, 1)}
    )
    resize(tmp_path / "in", tmp_path / "out", **options)
    assert ranks(tmp_path / "out") == {"q": 1, "v": 1}
    assert distance(matrices(tmp_path / "out"), matrices(tmp_path / "in")) < 10 * EPS32


@pytest.mark.parametrize("shape", [(1, 30), (30, 1), (1, 1)])
def test_layers_of_one_row_or_column_are_resized(shape, tmp_path):
    """There are fewer singular values than the requested rank, as in kohya-ss/sd-scripts#2422."""
    B, A = pair_with_values([1.0, 0.5, 0.25][: min(shape)], *shape)
    path = write_lora(tmp_path / "a", {"h.0.q": (np.tile(B, 3), np.tile(A, (3, 1)))})
    for options in ({"rank": 4}, {"energy": 0.9}, {"ratio": 100}, {"error": 0.1}):
        resize(path, tmp_path / "out", overwrite=True, **options)
        (m,) = load_adapter(tmp_path / "out")
        assert m.rank == 1
        np.testing.assert_allclose(m.left @ m.right, 3 * B @ A, atol=10 * EPS32)


def test_dependent_components_are_removed(tmp_path):
    B, A = pair_with_values([3.0, 2.0], 40, 30)
    twice, nothing = np.vstack([A, A]), np.zeros_like(B)
    write_lora(
        tmp_path / "in",
        {
            "q": (np.hstack([B, B, B]), np.vstack([A, A, -2 * A])),
            "v": (np.hstack([B, nothing]), twice),
            "k": (np.hstack([B, B]), twice),
        },
    )
    resize(tmp_path / "in", tmp_path / "out", rank=6)
    # the update of q, B (A + A - 2 A), is rounding error only; it is left out if it is exactly zero
    assert ranks(tmp_path / "out")["v"] == 2 and ranks(tmp_path / "out")["k"] == 2
    assert distance(matrices(tmp_path / "out"), matrices(tmp_path / "in")) < 10 * EPS32


@pytest.mark.parametrize("factor", ["lora_A", "lora_B"])
def test_an_update_of_zeros_gets_no_factors(factor, tmp_path):
    B, A = pair_with_values([3.0, 2.0], 40, 30)
    nothing = (0 * B, A) if factor == "lora_B" else (B, 0 * A)
    write_lora(tmp_path / "in", {"q": (B, A), "v": nothing})
    resized = resize(tmp_path / "in", tmp_path / "out", rank=2)
    assert ranks(tmp_path / "out") == {"q": 2}
    assert resized.statement.left_out == ()  # modules of zeros are not listed
    assert resized.statement.error < 10 * EPS32


def test_an_adapter_of_zeros_is_refused(tmp_path):
    B, A = pair_with_values([3.0, 2.0], 40, 30)
    write_lora(tmp_path / "in", {"q": (0 * B, A)})
    with pytest.raises(AdapterError, match="every B A is zero"):
        resize(tmp_path / "in", tmp_path / "out", rank=2)
    assert not (tmp_path / "out").exists()


def test_equal_singular_values_are_cut_with_the_expected_error(tmp_path):
    """Any two of four equal components may be kept, so only the error is determined."""
    write_lora(
        tmp_path / "in",
        {"q": pair_with_values([2.0] * 4, 40, 30), "v": pair_with_values([3.0, 1.0, 1.0], 30, 40, 1)},
    )
    resized = resize(tmp_path / "in", tmp_path / "out", rank=2)
    expected = math.sqrt((2 * 4 + 1) / (4 * 4 + 11))
    assert resized.statement.error == pytest.approx(expected, rel=1e-6)
    assert distance(matrices(tmp_path / "out"), matrices(tmp_path / "in")) == pytest.approx(
        expected, rel=1e-6
    )


@pytest.mark.parametrize("shape", [(1, 30), (30, 1), (1, 1), (4, 30), (30, 4)])
def test_the_rank_never_exceeds_the_shape(shape, tmp_path):
    random = np.random.default_rng(5)
    B, A = (random.standard_normal(s).astype(np.float32) for s in ((shape[0], 8), (8, shape[1])))
    write_lora(tmp_path / "in", {"q": (B, A)})
    resize(tmp_path / "in", tmp_path / "out", rank=8)
    assert ranks(tmp_path / "out") == {"q": min(shape)}
    assert distance(matrices(tmp_path / "out"), matrices(tmp_path / "in")) < 20 * EPS32


@pytest.mark.parametrize("rslora", [False, True])
def test_alpha_is_folded_into_the_factors(rslora, tmp_path):
    write_lora(tmp_path / "in", {"q": pair_with_values([3.0, 2.0], 40, 30)}, lora_alpha=7, use_rslora=rslora)
    resized = resize(tmp_path / "in", tmp_path / "out", rank=1)
    scale = 7 / math.sqrt(2) if rslora else 3.5
    assert resized.statement.modules["q"].update == pytest.approx(scale * math.sqrt(13), rel=1e-6)
    config = json_of(tmp_path / "out")
    assert (config["r"], config["lora_alpha"], config["use_rslora"]) == (1, 1, False)
    np.testing.assert_allclose(
        matrices(tmp_path / "out")["q"], cut(matrices(tmp_path / "in")["q"], 1), atol=1e-5
    )


def test_the_most_common_dtype_is_that_of_the_result(tmp_path):
    write_lora(
        tmp_path / "in",
        {
            "q": pair_with_values([3.0, 2.0], 40, 30, 0, ml_dtypes.bfloat16),
            "v": pair_with_values([3.0, 2.0], 10, 10, 1, np.float32),
        },
    )
    resize(tmp_path / "in", tmp_path / "out", rank=2)
    assert {m.dtype.name for m in load_adapter(tmp_path / "out")} == {"bfloat16"}


def test_a_negative_alpha_is_respected(tmp_path):
    write_lora(tmp_path / "in", {"q": pair_with_values([3.0, 2.0], 40, 30)}, lora_alpha=-4)
    resize(tmp_path / "in", tmp_path / "out", rank=2)
    assert distance(matrices(tmp_path / "out"), matrices(tmp_path / "in")) < 10 * EPS32


def test_an_update_of_zeros_does_not_hinder_one_rank_for_all(tmp_path):
    B, A = pair_with_values([3.0, 2.0, 0.1], 40, 30)
    write_lora(tmp_path / "in", {"q": (B, A), "v": (0 * B, A)})
    resize(tmp_path / "in", tmp_path / "out", energy=0.9, uniform=True)
    assert ranks(tmp_path / "out") == {"q": 2}


# --- rules ---

SIGMA = {"layers.0.q": [8.0, 4.0, 2.0, 1.0], "layers.0.v": [5.0, 4.9, 0.1], "layers.1.q": [1.0, 1.0]}
SHAPES = {"layers.0.q": (40, 30), "layers.0.v": (20, 30), "layers.1.q": (40, 30)}


def write_sigma(folder):
    """Write an adapter whose updates have the singular values SIGMA."""
    return write_lora(
        folder, {n: pair_with_values(s, *SHAPES[n], i) for i, (n, s) in enumerate(SIGMA.items())}
    )


RULES = {  # options, and the ranks worked out by hand from SIGMA: its energies are 85, 49.02 and 2
    "rank": ({"rank": 2}, (2, 2, 2)),
    "rank 3": ({"rank": 3}, (3, 3, 2)),
    "energy": ({"energy": 0.9}, (2, 2, 2)),
    "energy 0.99": ({"energy": 0.985}, (3, 2, 2)),
    "error": ({"error": 0.5}, (1, 2, 2)),
    "ratio": ({"ratio": 3}, (2, 2, 2)),
    "ratio 10": ({"ratio": 10}, (4, 2, 2)),
    "min": ({"energy": 0.5, "min_rank": 2}, (2, 2, 2)),
    "max": ({"energy": 0.999, "max_rank": 2}, (2, 2, 2)),
    "multiple": ({"energy": 0.5, "multiple_of": 2}, (2, 2, 2)),
    # energies of 64+25+1, 16+24.01+1, 4+0.01 and 1, of 136.02: shares 0.66, 0.96, 0.99
    "uniform energy": ({"energy": 0.9, "uniform": True}, (2, 2, 2)),
    "uniform rank": ({"rank": 1, "uniform": True}, (1, 1, 1)),
    # padded with zeros: the updates have ranks 4, 3 and 2
    "uniform rank above that of some updates": ({"rank": 4, "uniform": True}, (4, 4, 4)),
    "include": ({"rank": 1, "include": r"\.q"}, (1, 0, 1)),
    "exclude": ({"rank": 1, "exclude": ["layers.1", r"\.v"]}, (1, 0, 0)),
    # energy per parameter: q 64/70, 16/70, 4/70, 1/70; v 25/50, 24/50; layer 1 1/70
    "budget": ({"budget": 240}, (2, 2, 0)),
    "budget in bytes": ({"budget": "960B"}, (2, 2, 0)),
    "budget of 16 bit": ({"budget": "480B", "dtype": "BF16"}, (2, 2, 0)),
}


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_and_bound_gives_the_ranks_worked_out_by_hand(rule, tmp_path):
    options, expected = RULES[rule]
    write_sigma(tmp_path / "in")
    resized = resize(tmp_path / "in", tmp_path / "out", **options)
    wanted = {name: r for name, r in zip(SIGMA, expected, strict=True) if r}
    assert ranks(tmp_path / "out") == wanted
    whole = sum(s**2 for v in SIGMA.values() for s in v)
    lost = sum(s**2 for n, v in SIGMA.items() for s in v[wanted.get(n, 0) :])
    rounding = 0.01 if "dtype" in options else 1e-5
    assert resized.statement.error == pytest.approx(math.sqrt(lost / whole), abs=rounding)
    assert resized.statement.left_out == tuple(sorted(SIGMA.keys() - wanted.keys()))


def test_a_budget_is_respected_and_used_up(tmp_path):
    case = case_of("llama")
    everything = load_adapter(case.adapter).parameters
    resized = resize(case.adapter, tmp_path / "a", budget=everything // 2)
    parameters = load_adapter(tmp_path / "a").parameters
    assert (
        everything // 2 - 77 < parameters <= everything // 2
    )  # the largest component has 53 + 24 parameters
    assert resized.statement.parameters == parameters
    again = resize(case.adapter, tmp_path / "b", budget=f"{2 * everything}B", dtype="F32")
    assert load_adapter(tmp_path / "b").parameters <= everything // 2
    assert again.statement.error == pytest.approx(resized.statement.error, rel=1e-6)


def test_the_knee_rule_finds_the_knee(tmp_path):
    write_lora(tmp_path / "in", {"q": pair_with_values([10.0, 9.0, 8.0] + [2.0] * 13, 40, 30)})
    resize(tmp_path / "in", tmp_path / "out", knee=True)
    assert ranks(tmp_path / "out") == {"q": 3}


@pytest.mark.parametrize(
    "options, message",
    [
        ({"noise_floor": True}, "computed from the two checkpoints"),
        ({"budget": "1%"}, "share of the base"),
        ({"rank": 4, "energy": 0.9}, "expected exactly one rule"),
        ({}, "expected exactly one rule"),
        ({"rank": 0}, "rank"),
        ({"energy": 1.5}, "energy"),
        ({"rank": 2, "include": "nowhere"}, "leave none"),
        ({"rank": 2, "dtype": "F8_E4M3"}, "expected one of"),
        ({"budget": 10}, "one component costs"),
        ({"rank": 2, "format": "gguf"}, "expected one of"),
        ({"rank": 2, "format": "kohya"}, r"ends in \.safetensors"),
    ],
)
def test_invalid_options_are_refused_and_nothing_is_written(options, message, tmp_path):
    write_sigma(tmp_path / "in")
    before = tree(tmp_path)
    with pytest.raises(InputError, match=message):
        resize(tmp_path / "in", tmp_path / "out", **options)
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    "options, message",
    [
        ({"noise_floor": True}, "computed from the two checkpoints"),
        ({"budget": "1%"}, "a share of the base needs the base"),
        ({"rank": 2, "dtype": "int8"}, "expected one of float32"),
        ({"rank": 2, "format": "gguf"}, "expected one of peft, kohya, diffusers"),
        ({"rank": 2, "format": "kohya"}, r"ends in \.safetensors"),
        (
            {"rank": 2, "format": "kohya", "consumers": "vllm"},
            "not every program of the list reads this format",
        ),
        ({"rank": 2, "out": "taken"}, "the folder is not empty"),
        ({"rank": 2, "out": "taken/file"}, "expected a folder, found a file"),
        ({"rank": 2, "out": "in"}, "is or contains the input"),
    ],
)
def test_errors_that_can_be_known_are_raised_before_any_factoring(options, message, tmp_path, monkeypatch):
    write_sigma(tmp_path / "in")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").write_text("")

    def fail(*arguments):
        pytest.fail("an update was factored")

    monkeypatch.setattr(ProductCore, "of", fail)
    out = tmp_path / options.pop("out", "out")
    with pytest.raises(InputError, match=message):
        resize(tmp_path / "in", out, **options)


def test_a_rule_together_with_keywords_is_refused(tmp_path):
    write_sigma(tmp_path / "in")
    with pytest.raises(UsageError, match=r"got Rank\(1\) together with keywords: rank"):
        resize(tmp_path / "in", tmp_path / "out", rule=eckart.Rank(1), rank=2)


# --- outputs ---


@pytest.mark.parametrize("overwrite", [False, True])
def test_an_output_that_is_or_contains_the_adapter_is_refused(overwrite, tmp_path):
    write_sigma(tmp_path / "in")
    before = tree(tmp_path)
    for out in (tmp_path / "in", tmp_path):
        with pytest.raises(OutputError, match="is or contains the input"):
            resize(tmp_path / "in", out, rank=1, overwrite=overwrite)
    assert tree(tmp_path) == before


def test_an_existing_adapter_is_replaced_only_with_overwrite(tmp_path):
    write_sigma(tmp_path / "in")
    resize(tmp_path / "in", tmp_path / "out", rank=1)
    before = tree(tmp_path / "out")
    with pytest.raises(OutputError, match="overwrite=True"):
        resize(tmp_path / "in", tmp_path / "out", rank=2)
    assert tree(tmp_path / "out") == before
    resize(tmp_path / "in", tmp_path / "out", rank=2, overwrite=True)
    assert max(ranks(tmp_path / "out").values()) == 2


def test_a_failure_half_way_leaves_no_files(tmp_path):
    """The second module overflows float16 after the first one was written."""
    B, A = pair_with_values([3.0, 2.0], 40, 30)
    write_lora(tmp_path / "in", {"a": (B, A), "b": (B * np.float32(1e12), A)})
    before = tree(tmp_path)
    with pytest.raises(OutputError, match=r"b`: its factors overflow"):
        resize(tmp_path / "in", tmp_path / "out", rank=1, dtype="F16", workers=1)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("name", ["llama patterns", "mixtral", "conv"])
def test_results_in_memory_and_on_disk_agree_for_any_number_of_workers(name, tmp_path):
    case = case_of(name)
    for workers in (1, 2):
        resize(case.adapter, tmp_path / str(workers), energy=0.9, dtype="BF16", workers=workers)
    assert tree(tmp_path / "1") == tree(tmp_path / "2")
    smaller = load_adapter(case.adapter).resize(energy=0.9, dtype="BF16")
    on_disk = load_adapter(tmp_path / "1")
    assert smaller.modules.keys() == on_disk.modules.keys()
    for module in smaller:
        padded, other = module.padded(on_disk.modules[module.name].rank), on_disk.modules[module.name]
        assert np.array_equal(padded.left, other.left) and np.array_equal(padded.right, other.right)
    assert smaller.statement.error == on_disk.statement.error
    smaller.save(tmp_path / "saved")
    saved = tmp_path / "saved" / "adapter_model.safetensors"
    assert saved.read_bytes() == (tmp_path / "1" / "adapter_model.safetensors").read_bytes()


def test_resizing_in_memory_leaves_the_original_unchanged(tmp_path):
    adapter = load_adapter(case_of("llama").adapter)
    before = {m.name: (m.left.copy(), m.scale) for m in adapter}
    adapter.resize(rank=1)
    assert all(np.array_equal(before[m.name][0], m.left) and before[m.name][1] == m.scale for m in adapter)


def test_a_result_describes_itself_and_loads_its_adapter(tmp_path):
    write_sigma(tmp_path / "in")
    written, in_memory = resize(tmp_path / "in", tmp_path / "out", rank=2), resize(tmp_path / "in", rank=2)
    error = f"error {written.statement.error:.3g}"
    assert repr(written) == f"Resized({tmp_path / 'out'}: 3 modules, rank 2, {error})"
    assert repr(in_memory) == f"Resized(in memory: 3 modules, rank 2, {error})"
    assert (written.ranks.min, written.ranks.median, written.ranks.max) == (2, 2, 2)
    assert written.adapter.path == tmp_path / "out" and written.adapter is written.adapter
    assert (in_memory.path, in_memory.adapter.path) == (None, None)
    for module in written.adapter:
        assert np.array_equal(module.left, in_memory.adapter.modules[module.name].left)


def test_a_format_without_an_output_is_refused(tmp_path):
    write_sigma(tmp_path / "in")
    with pytest.raises(UsageError, match="stays in memory has no format"):
        resize(tmp_path / "in", rank=1, format="kohya")


# --- the command ---


def test_the_command_prints_the_stated_error(tmp_path):
    write_sigma(tmp_path / "in")
    done = run("resize", tmp_path / "in", "-o", tmp_path / "out", "--rank", "2")
    assert done.code == 0
    assert f"error {stated(tmp_path / 'out')['error']:.3g} of the update" in done.out
    refused = run("resize", tmp_path / "in", "-o", tmp_path / "other", "--noise-floor")
    assert refused.code == 2 and "eckart extract" in refused.err
    assert not (tmp_path / "other").exists()


def test_the_helpers_build_the_given_singular_values():
    B, A = pair_with_values([3.0, 2.0], 40, 30, dtype=np.float64)
    np.testing.assert_allclose(np.linalg.svd(B @ A)[1][:3], [3, 2, 0], atol=1e-12)
    update = with_values(np.array([3.0, 2.0, 1.0]), 20, 10)
    assert distance({"q": cut(update, 2)}, {"q": update}) == pytest.approx(1 / math.sqrt(14))
