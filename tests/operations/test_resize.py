"""Adapters cut to other ranks: PEFT computes the same, and NumPy's SVD of the update agrees."""

import json
import math

import ml_dtypes
import numpy as np
import pytest

import eckart
from eckart.adapter import load_adapter
from eckart.checkpoint import read_header, write_safetensors
from eckart.errors import AdapterError, InputError, OutputError, UsageError
from eckart.operations import compare, resize
from support.matrices import orthonormal, with_values
from support.terminal import run, tree
from support.zoo import ZOO, cut, dense, distance, json_of, made, matrices, same_outputs

PREFIX = "base_model.model."
EPS32 = float(np.finfo(np.float32).eps)
DTYPES = {"F32": np.dtype(np.float32), "F16": np.dtype(np.float16), "BF16": np.dtype(ml_dtypes.bfloat16)}


def stated(folder):
    return json.loads((folder / "eckart.json").read_text())


def write(folder, pairs, config=None):
    """Write a PEFT folder of (B, A) by module name."""
    folder.mkdir(parents=True)
    ranks = {name: B.shape[1] for name, (B, _) in pairs.items()}
    r = max(ranks.values())
    said = {
        "peft_type": "LORA", "r": r, "lora_alpha": r, "target_modules": sorted(pairs),
        "rank_pattern": ranks, "alpha_pattern": ranks, "use_rslora": False,
    } | (config or {})  # fmt: skip
    (folder / "adapter_config.json").write_text(json.dumps(said))
    arrays = {}
    for name, (B, A) in pairs.items():
        arrays |= {f"{PREFIX}{name}.lora_A.weight": A, f"{PREFIX}{name}.lora_B.weight": B}
    write_safetensors(folder / "adapter_model.safetensors", arrays)
    return folder


def pair(sigma, m, n, seed=0, dtype=np.float32):
    """Factors of an update with these singular values."""
    root = np.sqrt(np.asarray(sigma, float))
    k = len(root)
    B, A = orthonormal(m, k, 2 * seed) * root, root[:, None] * orthonormal(n, k, 2 * seed + 1).T
    return B.astype(dtype), A.astype(dtype)


def ranks(folder):
    return {m.name: m.rank for m in load_adapter(folder)}


# --- through PEFT ---


@pytest.mark.parametrize("name", ZOO)
def test_a_rank_over_its_own_changes_nothing_that_peft_computes(name, tmp_path):
    animal = made(name)
    done = resize(animal.adapter, tmp_path / "a", rank=24)
    same_outputs(animal.outputs(animal.loaded(tmp_path / "a")), animal.outputs(animal.loaded()))
    # Factors in float32: their rounding is all that is lost.
    assert done.statement.error < 10 * EPS32
    assert ranks(tmp_path / "a") == ranks(animal.adapter)


@pytest.mark.parametrize("name", ZOO)
def test_a_cut_is_numpys_module_by_module(name, tmp_path):
    animal = made(name)
    done = resize(animal.adapter, tmp_path / "a", rank=2)
    before, after = matrices(animal.adapter), matrices(tmp_path / "a")
    assert before.keys() == after.keys()
    for module, update in before.items():
        # float32 factors of norm near 1
        np.testing.assert_allclose(
            after[module], cut(update, 2), rtol=0, atol=20 * EPS32 * np.abs(update).sum()
        )
    # float64 sums over float32 factors; the statement's own error is 1e-5 of itself
    assert done.statement.error == pytest.approx(distance(after, before), rel=1e-4, abs=1e-6)
    for module, said in done.statement.modules.items():
        expected = distance({module: after[module]}, {module: before[module]})
        assert said.error == pytest.approx(expected, rel=1e-4, abs=1e-6)
        assert said.update == pytest.approx(np.linalg.norm(before[module]), rel=1e-6)
    animal.loaded(tmp_path / "a")  # and PEFT takes it, no key missing


@pytest.mark.parametrize("name", ["llama", "bert biases", "llama lora_bias", "bert"])
def test_biases_and_whole_tensors_are_kept(name, tmp_path):
    animal = made(name)
    resize(animal.adapter, tmp_path / "a", rank=1)
    for key, value in dense(animal.adapter).items():
        if value.ndim == 1:
            np.testing.assert_allclose(dense(tmp_path / "a")[key], value, rtol=2 * EPS32)
    before, after = load_adapter(animal.adapter).dense, load_adapter(tmp_path / "a").dense
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[key], after[key]) for key in before)


# --- what is stated ---


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["llama patterns rsLoRA", "mixtral", "conv", "llama embeddings"])
def test_the_stated_error_is_what_numpy_measures_in_the_files(name, dtype, tmp_path):
    animal = made(name)
    done = resize(animal.adapter, tmp_path / "a", energy=0.8, dtype=dtype)
    assert {info.dtype for info in read_header(tmp_path / "a" / "adapter_model.safetensors").tensors.values()
            } == {dtype}  # fmt: skip
    before, after = matrices(animal.adapter), matrices(tmp_path / "a")
    assert done.statement.to_json() == stated(tmp_path / "a")
    assert done.statement.error == pytest.approx(distance(after, before), rel=1e-4)
    assert 0.1 < done.statement.error < math.sqrt(0.2) + 0.01  # so something was cut, and not too much
    for module, said in done.statement.modules.items():
        expected = distance({module: after[module]}, {module: before[module]})
        # The roundings' part across the cut is left out: below 1e-5 in float32, eps^2 of the others.
        assert said.error == pytest.approx(expected, rel=2e-4, abs=EPS32)
    assert compare(load_adapter(tmp_path / "a"), load_adapter(animal.adapter)).holds


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_rounding_of_a_lossless_resize_is_stated(dtype, tmp_path):
    animal = made("llama")
    done = resize(animal.adapter, tmp_path / "a", rank=4, dtype=dtype)
    expected = distance(matrices(tmp_path / "a"), matrices(animal.adapter))
    assert done.statement.error == pytest.approx(expected, rel=1e-3, abs=1e-7)
    assert expected > 0.05 * float(ml_dtypes.finfo(DTYPES[dtype]).eps)


@pytest.mark.parametrize("scale", [1e-12, 1e-6, 1e6, 1e12])
def test_extreme_sizes_are_stated_right(scale, tmp_path):
    B, A = pair([3.0, 2.0, 1.0], 40, 30)
    write(tmp_path / "in", {"q": (B * np.float32(scale), A)})
    done = resize(tmp_path / "in", tmp_path / "out", rank=2)
    assert done.statement.error == pytest.approx(1 / math.sqrt(14), rel=1e-5)
    assert done.statement.modules["q"].update == pytest.approx(scale * math.sqrt(14), rel=1e-5)


def test_an_update_too_small_or_large_for_float16_is_refused_or_stated(tmp_path):
    B, A = pair([3.0, 2.0], 40, 30)
    write(tmp_path / "large", {"q": (B * np.float32(1e12), A)})
    with pytest.raises(InputError, match=r"q`: its factors overflow float16"):
        resize(tmp_path / "large", tmp_path / "a", rank=2, dtype="F16")
    assert not (tmp_path / "a").exists()
    write(tmp_path / "small", {"q": (B * np.float32(1e-14), A)})
    done = resize(tmp_path / "small", tmp_path / "b", rank=2, dtype="F16")
    expected = distance(matrices(tmp_path / "b"), matrices(tmp_path / "small"))
    assert expected > 0.1  # subnormal numbers have few digits
    assert done.statement.error == pytest.approx(expected, rel=1e-3)


# --- traps ---


@pytest.mark.parametrize(
    "wish", [{"rank": 8}, {"energy": 0.999}, {"error": 0.001}, {"ratio": 100}, {"knee": True}]
)
def test_rank_one_stays_rank_one(wish, tmp_path):
    write(tmp_path / "in", {"q": pair([3.142], 40, 30), "v": pair([2.718], 5, 1, 1)})
    resize(tmp_path / "in", tmp_path / "out", **wish)
    assert ranks(tmp_path / "out") == {"q": 1, "v": 1}
    assert distance(matrices(tmp_path / "out"), matrices(tmp_path / "in")) < 10 * EPS32


@pytest.mark.parametrize("shape", [(1, 30), (30, 1), (1, 1)])
def test_layers_of_one_row_or_column(shape, tmp_path):
    """kohya-ss/sd-scripts#2422: fewer singular values than were asked for."""
    B, A = pair([1.0, 0.5, 0.25][: min(shape)], *shape)
    path = write(tmp_path / "a", {"h.0.q": (np.tile(B, 3), np.tile(A, (3, 1)))})
    for wish in ({"rank": 4}, {"energy": 0.9}, {"ratio": 100}, {"error": 0.1}):
        resize(path, tmp_path / "out", overwrite=True, **wish)
        (m,) = load_adapter(tmp_path / "out")
        assert m.rank == 1
        np.testing.assert_allclose(m.left @ m.right, 3 * B @ A, atol=10 * EPS32)


def test_dependent_columns_are_not_kept(tmp_path):
    B, A = pair([3.0, 2.0], 40, 30)
    twice, nothing = np.vstack([A, A]), np.zeros_like(B)
    write(
        tmp_path / "in",
        {
            "q": (np.hstack([B, B, B]), np.vstack([A, A, -2 * A])),
            "v": (np.hstack([B, nothing]), twice),
            "k": (np.hstack([B, B]), twice),
        },
    )
    resize(tmp_path / "in", tmp_path / "out", rank=6)
    # B (A + A - 2 A) is nothing but rounding, and q is left out if it is exactly that
    assert ranks(tmp_path / "out")["v"] == 2 and ranks(tmp_path / "out")["k"] == 2
    assert distance(matrices(tmp_path / "out"), matrices(tmp_path / "in")) < 10 * EPS32


@pytest.mark.parametrize("factor", ["lora_A", "lora_B"])
def test_an_update_of_zeros_gets_no_factors(factor, tmp_path):
    B, A = pair([3.0, 2.0], 40, 30)
    nothing = (0 * B, A) if factor == "lora_B" else (B, 0 * A)
    write(tmp_path / "in", {"q": (B, A), "v": nothing})
    done = resize(tmp_path / "in", tmp_path / "out", rank=2)
    assert ranks(tmp_path / "out") == {"q": 2}
    assert done.statement.left_out == ()  # nothing that mattered
    assert done.statement.error < 10 * EPS32


def test_an_adapter_of_zeros_is_refused(tmp_path):
    B, A = pair([3.0, 2.0], 40, 30)
    write(tmp_path / "in", {"q": (0 * B, A)})
    with pytest.raises(AdapterError, match="every B A is zero"):
        resize(tmp_path / "in", tmp_path / "out", rank=2)
    assert not (tmp_path / "out").exists()


def test_ties_of_sigma(tmp_path):
    """Any two of the four equal components will do: the error tells, not the factors."""
    write(tmp_path / "in", {"q": pair([2.0] * 4, 40, 30), "v": pair([3.0, 1.0, 1.0], 30, 40, 1)})
    done = resize(tmp_path / "in", tmp_path / "out", rank=2)
    expected = math.sqrt((2 * 4 + 1) / (4 * 4 + 11))
    assert done.statement.error == pytest.approx(expected, rel=1e-6)
    assert distance(matrices(tmp_path / "out"), matrices(tmp_path / "in")) == pytest.approx(
        expected, rel=1e-6
    )


@pytest.mark.parametrize("shape", [(1, 30), (30, 1), (1, 1), (4, 30), (30, 4)])
def test_a_rank_beyond_the_shape(shape, tmp_path):
    random = np.random.default_rng(5)
    B, A = (random.standard_normal(s).astype(np.float32) for s in ((shape[0], 8), (8, shape[1])))
    write(tmp_path / "in", {"q": (B, A)})
    resize(tmp_path / "in", tmp_path / "out", rank=8)
    assert ranks(tmp_path / "out") == {"q": min(shape)}
    assert distance(matrices(tmp_path / "out"), matrices(tmp_path / "in")) < 20 * EPS32


@pytest.mark.parametrize("rslora", [False, True])
def test_alpha_is_folded_into_the_factors(rslora, tmp_path):
    write(tmp_path / "in", {"q": pair([3.0, 2.0], 40, 30)},
          {"lora_alpha": 7, "alpha_pattern": {}, "use_rslora": rslora})  # fmt: skip
    done = resize(tmp_path / "in", tmp_path / "out", rank=1)
    scale = 7 / math.sqrt(2) if rslora else 3.5
    assert done.statement.modules["q"].update == pytest.approx(scale * math.sqrt(13), rel=1e-6)
    config = json_of(tmp_path / "out")
    assert (config["r"], config["lora_alpha"], config["use_rslora"]) == (1, 1, False)
    np.testing.assert_allclose(
        matrices(tmp_path / "out")["q"], cut(matrices(tmp_path / "in")["q"], 1), atol=1e-5
    )


def test_factors_of_several_dtypes(tmp_path):
    """The dtype of most numbers is that of the result."""
    write(tmp_path / "in", {"q": pair([3.0, 2.0], 40, 30, 0, ml_dtypes.bfloat16),
                            "v": pair([3.0, 2.0], 10, 10, 1, np.float32)})  # fmt: skip
    resize(tmp_path / "in", tmp_path / "out", rank=2)
    assert {m.dtype.name for m in load_adapter(tmp_path / "out")} == {"bfloat16"}


def test_a_negative_alpha(tmp_path):
    write(tmp_path / "in", {"q": pair([3.0, 2.0], 40, 30)}, {"lora_alpha": -4, "alpha_pattern": {}})
    resize(tmp_path / "in", tmp_path / "out", rank=2)
    assert distance(matrices(tmp_path / "out"), matrices(tmp_path / "in")) < 10 * EPS32


# --- the words of the rule ---

SIGMA = {"layers.0.q": [8.0, 4.0, 2.0, 1.0], "layers.0.v": [5.0, 4.9, 0.1], "layers.1.q": [1.0, 1.0]}
SHAPES = {"layers.0.q": (40, 30), "layers.0.v": (20, 30), "layers.1.q": (40, 30)}


def made_of_sigma(folder):
    return write(folder, {n: pair(s, *SHAPES[n], i) for i, (n, s) in enumerate(SIGMA.items())})


RULES = {  # worked out by hand from SIGMA: energies 85, 49.02, 2
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
    # of the squares 64+25+1, 16+24.01+1, 4+0.01, 1 of 136.02: 0.66, 0.96, 0.99
    "uniform energy": ({"energy": 0.9, "uniform": True}, (2, 2, 2)),
    "uniform rank": ({"rank": 1, "uniform": True}, (1, 1, 1)),
    "include": ({"rank": 1, "include": r"\.q"}, (1, 0, 1)),
    "exclude": ({"rank": 1, "exclude": ["layers.1", r"\.v"]}, (1, 0, 0)),
    # per parameter: q 64/70, 16/70, 4/70, 1/70; v 25/50, 24/50; layer 1 1/70
    "budget": ({"budget": 240}, (2, 2, 0)),
    "budget in bytes": ({"budget": "960B"}, (2, 2, 0)),
    "budget of 16 bit": ({"budget": "480B", "dtype": "BF16"}, (2, 2, 0)),
}  # fmt: skip


@pytest.mark.parametrize("rule", RULES)
def test_every_word_of_the_rule(rule, tmp_path):
    wish, expected = RULES[rule]
    made_of_sigma(tmp_path / "in")
    done = resize(tmp_path / "in", tmp_path / "out", **wish)
    wanted = {name: r for name, r in zip(SIGMA, expected, strict=True) if r}
    assert ranks(tmp_path / "out") == wanted
    whole = sum(s**2 for v in SIGMA.values() for s in v)
    lost = sum(s**2 for n, v in SIGMA.items() for s in v[wanted.get(n, 0) :])
    rounding = 0.01 if "dtype" in wish else 1e-5
    assert done.statement.error == pytest.approx(math.sqrt(lost / whole), abs=rounding)
    assert done.statement.left_out == tuple(sorted(SIGMA.keys() - wanted.keys()))


def test_a_budget_is_kept_and_spent(tmp_path):
    animal = made("llama")
    everything = load_adapter(animal.adapter).parameters
    done = resize(animal.adapter, tmp_path / "a", budget=everything // 2)
    got = load_adapter(tmp_path / "a").parameters
    assert everything // 2 - 77 < got <= everything // 2  # the dearest component costs 53 + 24
    assert done.statement.parameters == got
    again = resize(animal.adapter, tmp_path / "b", budget=f"{2 * everything}B", dtype="F32")
    assert load_adapter(tmp_path / "b").parameters <= everything // 2
    assert again.statement.error == pytest.approx(done.statement.error, rel=1e-6)


def test_the_knee(tmp_path):
    write(tmp_path / "in", {"q": pair([10.0, 9.0, 8.0] + [2.0] * 13, 40, 30)})
    resize(tmp_path / "in", tmp_path / "out", knee=True)
    assert ranks(tmp_path / "out") == {"q": 3}


@pytest.mark.parametrize(
    "wish, words",
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
        ({"rank": 2, "format": "kohya"}, r"kohya|\.safetensors"),
    ],
)
def test_refused_and_nothing_written(wish, words, tmp_path):
    made_of_sigma(tmp_path / "in")
    before = tree(tmp_path)
    with pytest.raises(InputError, match=words):
        resize(tmp_path / "in", tmp_path / "out", **wish)
    assert tree(tmp_path) == before


def test_a_rule_together_with_keywords_is_refused(tmp_path):
    made_of_sigma(tmp_path / "in")
    with pytest.raises(UsageError, match=r"got Rank\(1\) together with keywords: rank"):
        resize(tmp_path / "in", tmp_path / "out", rule=eckart.Rank(1), rank=2)


# --- places ---


@pytest.mark.parametrize("overwrite", [False, True])
def test_the_adapter_is_never_its_own_result(overwrite, tmp_path):
    made_of_sigma(tmp_path / "in")
    before = tree(tmp_path)
    for out in (tmp_path / "in", tmp_path):
        with pytest.raises(OutputError, match="is or contains the input"):
            resize(tmp_path / "in", out, rank=1, overwrite=overwrite)
    assert tree(tmp_path) == before


def test_what_is_there_is_replaced_only_on_request(tmp_path):
    made_of_sigma(tmp_path / "in")
    resize(tmp_path / "in", tmp_path / "out", rank=1)
    before = tree(tmp_path / "out")
    with pytest.raises(OutputError, match="--overwrite"):
        resize(tmp_path / "in", tmp_path / "out", rank=2)
    assert tree(tmp_path / "out") == before
    resize(tmp_path / "in", tmp_path / "out", rank=2, overwrite=True)
    assert max(ranks(tmp_path / "out").values()) == 2


def test_a_failure_half_way_leaves_nothing(tmp_path):
    """The second module overflows float16 when the first is written already."""
    B, A = pair([3.0, 2.0], 40, 30)
    write(tmp_path / "in", {"a": (B, A), "b": (B * np.float32(1e12), A)})
    before = tree(tmp_path)
    with pytest.raises(OutputError, match=r"b`: its factors overflow"):
        resize(tmp_path / "in", tmp_path / "out", rank=1, dtype="F16", workers=1)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("name", ["llama patterns", "mixtral", "conv"])
def test_memory_and_disk_and_any_number_of_workers_agree(name, tmp_path):
    animal = made(name)
    for workers in (1, 2):
        resize(animal.adapter, tmp_path / str(workers), energy=0.9, dtype="BF16", workers=workers)
    assert tree(tmp_path / "1") == tree(tmp_path / "2")
    smaller = load_adapter(animal.adapter).resize(energy=0.9, dtype="BF16")
    on_disk = load_adapter(tmp_path / "1")
    assert smaller.modules.keys() == on_disk.modules.keys()
    for module in smaller:
        padded, other = module.padded(on_disk.modules[module.name].rank), on_disk.modules[module.name]
        assert np.array_equal(padded.left, other.left) and np.array_equal(padded.right, other.right)
    assert smaller.statement.error == on_disk.statement.error
    smaller.save(tmp_path / "saved")
    saved = tmp_path / "saved" / "adapter_model.safetensors"
    assert saved.read_bytes() == (tmp_path / "1" / "adapter_model.safetensors").read_bytes()


def test_resizing_in_memory_leaves_the_first_as_it_was(tmp_path):
    adapter = load_adapter(made("llama").adapter)
    before = {m.name: (m.left.copy(), m.scale) for m in adapter}
    adapter.resize(rank=1)
    assert all(np.array_equal(before[m.name][0], m.left) and before[m.name][1] == m.scale for m in adapter)


# --- on the command line ---


def test_a_folder_of_adapters(tmp_path):
    for name in ("llama", "bert", "mixtral"):
        folder = made(name).adapter
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "in" / name).symlink_to(folder)
    done = run("resize", tmp_path / "in", "-o", tmp_path / "out", "--rank", 1, "--json", "--quiet")
    assert done.code == 0
    said = json.loads(done.out)
    assert [item["adapter"] for item in said] == [
        str(tmp_path / "out" / n) for n in ("bert", "llama", "mixtral")
    ]
    for name in ("llama", "bert", "mixtral"):
        assert set(ranks(tmp_path / "out" / name).values()) == {1}
        made(name).loaded(tmp_path / "out" / name)


def test_one_bad_adapter_among_good_ones(tmp_path):
    """The bad one is named, and leaves nothing."""
    made_of_sigma(tmp_path / "in" / "a")
    made_of_sigma(tmp_path / "in" / "b")
    (tmp_path / "in" / "b" / "adapter_model.safetensors").write_bytes(b"nothing")
    done = run("resize", tmp_path / "in", "-o", tmp_path / "out", "--rank", 1)
    assert done.code == 2 and str(tmp_path / "in" / "b") in done.err
    assert not (tmp_path / "out").exists()


def test_the_command_prints_the_error(tmp_path):
    made_of_sigma(tmp_path / "in")
    done = run("resize", tmp_path / "in", "-o", tmp_path / "out", "--rank", "2")
    assert done.code == 0
    assert f"error {stated(tmp_path / 'out')['error']:.3g} of the update" in done.out
    refused = run("resize", tmp_path / "in", "-o", tmp_path / "other", "--noise-floor")
    assert refused.code == 2 and "eckart extract" in refused.err
    assert not (tmp_path / "other").exists()


def test_the_helpers_know_the_singular_values():
    B, A = pair([3.0, 2.0], 40, 30, dtype=np.float64)
    np.testing.assert_allclose(np.linalg.svd(B @ A)[1][:3], [3, 2, 0], atol=1e-12)
    update = with_values(np.array([3.0, 2.0, 1.0]), 20, 10)
    assert distance({"q": cut(update, 2)}, {"q": update}) == pytest.approx(1 / math.sqrt(14))
