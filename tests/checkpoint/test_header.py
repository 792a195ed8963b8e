"""Every defect of a safetensors header raises one error that describes it."""

import hashlib
import json
import os
import pickle
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save

from eckart.checkpoint import read_header
from eckart.errors import CheckpointError


def build(header, data=b"", length=None):
    """Return the bytes of a file with a header, given as JSON text, an object or bytes, and data."""
    if not isinstance(header, bytes):
        header = (header if isinstance(header, str) else json.dumps(header)).encode()
    claimed = len(header) if length is None else length
    return claimed.to_bytes(8, "little") + header + data


def entry(begin=0, end=8, shape=(2,), dtype="F32", **others):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end], **others}


def without(key):
    return {k: v for k, v in entry().items() if k != key}


GOOD = build({"w": entry()}, bytes(8))
TWICE = '{"w": %s, "w": %s}' % ((json.dumps(entry()),) * 2)

MALFORMED = [
    ("empty", b"", "the file is empty"),
    ("seven bytes", b"\x02\x00\x00\x00\x00\x00\x00", "at least 8 bytes, found 7"),
    ("no header", bytes(8), "must begin with '{'"),
    ("not an object", build("[]"), "must begin with '{'"),
    ("header padded in front", build(' {"w": 1}'), "must begin with '{'"),
    ("header past the end", build("{}", length=3), "claims 3 bytes, but only 2 follow"),
    ("header of 2 GB", build("{}", length=2 * 10**9), "claims 2,000,000,000 bytes, but the limit"),
    ("header of 2**64 - 1", b"\xff" * 8 + b"{}", "18,446,744,073,709,551,615 bytes, but the limit"),
    ("not JSON", build("{nonsense}"), "not valid JSON"),
    ("cut JSON", build('{"w": {"dtype": "F3'), "not valid JSON"),
    ("not UTF-8", build(b'{"\xff": 1}'), "not valid JSON"),
    ("half a surrogate", build(r'{"\ud800": 1}'), "not valid JSON"),
    ("nested too deeply", build('{"w":' + "[" * 100_000), "nested too deeply"),
    ("an integer of 5000 digits", build('{"w":' + "1" * 5000 + "}"), "not valid JSON"),
    ("tensor twice", build(TWICE, bytes(8)), "'w' appears twice"),
    ("key twice", build('{"w": {"dtype": "F32", "dtype": "F64"}}'), "'dtype' appears twice"),
    (
        "metadata a list",
        build({"__metadata__": []}),
        "`FILE: __metadata__`: the metadata: expected an object of strings, found an empty list",
    ),
    (
        "metadata of numbers",
        build({"__metadata__": {"step": 1}}),
        "`FILE: __metadata__: step`: expected a string, found 1",
    ),
    ("entry a list", build({"w": []}), "`FILE: w`: expected an object, found an empty list"),
    ("no dtype", build({"w": without("dtype")}, bytes(8)), "`FILE: w`: expected an entry dtype, found none"),
    ("no shape", build({"w": without("shape")}, bytes(8)), "`FILE: w`: expected an entry shape, found none"),
    (
        "no offsets",
        build({"w": without("data_offsets")}, bytes(8)),
        "`FILE: w`: expected an entry data_offsets, found none",
    ),
    (
        "dtype a number",
        build({"w": entry(dtype=32)}, bytes(8)),
        "`FILE: w.dtype`: expected a string, found 32",
    ),
    (
        "shape a number",
        build({"w": {**entry(), "shape": 2}}, bytes(8)),
        "`FILE: w.shape`: expected a list of whole numbers, found 2",
    ),
    (
        "shape true",
        build({"w": entry(shape=[True, 2])}, bytes(8)),
        "`FILE: w.shape[0]`: expected a whole number, found true",
    ),
    (
        "shape 2.0",
        build({"w": entry(shape=[2.0])}, bytes(8)),
        "`FILE: w.shape[0]`: expected a whole number, found 2.0",
    ),
    ("shape negative", build({"w": entry(shape=[-1, -2])}, bytes(8)), "found [-1, -2]"),
    ("shape huge", build({"w": entry(shape=[2**63])}, bytes(8)), "from 0 to 2**63 - 1"),
    ("shape long", build({"w": entry(shape=[1] * 65)}, bytes(8)), "at most 64 integers"),
    ("shape of NaN", build('{"w": {"dtype": "F32", "shape": [NaN], "data_offsets": [0, 8]}}'), "found nan"),
    ("shape of 10^400", build({"w": entry(shape=[10**400])}, bytes(8)), "from 0 to 2**63 - 1, found [1000"),
    ("offset of 10^400", build({"w": entry(0, 10**400)}, bytes(8)), "from 0 to 2**63 - 1, found [0, 1000"),
    ("empty and huge", build({"w": entry(0, 0, (0, 2**62))}), "is larger than NumPy allows, although it is"),
    ("long name", build({"." * 1001: entry()}, bytes(8)), "has 1,001 characters, but the limit is 1,000"),
    (
        "name of many parts",
        build({"a." * 64 + "b": entry()}, bytes(8)),
        "the name has 65 parts separated by dots, but the limit is 64",
    ),
    ("too many values", build('{"w": ' + "[" * 4_000_001), "the header holds more than 4,000,000 values"),
    ("shape overflows", build({"w": entry(shape=[2**62] * 64)}, bytes(8)), "found 8 between"),
    (
        "one offset",
        build({"w": {**entry(), "data_offsets": [0]}}, bytes(8)),
        "`FILE: w.data_offsets`: expected a list of 2 values, found a list of 1 value",
    ),
    ("offsets backwards", build({"w": entry(8, 0)}, bytes(8)), "found [8, 0]"),
    ("offset negative", build({"w": entry(-8, 0)}, bytes(8)), "found [-8, 0]"),
    (
        "shape too large",
        build({"w": entry(shape=[3])}, bytes(8)),
        "shape [3] and dtype F32 needs 12 bytes, found 8",
    ),
    (
        "dtype too small",
        build({"w": entry(dtype="BF16")}, bytes(8)),
        "shape [2] and dtype BF16 needs 4 bytes, found 8",
    ),
    (
        "F4 too large",
        build({"w": entry(dtype="F4")}, bytes(8)),
        "shape [2] and dtype F4 needs 1 byte, found 8",
    ),
    (
        "overlap",
        build({"v": entry(0, 8), "w": entry(4, 12)}, bytes(12)),
        "`FILE: w`: its data overlaps that of v by 4 bytes",
    ),
    (
        "gap",
        build({"v": entry(0, 8), "w": entry(12, 20)}, bytes(20)),
        "`FILE: w`: there is a gap of 4 bytes",
    ),
    ("gap in front", build({"w": entry(4, 12)}, bytes(12)), "gap of 4 bytes"),
    (
        "truncated",
        build({"v": entry(0, 8), "w": entry(8, 16), "x": entry(16, 24)}, bytes(13)),
        "`FILE: w`: the file is truncated",
    ),
    ("truncated by", build({"w": entry()}, bytes(5)), "3 bytes are missing"),
    ("longer", build({"w": entry()}, bytes(11)), "3 bytes more than the header declares"),
    ("GGUF", b"GGUF\x03" + bytes(40), "found a GGUF file"),
    ("Git LFS", b"version https://git-lfs.github.com/spec/v1\noid ", "git lfs pull"),
    ("pickle", pickle.dumps({"w": 1}, protocol=2), "weights_only=True"),
    ("zip", b"PK\x03\x04" + bytes(40), "weights_only=True"),
]


@pytest.fixture
def file(tmp_path):
    return tmp_path / "model.safetensors"


@pytest.mark.parametrize(
    ("content", "message"), [row[1:] for row in MALFORMED], ids=[row[0] for row in MALFORMED]
)
def test_malformed_file_is_refused_with_its_defect_and_a_fix(file, content, message):
    file.write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        read_header(file)
    assert message.replace("FILE", str(file)) in str(caught.value)
    assert str(caught.value).startswith(f"`{file}")
    assert caught.value.fix


def test_well_formed_file_behind_the_malformed_ones_is_read(file):
    file.write_bytes(GOOD)
    info = read_header(file).tensors["w"]
    assert (info.dtype, info.shape, info.nbytes, info.size) == ("F32", (2,), 8, 2)
    assert (info.start, info.stop) == (len(GOOD) - 8, len(GOOD))


def test_header_describes_the_written_tensors(file):
    arrays = {"a": np.ones((2, 3), np.float32), "b": np.zeros((0, 4)), "c": np.array(1, np.int8)}
    raw = save(arrays, {"format": "pt"})
    file.write_bytes(raw)
    header = read_header(file)
    length = int.from_bytes(raw[:8], "little")
    assert {n: t.shape for n, t in header.tensors.items()} == {"a": (2, 3), "b": (0, 4), "c": ()}
    assert header.metadata == {"format": "pt"}
    assert header.digest == hashlib.sha256(raw[8 : 8 + length]).hexdigest()
    assert header.size == len(raw) == file.stat().st_size
    assert header.mtime_ns == file.stat().st_mtime_ns


def test_the_longest_allowed_names_are_read(file):
    names = {"a." * 63 + "b", "x" * 1000}
    file.write_bytes(build({name: entry(0, 0, (0,)) for name in names}))
    assert read_header(file).tensors.keys() == names


def test_more_tensors_than_the_limit_are_refused(file, monkeypatch):
    monkeypatch.setattr("eckart.checkpoint.header.MAX_TENSORS", 3)
    file.write_bytes(build({f"t{i}": entry(0, 0, (0,)) for i in range(4)}))
    with pytest.raises(CheckpointError, match="the header lists 4 tensors, but the limit is 3"):
        read_header(file)
    file.write_bytes(build({f"t{i}": entry(0, 0, (0,)) for i in range(3)}))
    assert len(read_header(file).tensors) == 3


def test_file_without_tensors_is_valid(file):
    file.write_bytes(save({}))
    assert read_header(file).tensors == {}


@pytest.mark.parametrize("dtype", ["F4", "F8_E8M0", "Q9_K"])
def test_unsupported_dtype_is_kept_by_name(file, dtype):
    size = {"F4": 1, "F8_E8M0": 2, "Q9_K": 5}[dtype]
    file.write_bytes(build({"w": entry(0, size, dtype=dtype)}, bytes(size)))
    assert read_header(file).tensors["w"].dtype == dtype


def test_header_whose_length_looks_like_a_pickle_is_read(file):
    text = json.dumps({"w": entry()}).ljust(0x0280)  # 80 02, the magic number of pickle protocol 2
    file.write_bytes(build(text, bytes(8)))
    assert file.read_bytes().startswith(b"\x80\x02")
    assert list(read_header(file).tensors) == ["w"]


@pytest.mark.parametrize("name", ["pytorch_model.bin", "a.pt", "a.pth", "a.CKPT"])
def test_pickle_is_recognised_by_its_name(tmp_path, name):
    file = tmp_path / name
    file.write_bytes(b"0123456789")
    with pytest.raises(CheckpointError, match="found a pickle") as caught:
        read_header(file)
    assert f"torch.load('{name}', weights_only=True)" in caught.value.fix


def test_suggested_command_converts_a_pickle(tmp_path, file):
    torch = pytest.importorskip("torch")
    pickled = tmp_path / "model.bin"
    torch.save({"w": torch.arange(6.0).reshape(2, 3).T}, pickled)
    assert zipfile.is_zipfile(pickled)
    with pytest.raises(CheckpointError) as caught:
        read_header(pickled)
    command = caught.value.fix.removeprefix("Convert it: ")
    environment = {**os.environ, "PATH": f"{Path(os.sys.executable).parent}:{os.environ['PATH']}"}
    subprocess.run(command, shell=True, cwd=tmp_path, check=True, env=environment)
    assert read_header(file).tensors["w"].shape == (3, 2)


def test_missing_file_is_refused(file):
    with pytest.raises(CheckpointError, match="no such file"):
        read_header(file)


def test_folder_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="expected a file, found a folder"):
        read_header(tmp_path)


def test_pipe_is_refused_without_blocking(file):
    os.mkfifo(file)
    with pytest.raises(CheckpointError, match="found a pipe"):
        read_header(file)


def test_file_without_read_permission_is_refused(file, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    file.write_bytes(GOOD)
    monkeypatch.setattr(Path, "open", refuse)  # chmod would not stop a test that runs as root
    with pytest.raises(CheckpointError, match=r"chmod u\+rX model\.safetensors"):
        read_header(file)


def test_terminal_control_characters_in_a_name_are_escaped(file):
    file.write_bytes(build({"\x1b[2J" + "x" * 999: []}))
    with pytest.raises(CheckpointError) as caught:
        read_header(file)
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < len(str(file)) + 400


VALID = save({"a.weight": np.ones((2, 3), np.float32), "b": np.arange(4, dtype=np.int16)}, {"format": "pt"})


@given(
    st.lists(st.tuples(st.integers(0, len(VALID) - 1), st.integers(0, 255)), max_size=4),
    st.integers(0, len(VALID) + 8),
)
def test_flipped_bytes_and_truncation_raise_only_checkpoint_errors(tmp_path_factory, flips, length):
    content = bytearray(VALID)
    for position, value in flips:
        content[position] = value
    file = tmp_path_factory.getbasetemp() / "fuzz.safetensors"
    file.write_bytes(bytes(content[:length]).ljust(length, b" "))
    try:
        header = read_header(file)
    except CheckpointError as error:
        assert str(file) in str(error)
    else:
        assert sum(info.nbytes for info in header.tensors.values()) <= length
        assert all(8 <= info.start <= info.stop <= length for info in header.tensors.values())


TEXT = st.sampled_from(["", "w", "F32", "BF16", "\u00e9", "\ud800", "\x00"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
    max_leaves=6,
)


@given(
    st.dictionaries(st.sampled_from(["w", "__metadata__"]), JSON)
    | st.fixed_dictionaries(
        {"w": st.fixed_dictionaries({"dtype": JSON, "shape": JSON, "data_offsets": JSON})}
    )
)
def test_any_json_in_the_header_raises_only_checkpoint_errors(tmp_path_factory, header):
    file = tmp_path_factory.getbasetemp() / "json.safetensors"
    file.write_bytes(build(header, bytes(8)))
    with pytest.raises(CheckpointError):  # no entry accounts for the eight bytes of data
        read_header(file)
