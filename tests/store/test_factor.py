"""A pass over two checkpoints, compared with NumPy in float64."""

import os
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from eckart import FactorStore, Rank, factor
from eckart.checkpoint import DTYPES
from eckart.errors import CheckpointError, StoreError
from eckart.store.fill import MAX_RANK
from support.pairs import (
    BUFFER,
    EPS,
    LINEAR,
    MATRICES,
    SHAPES,
    contents,
    make_pair,
    noise_floor,
    write_pair,
)

DTYPE_PAIRS = [
    ("F32", "F32"),
    ("BF16", "BF16"),
    ("F16", "F16"),
    ("F64", "F64"),
    ("F8_E4M3", "F8_E4M3"),
    ("F8_E5M2", "F8_E5M2"),
    ("F32", "BF16"),
    ("BF16", "F16"),
    ("F8_E4M3", "BF16"),
    ("F64", "F32"),
    ("F16", "F64"),
]


@pytest.fixture(scope="module", params=DTYPE_PAIRS, ids="-".join)
def filled(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("dtype")
    pair = make_pair(folder, *request.param)
    factor(*pair.paths, folder / "store")
    return pair, FactorStore.open(folder / "store"), request.param


def unit(pair, name):
    """Return eps of the arithmetic, the largest relative error of one subtraction and of LAPACK."""
    wide = np.float64 in (pair.before[name].dtype, pair.after[name].dtype)
    return float(np.finfo(np.float64).eps) if wide else EPS


def test_every_floating_point_tensor_has_a_record(filled):
    pair, store, (base, tuned) = filled
    assert [r.name for r in store] == list(SHAPES)
    assert BUFFER in pair.before
    for record in store:
        assert (record.shape, record.base_dtype, record.tuned_dtype) == (SHAPES[record.name], base, tuned)
        matrix_kind = "embedding" if "embed" in record.name else "linear"
        assert record.kind == (matrix_kind if len(record.shape) == 2 else "vector")
        assert record.new_rows == 0
        size = min(record.shape) if len(record.shape) == 2 else 0
        assert (record.size, record.known, record.rank) == (size, size, min(size, MAX_RANK))


def test_energies_and_equal_entries_are_exact(filled):
    pair, store, dtypes = filled
    for record in store:
        update = pair.update(record.name)
        # Each difference is rounded once, by a relative eps / 2, so the sum of squares changes by at most
        # eps. In float64, the order in which 78,000 numbers are added matters more.
        assert record.energy == pytest.approx((update**2).sum(), rel=max(unit(pair, record.name), 1e-12))
        base = pair.before[record.name].astype(np.float64)
        # The energy of the base is only a reference value, and documented to be accurate to 1e-6.
        assert record.base_energy == pytest.approx((base**2).sum(), rel=1e-6)
        assert record.unchanged == np.count_nonzero(update == 0) / update.size
        assert record.relative == pytest.approx(np.linalg.norm(update) / np.linalg.norm(base), rel=1e-6)
    if dtypes[0] == dtypes[1]:  # the first row is the same in both
        assert 0 < store.record(MATRICES[0]).unchanged < 1


def test_spectra_are_those_of_numpy(filled):
    pair, store, _ = filled
    for name in MATRICES:
        sigma, spectrum = pair.sigma(name), store.spectrum(name)
        assert spectrum.complete
        # LAPACK is backward stable: its error is p(n) eps sigma_1, and 20 is generous for n <= 300. The
        # subtraction adds eps / 2 of the Frobenius norm, which is below 2 sigma_1 for sigma_i = 1/i.
        np.testing.assert_allclose(spectrum.values, sigma, rtol=0, atol=20 * unit(pair, name) * sigma[0])


@pytest.mark.parametrize("rank", [1, 2, 7, 20, None])
def test_every_prefix_of_the_factors_is_optimal(filled, rank):
    pair, store, _ = filled
    for name in MATRICES:
        update, sigma = pair.update(name), pair.sigma(name)
        factors = store.factors(name, rank)
        keep = rank or store.record(name).rank
        assert factors.U.shape == (update.shape[0], keep)
        assert factors.Vh.shape == (keep, update.shape[1])
        assert factors.rank == keep
        U, Vh = factors.U.astype(np.float64), factors.Vh.astype(np.float64)
        error = np.linalg.norm(update - (U * factors.s) @ Vh)
        best = np.sqrt((sigma[keep:] ** 2).sum())
        # Stored factors are orthonormal to a few eps, which changes the residual by this share of ||D||.
        slack = 20 * unit(pair, name) * np.linalg.norm(sigma)
        assert best - slack <= error <= best + slack
        # The values-first route computes the vectors of one side as A v / sigma, so their error in float32
        # grows as 1 / sigma.
        loss = sigma[0] / sigma[keep - 1] if factors.method == "gram" else 1.0
        for Q in (U, Vh.T):
            np.testing.assert_allclose(Q.T @ Q, np.eye(keep), atol=20 * unit(pair, name) * loss)
        # The stated tail is the energy beyond the prefix, to the rounding of float32.
        assert factors.tail == pytest.approx(error**2, abs=2 * slack * max(error, slack) + slack**2)


def test_the_noise_floor_equals_a_sum_entry_by_entry(filled):
    pair, store, _ = filled
    for name in MATRICES:
        expected = noise_floor(pair.before[name], pair.after[name])
        # Both are float64 sums of the same powers of two in a different order.
        assert store.record(name).noise_floor == pytest.approx(expected, rel=1e-12)


def test_the_noise_floor_computed_by_hand(tmp_path):
    # bfloat16 has 7 bits of mantissa, so one unit in the last place of 1.0 is 2^-7. The matrix is 2 x 3.
    ones = np.ones((2, 3))
    pair = write_pair(
        tmp_path, {"a.weight": ones.astype(ml_dtypes.bfloat16)}, {"a.weight": 2 * ones.astype(np.float64)}
    )
    store = factor(*pair.paths, tmp_path / "store")
    expected = 2.0**-7 / np.sqrt(12) * (np.sqrt(3) + np.sqrt(2))
    assert store.record("a.weight").noise_floor == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("dtype", ["F16", "F8_E4M3", "F8_E5M2"])
def test_the_noise_floor_of_subnormal_weights(tmp_path, dtype):
    info = ml_dtypes.finfo(DTYPES[dtype])
    weights = np.random.default_rng(0).standard_normal((40, 30)) * float(info.smallest_normal)
    pair = write_pair(
        tmp_path,
        {"a.weight": np.zeros((40, 30))},
        {"a.weight": (weights / 4).astype(DTYPES[dtype])},
    )
    store = factor(*pair.paths, tmp_path / "store")
    expected = noise_floor(pair.after["a.weight"])
    assert store.record("a.weight").noise_floor == pytest.approx(expected, rel=1e-6)


def test_a_single_checkpoint_is_factored_without_a_base(tmp_path):
    pair = make_pair(tmp_path)
    store = factor(None, pair.tuned, tmp_path / "store")
    assert store.single
    assert store.base_parameters == sum(a.size for a in pair.after.values())
    assert [r.name for r in store] == list(SHAPES)
    for name in MATRICES:
        wide = pair.after[name].astype(np.float64)
        record = store.record(name)
        assert record.base_dtype == ""
        assert record.base_energy == 0
        assert record.energy == pytest.approx((wide**2).sum(), rel=1e-12)  # nothing is subtracted or rounded
        assert record.unchanged == 0
        assert record.noise_floor == pytest.approx(noise_floor(pair.after[name]), rel=1e-12)
        sigma = np.linalg.svd(wide, compute_uv=False)
        np.testing.assert_allclose(store.spectrum(name).values, sigma, rtol=0, atol=20 * EPS * sigma[0])


def test_max_rank_limits_the_factors_but_not_the_singular_values(tmp_path):
    pair = make_pair(tmp_path)
    store = factor(*pair.paths, tmp_path / "store", max_rank=5)
    for name in MATRICES:
        record = store.record(name)
        assert (record.rank, record.known) == (5, min(SHAPES[name]))
        whole = np.sqrt((pair.sigma(name)[5:] ** 2).sum())
        assert np.sqrt(store.factors(name).tail) == pytest.approx(
            whole, rel=1e-5
        )  # the residual is measured in float32
        with pytest.raises(
            StoreError, match=r"expected 6 components, but the store holds 5\..*--max-rank 6\.$"
        ):
            store.factors(name, 6)


def test_a_rule_factors_no_more_than_it_needs(tmp_path):
    pair = make_pair(tmp_path)
    rule = Rank(3, include=["layers.0"])
    store = factor(*pair.paths, tmp_path / "store", rule=rule)
    ranks = {r.name: r.rank for r in store if r.rank}
    assert ranks == {name: 3 for name in LINEAR if "layers.0" in name}
    assert all(r.energy > 0 for r in store)  # the energy of the others is measured too


def test_a_grown_vocabulary_is_compared_on_the_rows_that_both_have(tmp_path):
    old = np.random.default_rng(1).standard_normal((20, 8)).astype(np.float32)
    new = np.concatenate([old + 0.5, np.full((3, 8), 7, np.float32)])
    pair = write_pair(tmp_path, {"embed_tokens.weight": old}, {"embed_tokens.weight": new})
    record = factor(*pair.paths, tmp_path / "store").record("embed_tokens.weight")
    assert (record.shape, record.new_rows, record.size) == ((20, 8), 3, 8)
    assert record.energy == pytest.approx(20 * 8 * 0.25, rel=EPS)


def test_tensor_names_that_cannot_be_file_names_are_stored(tmp_path):
    names = ["../../up.weight", "a/b.weight", "\u00e9.weight", ".h.weight", f"{300 * 'x'}.weight", "A.weight"]
    shape = (6, 5)
    before = {name: np.zeros(shape, np.float32) for name in names}
    after = {name: np.full(shape, i + 1, np.float32) for i, name in enumerate(names)}
    pair = write_pair(tmp_path, before, after)
    store = factor(*pair.paths, tmp_path / "store")
    for i, name in enumerate(names):
        # A matrix of equal entries c has one nonzero singular value, c sqrt(mn).
        assert store.spectrum(name).values[0] == pytest.approx((i + 1) * np.sqrt(30), rel=10 * EPS)
    assert len(list((tmp_path / "store" / "factors").iterdir())) == len(names)


# Any executor, any number of workers


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reference")
    pair = make_pair(folder)
    with ThreadPoolExecutor(1) as pool:
        factor(*pair.paths, folder / "store", executor=pool)
    return pair, contents(folder / "store")


@pytest.mark.parametrize("workers", [1, 2, 3, 16, None])
def test_the_bytes_do_not_depend_on_the_number_of_workers(tmp_path, monkeypatch, workers):
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    pair = make_pair(tmp_path)
    factor(*pair.paths, tmp_path / "two", workers=2)
    factor(*pair.paths, tmp_path / "store", workers=workers)
    assert contents(tmp_path / "store") == contents(tmp_path / "two")


def test_a_process_pool_gives_the_same_bytes(reference, tmp_path):
    pair, expected = reference
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        factor(*pair.paths, tmp_path / "store", executor=pool)
    assert contents(tmp_path / "store") == expected


def test_an_error_in_a_process_pool_reaches_the_caller(tmp_path):
    bad = np.ones((4, 5), np.float32)
    bad[2, 3] = np.nan
    pair = write_pair(tmp_path, {"a.weight": np.zeros((4, 5), np.float32)}, {"a.weight": bad})
    with (
        ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool,
        pytest.raises(CheckpointError, match=r"tuned.safetensors: a.weight.*1 of 20.*first at \[2, 3\]"),
    ):
        factor(*pair.paths, tmp_path / "store", executor=pool)


def test_a_thread_pool_is_used_and_left_open(reference, tmp_path):
    pair, expected = reference
    with ThreadPoolExecutor(2) as pool:
        factor(*pair.paths, tmp_path / "store", executor=pool)
        assert pool.submit(int, 7).result() == 7
    assert contents(tmp_path / "store") == expected


# Progress and memory


@pytest.mark.parametrize("workers", [1, 2])
def test_progress_counts_every_tensor_and_byte(tmp_path, workers):
    pair = make_pair(tmp_path)
    steps = []
    factor(*pair.paths, tmp_path / "store", workers=workers, progress=steps.append)
    assert [s.done for s in steps] == list(range(1, len(SHAPES) + 1))
    assert {s.total for s in steps} == {len(SHAPES)}
    assert sorted(s.name for s in steps) == sorted(SHAPES)
    each = {name: pair.before[name].nbytes + pair.after[name].nbytes for name in SHAPES}
    assert {s.bytes_total for s in steps} == {sum(each.values())}
    assert np.diff([0, *(s.bytes_done for s in steps)]).tolist() == [each[s.name] for s in steps]
    repeated = []
    factor(*pair.paths, tmp_path / "store", progress=repeated.append)
    assert repeated == []  # nothing is left to do


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs /proc/self/maps")
def test_tensors_are_unmapped_during_the_pass(tmp_path):
    many = {f"l.{i}.weight": (30, 20) for i in range(12)}
    pair = make_pair(tmp_path, shapes=many)
    mapped = []

    def count(_):
        mapped.append(sum(str(tmp_path) in line for line in Path("/proc/self/maps").read_text().split("\n")))

    factor(*pair.paths, tmp_path / "store", workers=1, progress=count)
    assert len(mapped) == len(many)
    assert max(mapped) <= 6  # a few tensors at a time, and not all 12
    count(None)
    assert mapped[-1] == 0
    descriptors = [Path(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")]
    open_files = [os.readlink(link) for link in descriptors if os.path.lexists(link)]
    assert not [file for file in open_files if str(tmp_path) in file]
