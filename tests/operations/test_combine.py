"""Weighted sums of adapters, compared with NumPy's float64."""

import warnings
from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest

from eckart.adapter import load_adapter
from eckart.adapter.formats.peft.origin import PeftOrigin
from eckart.checkpoint import write_safetensors
from eckart.errors import AdapterError, InputError, OutputError, UsageError
from eckart.operations import combine, merge, overlaps
from support.adapters import adapter
from support.adapters import module as make_module
from support.lora_folders import random_pair, summed, write_lora
from support.terminal import run, tree
from support.tuned_models import TIED, load_peft, peft
from support.zoo import ZOO, case_of, cut, dense, distance, make_adapter, matrices

EPS32 = float(np.finfo(np.float32).eps)


def three(folder):
    """Write three adapters of different ranks, targets, alphas and dtypes, one with rsLoRA."""
    first = {"h.q": random_pair(40, 30, 4, 1), "h.v": random_pair(20, 30, 2, 2)}
    second = {"h.q": random_pair(40, 30, 6, 3), "h.o": random_pair(30, 40, 3, 4)}
    third = {"h.v": random_pair(20, 30, 5, 5, ml_dtypes.bfloat16)}
    return [
        write_lora(folder / "1", first, lora_alpha=7),
        write_lora(folder / "2", second, lora_alpha=5, use_rslora=True),
        write_lora(folder / "3", third, lora_alpha=1),
    ]


WEIGHTS = [(1.0, 1.0, 1.0), (0.5, 0.3, 0.2), (1.0, -1.0, 0.5), (0.0, 1.0, -2.0), (1e-3, 1e3, 1.0)]


# --- the sum ---


@pytest.mark.parametrize("weights", WEIGHTS)
def test_the_sum_is_exact(weights, tmp_path):
    folders = three(tmp_path)
    combined = combine(folders, tmp_path / "out", weights, dtype="F32")
    assert distance(matrices(tmp_path / "out"), summed([matrices(f) for f in folders], weights)) < 10 * EPS32
    assert combined.statement.error < 10 * EPS32
    ranks = {m.name: m.rank for m in load_adapter(tmp_path / "out")}
    by_name = {"h.q": (4, 6, 0), "h.v": (2, 0, 5), "h.o": (0, 3, 0)}
    expected = {n: sum(r for r, w in zip(rs, weights, strict=True) if w) for n, rs in by_name.items()}
    assert ranks == {n: r for n, r in expected.items() if r}


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("dtype", ["F32", "BF16"])
def test_a_cut_sum_equals_the_truncated_svd_of_the_dense_sum(weights, dtype, tmp_path):
    folders = three(tmp_path)
    combined = combine(folders, tmp_path / "out", weights, rank=3, dtype=dtype)
    expected, written = summed([matrices(f) for f in folders], weights), matrices(tmp_path / "out")
    best = {name: cut(update, 3) for name, update in expected.items() if np.any(update)}
    rounding = {"F32": 1e-6, "BF16": 2**-7}[dtype]
    assert distance(written, best) < rounding
    assert combined.statement.error == pytest.approx(distance(written, expected), rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("name", ZOO)
def test_an_adapter_added_to_itself_with_weights_one_half_is_unchanged(name, tmp_path):
    case = case_of(name)
    combine([case.adapter] * 2, tmp_path / "out", [0.5, 0.5])
    assert distance(matrices(tmp_path / "out"), matrices(case.adapter)) < 10 * EPS32
    for key, bias in dense(case.adapter).items():
        if bias.ndim == 1:
            np.testing.assert_allclose(dense(tmp_path / "out")[key], bias, rtol=1e-6)
    ranks = {m.name: m.rank for m in load_adapter(case.adapter)}
    assert {m.name: m.rank for m in load_adapter(tmp_path / "out")} == ranks  # no direction is kept twice
    for one in overlaps([load_adapter(case.adapter)] * 2):
        assert (one.left, one.right, one.cosine) == pytest.approx((1, 1, 1))


@pytest.mark.parametrize("name", ZOO)
def test_a_sum_in_memory_has_the_bytes_of_a_written_one(name, tmp_path):
    case = case_of(name)
    combine([case.adapter] * 2, tmp_path / "file", [0.7, 0.9], rank=2)
    both = combine([case.adapter, load_adapter(case.adapter)], weights=[0.7, 0.9], rank=2)
    assert both.path is None
    both.adapter.save(tmp_path / "memory")
    one, other = (tmp_path / n / "adapter_model.safetensors" for n in ("file", "memory"))
    assert one.read_bytes() == other.read_bytes()


def test_an_adapter_minus_itself_is_refused(tmp_path):
    folder = case_of("llama").adapter
    with pytest.raises(AdapterError, match="every B A is zero"):
        combine([folder, folder], tmp_path / "out", [1.0, -1.0])
    assert not (tmp_path / "out").exists()


def test_adapters_of_different_formats_are_added(tmp_path):
    B, A = random_pair(40, 30, 4, 1)
    up, down = random_pair(40, 30, 2, 2)
    name = "unet.mid_block.attentions.0.proj_in"
    write_lora(tmp_path / "p" / "unet", {"mid_block.attentions.0.proj_in": (B, A)}, lora_alpha=2)
    stem = "lora_unet_mid_block_attentions_0_proj_in"
    write_safetensors(
        tmp_path / "k.safetensors",
        {f"{stem}.lora_up.weight": up, f"{stem}.lora_down.weight": down, f"{stem}.alpha": np.float32(1)},
    )
    expected = 0.5 * (2 / 4) * B.astype(float) @ A - 2.0 * (1 / 2) * up.astype(float) @ down
    for order, weights in ((("p", "k.safetensors"), (0.5, -2.0)), (("k.safetensors", "p"), (-2.0, 0.5))):
        both = combine([tmp_path / n for n in order], weights=weights).adapter
        (module,) = both
        left, right = module.product()
        assert module.name == name and module.rank == 6
        np.testing.assert_allclose(left @ right, expected, rtol=0, atol=1e-5)


def test_the_linear_method_of_peft_is_not_the_sum(tmp_path):
    """add_weighted_adapter's "linear" adds A to A and B to B: (B1 + B2)(A1 + A2) has cross terms."""
    model = case_of("llama").model
    options = dict(r=3, lora_alpha=3, target_modules=["q_proj"])
    folders = [make_adapter(model, tmp_path / str(i), seed=i, **options) for i in (1, 2)]
    combine(folders, tmp_path / "ours", [1.0, 1.0])
    expected = summed([matrices(f) for f in folders], [1.0, 1.0])
    assert distance(matrices(tmp_path / "ours"), expected) < 10 * EPS32

    loaded = load_peft(case_of("llama").fresh_base(), folders[0], TIED)
    loaded.load_adapter(folders[1], "second")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaded.add_weighted_adapter(["default", "second"], [1.0, 1.0], "both", combination_type="linear")
        loaded.add_weighted_adapter(["default", "second"], [1.0, 1.0], "cat", combination_type="cat")
    theirs, joined = {}, {}
    for name, module in loaded.get_base_model().named_modules():
        if isinstance(module, peft.tuners.lora.LoraLayer):
            theirs[name] = module.get_delta_weight("both").detach().double().numpy()
            joined[name] = module.get_delta_weight("cat").detach().double().numpy()
    assert distance(theirs, expected) > 0.5  # the cross terms B1 A2 + B2 A1 are as large as the sum
    assert distance(joined, expected) < 10 * EPS32  # the exact method of PEFT
    ours = matrices(tmp_path / "ours")
    assert distance(ours, joined) < 10 * EPS32


@pytest.mark.parametrize(
    "weights",
    [[1.0], [1.0, 2.0, 3.0], [0.0, 0.0], [float("inf"), 1.0], [float("nan"), 1.0], ["x", 1.0], [True, 1.0]],
)
@pytest.mark.parametrize("method", ["sum", "ties", "dare"])
def test_invalid_weights_are_refused(weights, method, tmp_path):
    folder = case_of("llama").adapter
    before = tree(tmp_path)
    with pytest.raises(UsageError, match="weights"):
        combine([folder, folder], tmp_path / "out", weights, method=method)
    assert tree(tmp_path) == before


def test_different_shapes_are_named(tmp_path):
    one = write_lora(tmp_path / "1", {"h.q": random_pair(40, 30, 2, 0)})
    two = write_lora(tmp_path / "2", {"h.q": random_pair(40, 31, 2, 0)})
    with pytest.raises(
        AdapterError,
        match=r"h\.q`: .*shape \(40, 31\) here, but \(40, 30\) in an earlier adapter",
    ):
        combine([one, two], tmp_path / "out")


def test_an_empty_list_of_adapters_is_refused():
    with pytest.raises(UsageError, match="at least one"):
        combine([])


def test_an_output_that_is_an_input_is_refused(tmp_path):
    one, two = three(tmp_path)[:2]
    before = tree(tmp_path)
    with pytest.raises(OutputError, match="is or contains the input"):
        combine([one, two], two, overwrite=True)
    assert tree(tmp_path) == before


# --- whole tensors ---


def test_identical_whole_tensors_are_kept_and_different_ones_are_refused(tmp_path):
    model, settings = case_of("bert").model, dict(r=2, lora_alpha=2, target_modules=["query"])
    one = make_adapter(model, tmp_path / "1", seed=1, modules_to_save=["classifier"], **settings)
    two = make_adapter(model, tmp_path / "2", seed=2, modules_to_save=["classifier"], **settings)
    plain = make_adapter(model, tmp_path / "3", seed=3, **settings)
    with pytest.raises(AdapterError, match=r"classifier\.\w+`: two adapters save this tensor whole"):
        combine([one, two], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    for place, folders in enumerate(([one, plain], [plain, one], [one, one])):
        out = tmp_path / f"out-{place}"
        combine(folders, out)
        kept = load_adapter(out).dense
        assert kept.keys() == {"classifier.weight", "classifier.bias"}
        assert all(np.array_equal(kept[k], v) for k, v in load_adapter(one).dense.items())
        case_of("bert").loaded(out)


def test_biases_are_added_with_the_scale_that_peft_gives_them(tmp_path):
    case = case_of("llama lora_bias")
    combined = combine([case.adapter] * 2, tmp_path / "out", [2.0, -0.5])
    assert combined.statement.error < 10 * EPS32
    before, after = dense(case.adapter), dense(tmp_path / "out")
    biases = [name for name in before if name.endswith(".bias")]
    assert len(biases) == 8
    for name in biases:
        np.testing.assert_allclose(after[name], 1.5 * before[name], rtol=1e-6)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"method": "slerp"}, "expected one of sum, ties, dare"),
        ({"method": "sum", "density": 0.3}, "density and seed apply to TIES and DARE only"),
        ({"method": "sum", "seed": 3}, "density and seed apply to TIES and DARE only"),
        ({"method": "ties", "density": 0.0}, "density"),
        ({"method": "dare", "density": 1.5}, "density"),
        ({"method": "dare", "density": float("nan")}, "density"),
        ({"method": "ties", "weights": [1.0, -1.0, 1.0]}, "TIES needs non-negative weights, got"),
        ({"rank": 2, "energy": 0.9}, "exactly one rule"),
        ({"noise_floor": True}, "two checkpoints"),
    ],
)
def test_invalid_options_are_refused_and_nothing_is_written(options, message, tmp_path):
    folders = three(tmp_path)
    before = tree(tmp_path)
    with pytest.raises(InputError, match=message):
        combine(folders, tmp_path / "out", **options)
    assert tree(tmp_path) == before


def test_the_command_adds_adapters(tmp_path):
    folders = three(tmp_path)
    done = run("combine", *folders, "--output", tmp_path / "out", "--weights", "1,-1,0.5", "--dtype", "F32")
    assert done.code == 0, done.err
    assert (
        distance(matrices(tmp_path / "out"), summed([matrices(f) for f in folders], [1, -1, 0.5]))
        < 10 * EPS32
    )


@pytest.mark.parametrize("reverse", [False, True])
def test_a_table_is_dropped_if_only_one_adapter_holds_it_as_a_copy_of_the_base(reverse):
    table = np.ones((12, 10), np.float32)
    head = adapter(make_module("lm_head"))
    copy = replace(
        head,
        dense={"lm_head.weight": table},
        origin=PeftOrigin(keys={"lm_head.weight": "lm_head.base_layer.weight"}, tables=("lm_head.weight",)),
    )
    saved = replace(head, dense={"lm_head.weight": table})
    pair = [saved, copy] if reverse else [copy, saved]
    both = combine(pair, consumers="llama.cpp")
    assert both.statement.layout.whole_left_out == ("lm_head.weight",)
    assert not both.adapter.dense


@pytest.mark.parametrize("single", [str, load_adapter])
def test_one_adapter_in_place_of_a_list_is_refused(single, tmp_path):
    (folder, *_) = three(tmp_path)
    for call in (lambda a: combine(a, tmp_path / "out"), lambda a: merge(tmp_path, a, tmp_path / "out")):
        with pytest.raises(UsageError, match="expected a list of adapters, got one"):
            call(single(folder))
    assert not (tmp_path / "out").exists()
