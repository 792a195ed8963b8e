"""A store of other files, a damaged store and a folder that is not a store are refused in one line."""

import os
import shutil
import tracemalloc

import numpy as np
import pytest
from safetensors.numpy import load_file

import eckart
from eckart import FactorStore, factor
from eckart.checkpoint import write_safetensors
from eckart.errors import CheckpointError, EckartError, InputError, OutputError, StoreError, UsageError
from eckart.store.checksum import seal, unseal
from support.pairs import LINEAR, SMALL, SMALL_LINEAR, contents, make_pair, write_pair

NAME = SMALL_LINEAR[0]


@pytest.fixture
def finished(tmp_path):
    pair = make_pair(tmp_path, shapes=SMALL)
    return pair, factor(*pair.paths, tmp_path / "store", max_rank=4)


def one_line(error):
    text = str(error.value)
    assert "\n" not in text and text.startswith("`") and text.endswith(".")
    return text


def rewrite(path):
    """Write a checkpoint again with one number changed, so that size and header stay the same."""
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def touch(path):
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 10**9))


def grow(path):
    write_safetensors(path, {**load_file(path), "more.weight": np.ones((3, 3), np.float32)})


def rename(path):
    """Rename a tensor and restore the modification time, so that only the header differs."""
    status = path.stat()
    data = path.read_bytes()
    assert data.count(b"model.position_ids") == 1
    path.write_bytes(data.replace(b"model.position_ids", b"model.position_idx"))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize("side", ["base", "tuned"])
@pytest.mark.parametrize(
    ("change", "difference"),
    [
        (rewrite, "(modification time)"),
        (touch, "(modification time)"),
        (grow, "(size and modification time and header)"),
        (rename, "(header)"),
    ],
)
def test_changed_sources_are_refused(finished, side, change, difference):
    pair, store = finished
    path = getattr(pair, side)
    change(path)
    before = contents(store.path)
    for again in (
        lambda: factor(*pair.paths, store.path),
        lambda: eckart.plan(store, rank=10),  # more than the store holds, so the sources are needed
        lambda: eckart.extract(*pair.paths, store.path.parent / "adapter", rank=10, store=store.path),
    ):
        with pytest.raises(StoreError) as error:
            again()
        text = one_line(error)
        assert f"the {side} has changed" in text and path.name in text and difference in text
        assert "--overwrite" in text
    assert contents(store.path) == before
    assert not (store.path.parent / "adapter").exists()
    fresh = factor(*pair.paths, store.path, overwrite=True)
    assert fresh.sources[side]["files"][0]["mtime_ns"] == path.stat().st_mtime_ns


def test_a_store_can_be_read_without_its_sources(finished):
    pair, store = finished
    expected = eckart.plan(store, rank=4)
    pair.base.unlink()
    pair.tuned.unlink()
    assert eckart.plan(store.path, rank=4) == expected
    with pytest.raises(CheckpointError, match=r"safetensors.*no such file"):
        eckart.plan(store.path, rank=5)


def test_a_store_of_another_pair_is_refused(finished, tmp_path):
    pair, store = finished
    other = make_pair(tmp_path / "other", shapes=SMALL)
    before = contents(store.path)
    for paths, side in (
        (other.paths, "base"),
        ((pair.base, other.tuned), "tuned"),
        ((None, pair.tuned), "base"),
    ):
        with pytest.raises(StoreError) as error:
            factor(*paths, store.path)
        text = one_line(error)
        assert f"the store was filled from another {side}: " in text and "--overwrite" in text
        assert str(getattr(pair, side)) in text
    assert contents(store.path) == before


def test_a_store_of_a_single_checkpoint_is_refused_for_a_pair(tmp_path):
    pair = make_pair(tmp_path, shapes=SMALL)
    factor(None, pair.tuned, tmp_path / "store")
    with pytest.raises(StoreError, match="another base: no checkpoint"):
        factor(*pair.paths, tmp_path / "store")


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_that_is_not_a_store_is_not_touched(tmp_path, overwrite):
    pair = make_pair(tmp_path, shapes=SMALL)
    folder = tmp_path / "thesis"
    folder.mkdir()
    (folder / "thesis.tex").write_text("years of work")
    with pytest.raises(OutputError) as error:
        factor(*pair.paths, folder, overwrite=overwrite)
    assert "not empty" in one_line(error) and str(folder) in str(error.value)
    assert contents(folder) == {"thesis.tex": b"years of work"}
    with pytest.raises(OutputError, match="found a file"):
        factor(*pair.paths, folder / "thesis.tex", overwrite=overwrite)
    assert contents(folder) == {"thesis.tex": b"years of work"}


def test_overwrite_removes_only_the_files_of_the_store(finished, tmp_path):
    _, store = finished
    (store.path / "notes.txt").write_text("mine")
    other = make_pair(tmp_path / "other", shapes=SMALL)
    factor(*other.paths, store.path, overwrite=True)
    assert (store.path / "notes.txt").read_text() == "mine"


def test_an_empty_folder_can_become_a_store(tmp_path):
    pair = make_pair(tmp_path, shapes=SMALL)
    (tmp_path / "store").mkdir()
    assert len(factor(*pair.paths, tmp_path / "store")) == len(SMALL)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: None, "there is no such folder"),
        (lambda folder: folder.mkdir(), "this is not a factor store: it holds no manifest.json"),
        (lambda folder: folder.write_text("x"), "there is no such folder"),
    ],
    ids=["nothing", "an empty folder", "a file"],
)
def test_opening_a_path_that_is_not_a_store_is_refused(tmp_path, make, message):
    make(tmp_path / "store")
    with pytest.raises(StoreError) as error:
        FactorStore.open(tmp_path / "store")
    assert message in one_line(error) and "eckart factor" in str(error.value)


def edit(change):
    """Change the manifest's content under a checksum that matches again."""

    def damaged(store):
        file = store / "manifest.json"
        data = unseal(file.read_bytes().removesuffix(b"\n"))
        change(data)
        file.write_bytes(seal(data, indent=1) + b"\n")

    return damaged


def manifest(text):
    return lambda store: (store / "manifest.json").write_bytes(text)


DAMAGED_MANIFESTS = {
    "truncated": manifest(b'{"checksum": "12345678", "format": 2, "sources"'),
    "format 1": manifest(b'{"format": 1, "sources": {}, "tensors": []}'),
    "empty": manifest(b""),
    "not UTF-8": manifest(b"\xff\xfe"),
    "a list": manifest(b"[]"),
    "null": manifest(b"null"),
    "no tensors": edit(lambda data: data.pop("tensors")),
    "no sources": edit(lambda data: data.pop("sources")),
    "format 3": edit(lambda data: data.update(format=3)),
    "another kind": edit(lambda data: data.update(kind="a plan")),
    "format missing": edit(lambda data: data.pop("format")),
    "an unknown field": edit(lambda data: data["tensors"][0].update(colour="red")),
    "a field missing": edit(lambda data: data["tensors"][0].pop("energy")),
    "a shape that is text": edit(lambda data: data["tensors"][0].update(shape="ab")),
    "a tensor that is a number": edit(lambda data: data.update(tensors=[3])),
    "tensors is a number": edit(lambda data: data.update(tensors=3)),
    "sources is null": edit(lambda data: data.update(sources=None)),
    "an unknown kind": edit(lambda data: data["tensors"][0].update(kind="dense")),
    "a kind that is a list": edit(lambda data: data["tensors"][0].update(kind=[])),
    "an energy that is text": edit(lambda data: data["tensors"][0].update(energy="much")),
    "nested too deeply": manifest(b"[" * 200_000),
    "huge shape": edit(lambda data: data["tensors"][0].update(shape=[2**31, 2**31])),
    "huge size": edit(lambda data: data["tensors"][0].update(size=2**31)),
    "a count of 10^400": edit(lambda data: data["tensors"][0].update(new_rows=10**400)),
    "a count of 2^63": edit(lambda data: data["tensors"][0].update(new_rows=2**63)),
    "more values than the shape allows": edit(lambda data: data["tensors"][0].update(known=10**6)),
    "a negative shape": edit(lambda data: data["tensors"][0].update(shape=[-1, 2])),
    "a negative energy": edit(lambda data: data["tensors"][0].update(energy=-1.0)),
    "a share above 1": edit(lambda data: data["tensors"][0].update(unchanged=1.5)),
    "an unknown goal": edit(lambda data: data["tensors"][0].update(goal={"kind": "best", "value": 1})),
    "a goal out of range": edit(lambda data: data["tensors"][0].update(goal={"kind": "energy", "value": 7})),
    "bounds of three": edit(lambda data: data["tensors"][0].update(rank_bounds=[1, 2, 3])),
    "sources with another entry": edit(lambda data: data["sources"].update(other=1)),
    "files that are numbers": edit(lambda data: data["sources"]["tuned"].update(files=[1])),
    "parameters that are text": edit(lambda data: data["sources"]["base"].update(parameters="many")),
}


@pytest.mark.parametrize(
    "damage",
    [pytest.param(f, id=name) for name, f in DAMAGED_MANIFESTS.items()],
)
def test_a_damaged_manifest_is_refused(finished, damage):
    _, store = finished
    damage(store.path)
    with pytest.raises(StoreError) as error:
        eckart.plan(FactorStore.open(store.path), rank=2)
    text = one_line(error)
    assert "manifest.json" in text and "--overwrite" in text


@pytest.mark.parametrize("change", [{"known": 2**31, "rank": 2**31}, {"known": 2**31}, {"known": 7}])
def test_a_manifest_that_states_more_values_than_the_store_holds_is_refused(finished, change):
    _, store = finished
    huge = {"shape": [2**31, 2**31], "size": 2**31}
    edit(lambda data: next(t for t in data["tensors"] if t["name"] == NAME).update(huge | change))(store.path)
    with pytest.raises(StoreError, match=NAME) as error:
        eckart.plan(FactorStore.open(store.path), budget="50%")
    assert "damaged" in one_line(error)


def test_a_huge_shape_takes_no_memory(finished):
    _, store = finished
    huge = {"shape": [2**40, 2**40], "size": 2**40}
    edit(lambda data: next(t for t in data["tensors"] if t["name"] == NAME).update(huge))(store.path)
    tracemalloc.start()
    plan = eckart.plan(FactorStore.open(store.path), budget="50%")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert plan.ranks[NAME] == 0 and peak < 10_000_000  # one array of the shape would take 8 TB


def test_overwrite_replaces_a_damaged_manifest(finished):
    pair, store = finished
    expected = contents(store.path)
    (store.path / "manifest.json").write_text("{")
    factor(*pair.paths, store.path, max_rank=4, overwrite=True)
    assert contents(store.path) == expected


def test_a_store_of_format_1_is_refused_with_both_numbers(finished):
    pair, store = finished
    (store.path / "manifest.json").write_text('{\n "format": 1,\n "sources": {},\n "tensors": []\n}\n')
    for again in (lambda: FactorStore.open(store.path), lambda: factor(*pair.paths, store.path)):
        with pytest.raises(StoreError, match=r"expected format 2, found 1\..*--overwrite"):
            again()
    expected = {name for name in contents(store.path) if name != "manifest.json"}
    assert len(factor(*pair.paths, store.path, max_rank=4, overwrite=True)) == len(SMALL)
    assert set(contents(store.path)) == expected | {"manifest.json"}


def remove(path):
    path.unlink()


def cut(path):
    path.write_bytes(path.read_bytes()[:-8])


def scribble(path):
    path.write_bytes(b"not safetensors at all")


def without(key):
    def damage(path):
        arrays = load_file(path)
        assert arrays.pop(key) is not None
        write_safetensors(path, arrays)

    return damage


@pytest.mark.parametrize(
    "damage",
    [remove, without(NAME), cut, scribble],
    ids=["removed", "without a tensor", "truncated", "overwritten"],
)
def test_damaged_spectra_are_read_from_the_tensors_own_files(finished, damage):
    pair, store = finished
    expected, before = eckart.plan(store, energy=0.5), contents(store.path)
    damage(store.path / "spectra.safetensors")
    assert eckart.plan(FactorStore.open(store.path), energy=0.5) == expected
    factor(*pair.paths, store.path, max_rank=4)
    assert contents(store.path) == before  # the file is written again
    damage(store.path / "spectra.safetensors")
    remove(store.path / store.record(NAME).file)
    with pytest.raises(StoreError) as error:
        eckart.plan(FactorStore.open(store.path), energy=0.5)
    text = one_line(error)
    assert NAME in text and "missing or damaged" in text
    assert text.endswith("Run eckart factor BASE TUNED -o STORE to factor the damaged tensors again.")


DAMAGES = [remove, cut, scribble, without("U"), without("values")]


@pytest.mark.parametrize(
    "damage", DAMAGES, ids=["removed", "truncated", "overwritten", "without U", "without values"]
)
def test_a_damaged_factor_file_is_refused(finished, tmp_path, damage):
    _, store = finished
    damage(store.path / store.record(NAME).file)
    with pytest.raises(StoreError) as error:
        FactorStore.open(store.path).factors(NAME)
    text = one_line(error)
    assert NAME in text and "missing or damaged" in text and "Run eckart factor" in text
    # The factors of other tensors can still be read.
    assert FactorStore.open(store.path).factors(SMALL_LINEAR[1]).rank == 4


@pytest.mark.parametrize(
    "damage", DAMAGES, ids=["removed", "truncated", "overwritten", "without U", "without values"]
)
def test_a_damaged_factor_file_is_written_again_where_the_sources_are_given(finished, tmp_path, damage):
    pair, store = finished
    expected = contents(store.path)
    messages = []
    again = {
        "factor": lambda: factor(*pair.paths, store.path, max_rank=4, notify=messages.append),
        "extract": lambda: eckart.extract(
            *pair.paths, tmp_path / "out", rank=3, store=store.path, notify=messages.append
        ),
    }
    for run in again.values():
        damage(store.path / store.record(NAME).file)
        run()
        assert contents(store.path) == expected
    sentence = f"{store.path}: 1 tensor is damaged on the disk and will be factored again: {NAME}"
    assert messages == [sentence, sentence]


@pytest.mark.parametrize("damaged", ["spectra.safetensors", NAME])
@pytest.mark.parametrize("damage", [remove, cut])
def test_overwrite_replaces_damaged_files(finished, damaged, damage):
    pair, store = finished
    expected = contents(store.path)
    damage(store.path / (store.record(NAME).file if damaged == NAME else damaged))
    factor(*pair.paths, store.path, max_rank=4, overwrite=True)
    assert contents(store.path) == expected


def test_factors_of_another_tensor_are_refused(finished):
    # The file is complete and has the right name, but holds the factors of another tensor.
    _, store = finished
    other, this = (store.path / store.record(name).file for name in (SMALL_LINEAR[1], NAME))
    shutil.copy(other, this)
    with pytest.raises(StoreError, match=NAME):
        FactorStore.open(store.path).factors(NAME)


@pytest.mark.parametrize("rank", [0, -1, 1.5])
def test_an_invalid_number_of_components_is_refused(finished, rank):
    _, store = finished
    with pytest.raises(UsageError, match=rf"`rank={rank}`: expected a whole number of at least 1"):
        store.factors(NAME, rank)


def test_factors_of_a_tensor_without_any_are_refused(finished):
    _, store = finished
    name = "model.layers.0.input_layernorm.weight"
    assert store.record(name).rank == 0
    with pytest.raises(StoreError, match=f"{name}`: the store holds no factors of this tensor"):
        store.factors(name)


def test_an_unknown_tensor_is_refused_with_examples(finished):
    _, store = finished
    for ask in (store.record, store.spectrum, store.factors):
        with pytest.raises(
            StoreError, match=r"nothing.weight`: there is no such tensor\. Use a name such as model\."
        ):
            ask("nothing.weight")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("side", ["base", "tuned"])
@pytest.mark.parametrize("name", [LINEAR[0], "model.layers.0.input_layernorm.weight", "model.scale"])
def test_a_nan_or_infinity_is_reported_with_its_position(tmp_path, value, side, name):
    pair = make_pair(tmp_path)
    arrays = pair.before if side == "base" else pair.after
    flat = arrays[name].reshape(-1).copy()
    places = [0] if flat.size == 1 else [flat.size // 3, flat.size - 1]
    flat[places] = value
    arrays[name] = flat.reshape(arrays[name].shape)
    bad = write_pair(tmp_path / "bad", pair.before, pair.after)
    with pytest.raises(CheckpointError) as error:
        factor(*bad.paths, tmp_path / "store")
    text = one_line(error)
    first = [int(i) for i in np.unravel_index(places[0], arrays[name].shape)]
    assert f"{side}.safetensors: {name}" in text
    assert f"{len(places)} of {flat.size} entries" in text
    assert f"the first at {first if arrays[name].ndim else []}" in text
    with pytest.raises(StoreError, match="unfinished"):
        FactorStore.open(tmp_path / "store")


def test_an_infinity_at_the_same_position_in_both_checkpoints_is_refused(tmp_path):
    both = np.array([[1.0, np.inf], [2.0, 3.0]], np.float32)
    pair = write_pair(tmp_path, {"a.weight": both}, {"a.weight": both})
    with pytest.raises(CheckpointError, match=r"a.weight.*1 of 4.*\[0, 1\]"):
        factor(*pair.paths, tmp_path / "store")


def test_an_update_that_overflows_is_refused(tmp_path):
    big = np.full((2, 2), 3e38, np.float32)
    pair = write_pair(tmp_path, {"a.weight": -big}, {"a.weight": big})
    with pytest.raises(CheckpointError, match=r"a.weight.*overflows float32"):
        factor(*pair.paths, tmp_path / "store")


def test_every_refusal_is_an_input_error():
    # The command line turns these into exit code 2.
    for kind in (StoreError, OutputError, CheckpointError):
        assert issubclass(kind, InputError) and issubclass(kind, EckartError)


@pytest.mark.parametrize(
    "options",
    [{"max_rank": -1}, {"max_rank": 2.5}, {"max_rank": True}, {"workers": 0}, {"workers": 1.5}],
    ids=str,
)
def test_invalid_numbers_are_refused_before_any_file_is_read(tmp_path, options):
    ((name, value),) = options.items()
    with pytest.raises(UsageError, match=rf"^`{name}={value}`: expected a whole number of at least \d\.$"):
        factor("nothing", "nothing", tmp_path / "store", **options)
