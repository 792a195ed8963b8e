"""Adapters combined: the sum in NumPy's float64, and TIES and DARE as their papers say."""

import json
import math
import warnings

import ml_dtypes
import numpy as np
import pytest
from scipy.linalg import subspace_angles

from eckart.adapter import load_adapter
from eckart.checkpoint import write_safetensors
from eckart.errors import AdapterError, InputError, OutputError, UsageError
from eckart.operations import combine, overlaps
from support.matrices import orthonormal
from support.terminal import run, tree
from support.tuned_models import TIED, load_peft, peft
from support.zoo import ZOO, cut, dense, distance, made, make_adapter, matrices

PREFIX = "base_model.model."
EPS32 = float(np.finfo(np.float32).eps)


def write(folder, pairs, **config):
    """Write a PEFT folder of (B, A) by module name."""
    folder.mkdir(parents=True)
    ranks = {name: B.shape[1] for name, (B, _) in pairs.items()}
    r = max(ranks.values())
    said = {
        "peft_type": "LORA", "r": r, "lora_alpha": r, "target_modules": sorted(pairs),
        "rank_pattern": ranks, "alpha_pattern": {}, "use_rslora": False,
    } | config  # fmt: skip
    (folder / "adapter_config.json").write_text(json.dumps(said))
    arrays = {}
    for name, (B, A) in pairs.items():
        arrays |= {f"{PREFIX}{name}.lora_A.weight": A, f"{PREFIX}{name}.lora_B.weight": B}
    write_safetensors(folder / "adapter_model.safetensors", arrays)
    return folder


def drawn(m, n, r, seed, dtype=np.float32):
    random = np.random.default_rng(seed)
    return random.standard_normal((m, r)).astype(dtype), random.standard_normal((r, n)).astype(dtype)


def three(folder):
    """Adapters of different ranks, targets, alphas, dtypes, one with rsLoRA."""
    return [
        write(folder / "1", {"h.q": drawn(40, 30, 4, 1), "h.v": drawn(20, 30, 2, 2)}, lora_alpha=7),
        write(folder / "2", {"h.q": drawn(40, 30, 6, 3), "h.o": drawn(30, 40, 3, 4)}, lora_alpha=5,
              use_rslora=True),
        write(folder / "3", {"h.v": drawn(20, 30, 5, 5, ml_dtypes.bfloat16)}, lora_alpha=1),
    ]  # fmt: skip


def summed(folders, weights):
    """The weighted sum in float64, of the files."""
    total = {}
    for folder, weight in zip(folders, weights, strict=True):
        for name, update in matrices(folder).items():
            total[name] = total.get(name, 0.0) + weight * update
    return total


WEIGHTS = [(1.0, 1.0, 1.0), (0.5, 0.3, 0.2), (1.0, -1.0, 0.5), (0.0, 1.0, -2.0), (1e-3, 1e3, 1.0)]


# --- the sum ---


@pytest.mark.parametrize("weights", WEIGHTS)
def test_the_sum_is_exact(weights, tmp_path):
    folders = three(tmp_path)
    done = combine(folders, tmp_path / "out", weights, dtype="F32")
    assert distance(matrices(tmp_path / "out"), summed(folders, weights)) < 10 * EPS32
    assert done.statement.error < 10 * EPS32
    found = {m.name: m.rank for m in load_adapter(tmp_path / "out")}
    by_name = {"h.q": (4, 6, 0), "h.v": (2, 0, 5), "h.o": (0, 3, 0)}
    expected = {n: sum(r for r, w in zip(rs, weights, strict=True) if w) for n, rs in by_name.items()}
    assert found == {n: r for n, r in expected.items() if r}


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("dtype", ["F32", "BF16"])
def test_a_cut_sum_is_the_svd_of_the_dense_sum(weights, dtype, tmp_path):
    folders = three(tmp_path)
    done = combine(folders, tmp_path / "out", weights, rank=3, dtype=dtype)
    expected, found = summed(folders, weights), matrices(tmp_path / "out")
    best = {name: cut(update, 3) for name, update in expected.items() if np.any(update)}
    rounding = {"F32": 1e-6, "BF16": 2**-7}[dtype]
    assert distance(found, best) < rounding
    assert done.statement.error == pytest.approx(distance(found, expected), rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("name", ZOO)
def test_half_and_half_is_the_same_adapter(name, tmp_path):
    animal = made(name)
    combine([animal.adapter] * 2, tmp_path / "out", [0.5, 0.5])
    assert distance(matrices(tmp_path / "out"), matrices(animal.adapter)) < 10 * EPS32
    for key, bias in dense(animal.adapter).items():
        if bias.ndim == 1:
            np.testing.assert_allclose(dense(tmp_path / "out")[key], bias, rtol=1e-6)
    ranks = {m.name: m.rank for m in load_adapter(animal.adapter)}
    assert {m.name: m.rank for m in load_adapter(tmp_path / "out")} == ranks  # no direction twice
    for one in overlaps([load_adapter(animal.adapter)] * 2):
        assert (one.left, one.right, one.cosine) == pytest.approx((1, 1, 1))


@pytest.mark.parametrize("name", ZOO)
def test_in_memory_it_is_the_same(name, tmp_path):
    animal = made(name)
    combine([animal.adapter] * 2, tmp_path / "file", [0.7, 0.9], rank=2)
    both = combine([animal.adapter, load_adapter(animal.adapter)], weights=[0.7, 0.9], rank=2)
    assert both.path is None
    both.adapter.save(tmp_path / "memory")
    one, other = (tmp_path / n / "adapter_model.safetensors" for n in ("file", "memory"))
    assert one.read_bytes() == other.read_bytes()


def test_an_adapter_less_itself_is_nothing(tmp_path):
    folder = made("llama").adapter
    with pytest.raises(AdapterError, match="every B A is zero"):
        combine([folder, folder], tmp_path / "out", [1.0, -1.0])
    assert not (tmp_path / "out").exists()


def test_formats_may_be_mixed(tmp_path):
    B, A = drawn(40, 30, 4, 1)
    up, down = drawn(40, 30, 2, 2)
    name = "unet.mid_block.attentions.0.proj_in"
    write(tmp_path / "p" / "unet", {"mid_block.attentions.0.proj_in": (B, A)}, lora_alpha=2)
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


def test_peft_mixes_the_factors_of_what_it_adds(tmp_path):
    """add_weighted_adapter's "linear" adds A to A and B to B, and (B1 + B2)(A1 + A2) is not the sum."""
    model = made("llama").model
    how = dict(r=3, lora_alpha=3, target_modules=["q_proj"])
    folders = [make_adapter(model, tmp_path / str(i), seed=i, **how) for i in (1, 2)]
    combine(folders, tmp_path / "ours", [1.0, 1.0])
    expected = summed(folders, [1.0, 1.0])
    assert distance(matrices(tmp_path / "ours"), expected) < 10 * EPS32

    loaded = load_peft(made("llama").fresh_base(), folders[0], TIED)
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
    assert distance(joined, expected) < 10 * EPS32  # and the one way of PEFT's that is exact agrees
    ours = matrices(tmp_path / "ours")
    assert distance(ours, joined) < 10 * EPS32


@pytest.mark.parametrize(
    "weights",
    [[1.0], [1.0, 2.0, 3.0], [0.0, 0.0], [float("inf"), 1.0], [float("nan"), 1.0], ["x", 1.0], [True, 1.0]],
)
@pytest.mark.parametrize("method", ["sum", "ties", "dare"])
def test_weights_that_are_none(weights, method, tmp_path):
    folder = made("llama").adapter
    before = tree(tmp_path)
    with pytest.raises(UsageError, match="weights"):
        combine([folder, folder], tmp_path / "out", weights, method=method)
    assert tree(tmp_path) == before


def test_shapes_that_differ_are_named(tmp_path):
    one = write(tmp_path / "1", {"h.q": drawn(40, 30, 2, 0)})
    two = write(tmp_path / "2", {"h.q": drawn(40, 31, 2, 0)})
    with pytest.raises(
        AdapterError,
        match=r"h\.q`: .*shape \(40, 31\), an earlier adapter shape \(40, 30\)",
    ):
        combine([one, two], tmp_path / "out")


def test_none_at_all():
    with pytest.raises(UsageError, match="at least one"):
        combine([])


def test_the_result_is_never_one_of_the_adapters(tmp_path):
    one, two = three(tmp_path)[:2]
    before = tree(tmp_path)
    with pytest.raises(OutputError, match="is or contains the input"):
        combine([one, two], two, overwrite=True)
    assert tree(tmp_path) == before


# --- whole tensors ---


def test_whole_tensors_that_are_the_same_are_kept_and_others_refused(tmp_path):
    model, how = made("bert").model, dict(r=2, lora_alpha=2, target_modules=["query"])
    one = make_adapter(model, tmp_path / "1", seed=1, modules_to_save=["classifier"], **how)
    two = make_adapter(model, tmp_path / "2", seed=2, modules_to_save=["classifier"], **how)
    plain = make_adapter(model, tmp_path / "3", seed=3, **how)
    with pytest.raises(AdapterError, match=r"classifier\.\w+`: two adapters save this tensor whole"):
        combine([one, two], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    for place, folders in enumerate(([one, plain], [plain, one], [one, one])):
        out = tmp_path / f"out-{place}"
        combine(folders, out)
        kept = load_adapter(out).dense
        assert kept.keys() == {"classifier.weight", "classifier.bias"}
        assert all(np.array_equal(kept[k], v) for k, v in load_adapter(one).dense.items())
        made("bert").loaded(out)


def test_biases_are_added_as_peft_scales_them(tmp_path):
    animal = made("llama lora_bias")
    done = combine([animal.adapter] * 2, tmp_path / "out", [2.0, -0.5])
    assert done.statement.error < 10 * EPS32
    before, after = dense(animal.adapter), dense(tmp_path / "out")
    biases = [name for name in before if name.endswith(".bias")]
    assert len(biases) == 8
    for name in biases:
        np.testing.assert_allclose(after[name], 1.5 * before[name], rtol=1e-6)


# --- overlaps ---


def of(folders):
    return {one.name: one for one in overlaps([load_adapter(f) for f in folders])}


def test_overlaps_are_scipys_angles(tmp_path):
    one = write(
        tmp_path / "1", {"a": drawn(40, 30, 4, 1), "b": drawn(20, 30, 3, 2), "only": drawn(9, 9, 1, 3)}
    )
    two = write(tmp_path / "2", {"a": drawn(40, 30, 6, 3), "b": drawn(20, 30, 3, 4)}, use_rslora=True)
    found, first, second = of([one, two]), matrices(one), matrices(two)
    assert found.keys() == {"a", "b"}
    for name, overlap in found.items():
        (U, s, Vh), (X, t, Yh) = (np.linalg.svd(m[name], full_matrices=False) for m in (first, second))
        k, q = int((s > 1e-9).sum()), int((t > 1e-9).sum())
        assert overlap.left == pytest.approx(
            np.mean(np.cos(subspace_angles(U[:, :k], X[:, :q])) ** 2), abs=1e-6
        )
        assert overlap.right == pytest.approx(
            np.mean(np.cos(subspace_angles(Vh[:k].T, Yh[:q].T)) ** 2), abs=1e-6
        )
        cosine = (
            (first[name] * second[name]).sum() / np.linalg.norm(first[name]) / np.linalg.norm(second[name])
        )
        assert overlap.cosine == pytest.approx(cosine, abs=1e-6)


def test_overlaps_that_are_known(tmp_path):
    Q, P = orthonormal(40, 6, 0).astype(np.float32), orthonormal(30, 6, 1).T.astype(np.float32)
    one = write(
        tmp_path / "1", {n: (Q[:, :3], P[:3]) for n in ("same", "opposite", "apart", "half", "read", "in")}
    )
    two = write(
        tmp_path / "2",
        {
            "same": (Q[:, :3], P[:3]),
            "opposite": (-2 * Q[:, :3], P[:3]),
            "apart": (Q[:, 3:], P[3:]),
            "half": (Q[:, [0, 3, 4]], P[[0, 3, 4]]),
            "read": (Q[:, 3:], P[:3]),
            "in": (Q, P),
        },
    )
    found = {n: (o.left, o.right, o.cosine) for n, o in of([one, two]).items()}
    expected = {
        "same": (1, 1, 1), "opposite": (1, 1, -1), "apart": (0, 0, 0), "half": (1 / 3, 1 / 3, 1 / 3),
        "read": (0, 1, 0), "in": (1, 1, 3 / math.sqrt(18)),
    }  # fmt: skip
    for name, values in expected.items():
        assert found[name] == pytest.approx(values, abs=1e-6), name


def test_overlaps_across_orientations_and_formats():
    """GPT-2's Conv1D is read as a linear layer, as PEFT stores it; with itself all is 1."""
    found = of([made("gpt2").adapter] * 2)
    assert found and all((o.left, o.right, o.cosine) == pytest.approx((1, 1, 1)) for o in found.values())


# --- TIES ---


def ties(updates, weights, density):
    """Yadav et al., section 4: trim, elect, and the disjoint mean, weighed; times the sum of the weights."""
    trimmed = []
    for update in updates:
        flat = np.abs(update).ravel()
        keep = max(1, round(density * flat.size))
        edge = np.sort(flat)[::-1][keep - 1]
        trimmed.append(np.where(np.abs(update) >= edge, update, 0.0))
    gamma = np.sign(sum(w * t for w, t in zip(weights, trimmed, strict=True)))
    merged = np.zeros_like(updates[0])
    for i, j in np.ndindex(merged.shape):
        agreeing = [(w, t[i, j]) for w, t in zip(weights, trimmed, strict=True) if t[i, j] and
                    np.sign(t[i, j]) == gamma[i, j]]  # fmt: skip
        if agreeing:
            merged[i, j] = sum(w * t for w, t in agreeing) / sum(w for w, _ in agreeing)
    return merged * sum(weights)


def small(folder, count=3):
    return [
        write(folder / str(i), {"q": drawn(9, 7, 2, i), "v": drawn(6, 8, 3, 10 + i)}, lora_alpha=4)
        for i in range(count)
    ]


@pytest.mark.parametrize("density", [0.1, 0.2, 0.5, 0.83, 1.0])
@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0), (0.5, 0.3, 0.2), (2.0, 1.0, 0.5)])
def test_ties_is_the_papers(weights, density, tmp_path):
    folders = small(tmp_path)
    combine(folders, tmp_path / "out", weights, method="ties", density=density, rank=9)
    found = matrices(tmp_path / "out")
    updates = [matrices(folder) for folder in folders]
    for name in ("q", "v"):
        expected = ties([u[name] for u in updates], weights, density)
        np.testing.assert_allclose(found[name], expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_ties_by_hand(tmp_path):
    """Two rows, and what trimming, electing and averaging make of every entry."""
    one, two = np.array([[4.0, -1.0, 2.0], [0.1, 3.0, -5.0]]), np.array([[-3.0, -1.0, 4.0], [6.0, 0.2, 5.5]])
    eye = np.eye(2)
    folders = [write(tmp_path / str(i), {"q": (eye, u)}) for i, u in enumerate((one, two))]
    # of six entries the four largest: 4, 2, 3, -5 and 6, 5.5, 4, -3. Signs of the sums: + 0 + / + + +
    expected = np.array([[4.0, 0.0, 3.0], [6.0, 3.0, 5.5]]) * 2
    combine(folders, tmp_path / "out", method="ties", density=4 / 6, rank=2)
    np.testing.assert_allclose(matrices(tmp_path / "out")["q"], expected, atol=1e-6)


def test_ties_of_one_adapter_at_density_one_is_that_adapter(tmp_path):
    (folder,) = small(tmp_path, 1)
    combine([folder], tmp_path / "out", [0.7], method="ties", density=1.0, rank=9)
    expected = {name: 0.7 * update for name, update in matrices(folder).items()}
    assert distance(matrices(tmp_path / "out"), expected) < 10 * EPS32


# --- DARE ---


def test_dare_keeps_entries_whole_or_drops_them(tmp_path):
    """Equation 2: delta * mask / p. Of one adapter, every entry is 0 or 1/p of what it was."""
    folder = write(tmp_path / "1", {"q": drawn(40, 50, 3, 1)})
    combine([folder], tmp_path / "out", method="dare", density=0.3, rank=40)
    ratio = matrices(tmp_path / "out")["q"] / matrices(folder)["q"]
    kept = np.abs(ratio) > 1
    # entries near zero carry the float32 rounding of their row
    far = np.abs(matrices(folder)["q"]) > 0.05
    np.testing.assert_allclose(ratio[far & kept], 1 / 0.3, rtol=2e-3)
    np.testing.assert_allclose(ratio[far & ~kept], 0.0, atol=2e-3)
    # 2000 draws: the share is 0.3 within five standard errors, 5 sqrt(0.21 / 2000)
    assert kept.mean() == pytest.approx(0.3, abs=0.052)


def test_dare_is_the_sum_on_average(tmp_path):
    """The expectation is the plain sum; of 64 seeds the mean is off by about sqrt((1-p)/p/64)."""
    folders = small(tmp_path, 2)
    weights, expected = [0.6, -0.8], {}
    for w, folder in zip([0.6, -0.8], folders, strict=True):
        for name, update in matrices(folder).items():
            expected[name] = expected.get(name, 0.0) + w * update
    mean = {name: np.zeros_like(update) for name, update in expected.items()}
    for seed in range(64):
        both = combine(folders, weights=weights, method="dare", density=0.5, seed=seed, rank=9)
        for module in both.adapter:
            left, right = module.product()
            mean[module.name] += left @ right / 64
    size = math.sqrt(sum(np.square(w * u).sum() for w, f in zip(weights, folders, strict=True)
                         for u in matrices(f).values()))  # fmt: skip
    off = math.sqrt(sum(np.square(mean[n] - expected[n]).sum() for n in expected))
    assert 0.05 * size < off < 0.25 * size  # 0.125 is expected, over 111 entries


def test_dare_draws_anew_for_every_seed_module_and_adapter(tmp_path):
    factors = drawn(20, 20, 2, 1)
    folder = write(tmp_path / "1", {"q": factors, "v": factors})

    def masks(seed):
        found = combine([folder], method="dare", density=0.5, seed=seed, rank=20).adapter
        return {m.name: np.abs(m.product()[0] @ m.product()[1]) > 1e-3 for m in found}

    first, again, other = masks(0), masks(0), masks(1)
    assert all(np.array_equal(first[n], again[n]) for n in first)
    assert (first["q"] != other["q"]).mean() > 0.3
    assert (first["q"] != first["v"]).mean() > 0.3
    # Of one adapter twice, entries are kept by either alone: three values appear and not two.
    both = combine([folder, folder], method="dare", density=0.5, rank=20, include="q")
    (twice,) = both.adapter
    left, right = twice.product()
    whole = matrices(folder)["q"]
    far = np.abs(whole) > 0.2
    assert set(np.round((left @ right / whole)[far]).astype(int)) == {0, 2, 4}


@pytest.mark.parametrize("method", ["ties", "dare"])
def test_the_same_seed_writes_the_same_bytes(method, tmp_path):
    folders = small(tmp_path)
    for workers in (1, 2):
        combine(folders, tmp_path / f"out-{workers}", method=method, rank=3, seed=5, workers=workers)
    assert tree(tmp_path / "out-1") == tree(tmp_path / "out-2")


@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0), (0.5, -0.3, 0.2)])
def test_dare_at_density_one_is_the_sum(weights, tmp_path):
    folders = small(tmp_path)
    combine(folders, tmp_path / "out", weights, method="dare", density=1.0, rank=9)
    assert distance(matrices(tmp_path / "out"), summed(folders, weights)) < 10 * EPS32


@pytest.mark.parametrize("method", ["ties", "dare"])
def test_the_error_is_that_of_the_cut(method, tmp_path):
    folders = small(tmp_path)
    done = combine(folders, tmp_path / "out", method=method, rank=2)
    combine(folders, tmp_path / "whole", method=method, rank=9)
    expected = distance(matrices(tmp_path / "out"), matrices(tmp_path / "whole"))
    assert done.statement.error == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    "how, words",
    [
        ({"method": "slerp"}, "expected sum, ties or dare"),
        ({"method": "ties", "density": 0.0}, "density"),
        ({"method": "dare", "density": 1.5}, "density"),
        ({"method": "dare", "density": float("nan")}, "density"),
        ({"method": "ties", "weights": [1.0, -1.0, 1.0]}, "TIES needs non-negative weights, got"),
        ({"rank": 2, "energy": 0.9}, "exactly one rule"),
        ({"noise_floor": True}, "two checkpoints"),
    ],
)
def test_refused_and_nothing_written(how, words, tmp_path):
    folders = small(tmp_path)
    before = tree(tmp_path)
    with pytest.raises(InputError, match=words):
        combine(folders, tmp_path / "out", **how)
    assert tree(tmp_path) == before


def test_the_command_line(tmp_path):
    folders = three(tmp_path)
    done = run("combine", *folders, "--output", tmp_path / "out", "--weights", "1,-1,0.5", "--dtype", "F32")
    assert done.code == 0, done.err
    assert distance(matrices(tmp_path / "out"), summed(folders, [1, -1, 0.5])) < 10 * EPS32
