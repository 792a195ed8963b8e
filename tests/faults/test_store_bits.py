"""One flipped bit in any file of a store: every answer is that of the undamaged store, or a clear refusal."""

import random
import shutil

import numpy as np
import pytest

import eckart
from eckart import FactorStore, factor
from eckart.errors import StoreError
from eckart.store.journal import Journal, PassHeader
from support.pairs import LINEAR, SMALL, contents, make_pair

FLIPS = 40  # per kind of file
RANK = 3


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A pair, a store of it, its plan, and the adapter that is cut from it."""
    folder = tmp_path_factory.mktemp("whole")
    pair = make_pair(folder, shapes=SMALL)
    store = factor(*pair.paths, folder / "store", max_rank=8, workers=1)
    eckart.extract(*pair.paths, folder / "adapter", rank=RANK, store=store.path)
    return pair, store, eckart.plan(store, energy=0.7), contents(folder / "adapter")


def flipped(whole, folder, kind, seed):
    """Return a copy of the store in which one bit of one file of this kind is flipped, and that file."""
    _, store, _, _ = whole
    copy = folder / str(seed)
    shutil.copytree(store.path, copy)
    draw = random.Random(f"{kind} {seed}")
    file = copy / kind if kind != "factors" else draw.choice(sorted((copy / "factors").iterdir()))
    data = bytearray(file.read_bytes())
    data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    file.write_bytes(data)
    return copy, file


def test_flipped_bits_in_factors_and_spectra_never_reach_an_adapter(whole, tmp_path):
    pair, store, _, adapter = whole
    planned = {store.record(name).file for name in LINEAR if name in SMALL}
    for kind in ("factors", "spectra.safetensors"):
        repaired = set()
        for seed in range(FLIPS):
            copy, file = flipped(whole, tmp_path / kind, kind, seed)
            messages = []
            out = tmp_path / "out"
            eckart.extract(*pair.paths, out, rank=RANK, store=copy, notify=messages.append, overwrite=True)
            assert contents(out) == adapter, (kind, seed)
            path = file.relative_to(copy).as_posix()
            if path in planned:
                assert len(messages) == 1 and "1 tensor is damaged on the disk" in messages[0]
                assert contents(copy) == contents(store.path)
                repaired.add(path)
            else:
                assert messages == []
            shutil.rmtree(copy)
        assert repaired == (planned if kind == "factors" else set())


def test_flipped_bits_in_factors_and_spectra_never_change_a_plan(whole, tmp_path):
    _, store, plan, _ = whole
    for kind in ("factors", "spectra.safetensors"):
        for seed in range(FLIPS):
            copy, _ = flipped(whole, tmp_path / kind, kind, seed)
            assert eckart.plan(copy, energy=0.7) == plan, (kind, seed)
            opened = FactorStore.open(copy)
            for record in opened:
                spectrum = store.spectrum(record.name)
                np.testing.assert_array_equal(opened.spectrum(record.name).values, spectrum.values)
            shutil.rmtree(copy)


def test_reading_a_factor_file_with_a_flipped_bit_names_the_tensor(whole, tmp_path):
    _, store, _, _ = whole
    by_file = {record.file: record.name for record in store}
    for seed in range(FLIPS):
        copy, file = flipped(whole, tmp_path, "factors", seed)
        name = by_file[file.relative_to(copy).as_posix()]
        opened = FactorStore.open(copy)
        assert opened.damaged([record.name for record in store]) == [name]
        with pytest.raises(StoreError) as error:
            opened.factors(name)
        assert str(error.value) == (
            f"`{copy}: {name}`: the stored data of this tensor is missing or damaged. "
            "Run eckart factor BASE TUNED -o STORE to factor the damaged tensors again."
        )
        shutil.rmtree(copy)


def test_factor_repairs_flipped_bits_in_factors_and_spectra(whole, tmp_path):
    pair, store, _, _ = whole
    for kind in ("factors", "spectra.safetensors"):
        for seed in range(FLIPS // 4):
            copy, _ = flipped(whole, tmp_path / kind, kind, seed)
            messages = []
            factor(*pair.paths, copy, max_rank=8, workers=1, notify=messages.append)
            assert contents(copy) == contents(store.path), (kind, seed)
            assert len(messages) == (kind == "factors")
            shutil.rmtree(copy)


def test_a_manifest_with_a_flipped_bit_is_refused_and_named(whole, tmp_path):
    pair, store, _, _ = whole
    for seed in range(FLIPS):
        copy, _ = flipped(whole, tmp_path, "manifest.json", seed)
        before = contents(copy)
        for call in (
            lambda path: FactorStore.open(path),
            lambda path: eckart.plan(path, energy=0.7),
            lambda path: factor(*pair.paths, path, max_rank=8),
            lambda path: eckart.extract(*pair.paths, tmp_path / "out", rank=RANK, store=path),
        ):
            with pytest.raises(StoreError, match=r"manifest\.json`: the file is damaged.*--overwrite\.$"):
                call(copy)
            assert contents(copy) == before
        shutil.rmtree(copy)
    copy, _ = flipped(whole, tmp_path, "manifest.json", 0)
    factor(*pair.paths, copy, max_rank=8, workers=1, overwrite=True)
    assert contents(copy) == contents(store.path)


def test_a_journal_line_with_a_flipped_bit_is_an_unfinished_tensor(whole, tmp_path):
    pair, store, _, _ = whole
    outcomes = set()
    for seed in range(FLIPS):
        copy = tmp_path / str(seed)
        shutil.copytree(store.path, copy)
        with Journal(copy, PassHeader(store.sources), list(store)):
            (copy / "manifest.json").unlink()
        draw = random.Random(seed)
        data = bytearray((copy / "journal.jsonl").read_bytes())
        header = data.index(b"\n")
        place = draw.randrange(len(data))
        data[place] ^= 1 << draw.randrange(8)
        (copy / "journal.jsonl").write_bytes(data)
        if place <= header:
            with pytest.raises(StoreError, match=r"journal\.jsonl`: the first line is damaged.*--overwrite"):
                factor(*pair.paths, copy, max_rank=8, workers=1)
            outcomes.add("header")
        else:
            steps = []
            factor(*pair.paths, copy, max_rank=8, workers=1, progress=steps.append)
            assert len(steps) == 1
            assert contents(copy) == contents(store.path)
            outcomes.add("line")
        shutil.rmtree(copy)
    assert outcomes == {"header", "line"}
