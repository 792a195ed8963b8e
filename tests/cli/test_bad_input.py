"""Bad input of every kind: exit code 2, one line that tells what is wrong and where, no file left over."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import eckart
from support.pairs import Synthetic, make_pair, write_pair
from support.terminal import run, start, tree

SHAPES = {
    "layers.0.q_proj.weight": (40, 30),
    "layers.0.q_proj.bias": (40,),
    "layers.1.q_proj.weight": (30, 20),
    "norm.weight": (30,),
}
FIRST = "layers.0.q_proj.weight"


@dataclass(frozen=True)
class Place:
    """A folder with a good pair of checkpoints. An attribute is the path of that name in the folder."""

    at: Path
    pair: Synthetic

    def __getattr__(self, name: str) -> Path:
        return self.at / name

    def file(self, name: str, data: bytes) -> Path:
        (self.at / name).write_bytes(data)
        return self.at / name

    def header(self, name: str, entries: object, data: bytes = b"", length: int | None = None) -> Path:
        """Write a safetensors file with this header, valid or not."""
        text = json.dumps(entries).encode()
        return self.file(name, (len(text) if length is None else length).to_bytes(8, "little") + text + data)

    def with_value(self, value: float, index: tuple[int, int]) -> Path:
        """Write the fine-tune with this value at two places: the given one and the last."""
        arrays = {name: a.copy() for name, a in self.pair.after.items()}
        arrays[FIRST][index] = value
        arrays[FIRST][-1, -1] = value
        return write_pair(self.at / "bad", self.pair.before, arrays).tuned

    def sharded(self, shard: str) -> Path:
        """Write a folder whose index lists one shard."""
        (self.at / "sharded").mkdir()
        index = {"weight_map": {FIRST: shard}}
        self.file("sharded/model.safetensors.index.json", json.dumps(index).encode())
        return self.at / "sharded"


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    folder = tmp_path_factory.mktemp("template")
    pair = make_pair(folder, shapes=SHAPES)
    return folder, pair


@pytest.fixture
def place(template, tmp_path):
    folder, pair = template
    for name in ("base.safetensors", "tuned.safetensors"):
        shutil.copy(folder / name, tmp_path / name)
    copy = Synthetic(tmp_path / "base.safetensors", tmp_path / "tuned.safetensors", pair.before, pair.after)
    return Place(tmp_path, copy)


@pytest.fixture
def store(place):
    eckart.factor(*place.pair.paths, place.at / "store")
    return place.at / "store"


Row = tuple[str, Callable[[Place], list[object]], str]
"""Name of the case, function that prepares the input and returns the command line, part of the message."""


def extract(tuned: object, *options: object) -> Callable[[Place], list[object]]:
    """``eckart extract BASE TUNED -o out OPTIONS``, where TUNED is a path or a function that writes one.

    None is the good fine-tune.
    """

    def argv(place: Place) -> list[object]:
        path = tuned(place) if callable(tuned) else tuned or place.pair.tuned
        return ["extract", place.pair.base, path, "-o", place.at / "out", *(options or ("--rank", 4))]

    return argv


def rule(*options: object) -> Callable[[Place], list[object]]:
    """The same with the good fine-tune."""
    return extract(None, *options)


def truncated(place: Place) -> Path:
    return place.file("cut.safetensors", place.pair.tuned.read_bytes()[:-10])


def long_header(place: Place) -> Path:
    data = place.pair.tuned.read_bytes()
    return place.file("long.safetensors", (len(data) + 5).to_bytes(8, "little") + data[8:])


def short_header(place: Place) -> Path:
    data = place.pair.tuned.read_bytes()
    length = int.from_bytes(data[:8], "little")
    return place.file("short.safetensors", (length - 40).to_bytes(8, "little") + data[8:])


def overlapping(place: Place) -> Path:
    entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    other = {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]}
    return place.header("overlap.safetensors", {"a": entry, "b": other}, bytes(12))


def with_a_hole(place: Place) -> Path:
    entry = {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]}
    return place.header("hole.safetensors", {"a": entry}, bytes(12))


def other_shape(place: Place) -> Path:
    arrays = {**place.pair.after, FIRST: np.zeros((40, 31), np.float32)}
    return write_pair(place.at / "bad", place.pair.before, arrays).tuned


def other_names(place: Place) -> Path:
    return write_pair(place.at / "bad", {}, {"x.weight": np.ones((3, 3), np.float32)}).tuned


def link_out_of_the_folder(place: Place) -> Path:
    folder = place.sharded("shard.safetensors")
    (folder / "shard.safetensors").symlink_to(place.pair.tuned)
    return folder


def linked_folder(place: Place) -> Path:
    (place.at / "folder").mkdir()
    (place.at / "folder" / "model.safetensors").symlink_to(place.pair.tuned)
    return place.at / "folder"


def into_a_full_folder(place: Place) -> list[object]:
    (place.at / "out").mkdir()
    (place.at / "out" / "thesis.tex").write_text("years of work")
    return rule()(place)


def over_a_full_folder(place: Place) -> list[object]:
    return [*into_a_full_folder(place), "--overwrite"]


def pickled(name: str) -> Callable[[Place], Path]:
    return lambda place: place.file(name, pickle.dumps({"a": 1}, protocol=2))


def plan_of(text: str) -> Callable[[Place], list[object]]:
    return lambda place: [*rule("--plan")(place), place.file("plan.json", text.encode())]


def plan_with(**changes: object) -> Callable[[Place], list[object]]:
    whole = {
        "format": 1,
        "ranks": {FIRST: 2},
        "reasons": {},
        "rule": "",
        "parameters": 0,
        "energy": 1,
        "dense": [],
    }
    return plan_of(json.dumps({**whole, **changes}))


INPUTS: list[Row] = [
    ("missing", extract(lambda p: p.nowhere), "nowhere`: there is no such file or folder"),
    ("empty file", extract(lambda p: p.file("e.safetensors", b"")), "the file is empty"),
    ("seven bytes", extract(lambda p: p.file("e.safetensors", b"1234567")), "at least 8 bytes, found 7"),
    ("a text", extract(lambda p: p.file("e.txt", b"hello world, I am no model")), "not a safetensors file"),
    ("truncated", extract(truncated), "truncated"),
    ("header too long", extract(long_header), "the header claims"),
    ("header too short", extract(short_header), "not valid JSON"),
    ("overlap", extract(overlapping), "overlaps"),
    ("hole", extract(with_a_hole), "gap of 4 bytes"),
    ("2 GB header", extract(lambda p: p.header("h.safetensors", {}, length=2 << 30)), "2,147,483,648 bytes"),
    ("2^64 header", extract(lambda p: p.header("h.safetensors", {}, length=2**64 - 1)), "the limit is"),
    ("missing shard", extract(lambda p: p.sharded("gone.safetensors")), "missing shards (1 of 1): gone"),
    ("dots", extract(lambda p: p.sharded("../../etc/passwd")), "../../etc/passwd"),
    ("absolute", extract(lambda p: p.sharded("/etc/passwd")), "Do not use this checkpoint"),
    ("link out", extract(link_out_of_the_folder), "leads out of its folder"),
    ("linked folder", extract(linked_folder), "leads out of its folder"),
    ("NaN", extract(lambda p: p.with_value(np.nan, (3, 4))), f"{FIRST}`: 2 of 1200 entries"),
    ("NaN place", extract(lambda p: p.with_value(np.nan, (3, 4))), "the first at [3, 4]"),
    ("Inf", extract(lambda p: p.with_value(-np.inf, (5, 0))), "NaN or infinite, the first at [5, 0]"),
    ("other shape", extract(other_shape), "(40, 30)"),
    ("other shape, named", extract(other_shape), f"`{FIRST}`: expected equal shapes"),
    ("nothing common", extract(other_names), "expected floating-point tensors with the same names"),
    ("base is tuned", extract(lambda p: p.pair.base), "hold the same weights"),
    ("pickle .bin", extract(pickled("model.bin")), "found a pickle"),
    ("pickle .safetensors", extract(pickled("model.safetensors")), "found a pickle"),
    ("GGUF", extract(lambda p: p.file("m.gguf", b"GGUF" + bytes(64))), "found a GGUF file"),
    ("LFS", extract(lambda p: p.file("m.safetensors", b"version https://git-lfs")), "git lfs pull"),
    ("device file", extract(lambda p: Path("/dev/null")), "found a pipe or a device"),
]
RULES: list[Row] = [
    ("rank 0", rule("--rank", 0), "`--rank 0`"),
    ("rank -1", rule("--rank", -1), "`--rank -1`"),
    ("rank 2.5", rule("--rank", 2.5), "--rank"),
    ("energy 0", rule("--energy", 0), "`--energy 0`"),
    ("energy 1.5", rule("--energy", 1.5), "Use --energy 0.9 for 90 %"),
    ("energy nan", rule("--energy", "nan"), "finite"),
    ("energy inf", rule("--energy", "inf"), "finite"),
    ("error 1.5", rule("--error", 1.5), "`--error 1.5`"),
    ("error -1", rule("--error", -1), "`--error -1`"),
    ("ratio 0.5", rule("--ratio", 0.5), "`--ratio 0.5`"),
    ("budget rubbish", rule("--budget", "lots"), "Use for example 2M, 8MB or 1%"),
    ("budget 0", rule("--budget", "0"), "`--budget 0`"),
    ("budget -1M", rule("--budget=-1M"), "`--budget -1M`"),
    ("budget 120%", rule("--budget", "120%"), "`--budget 120%`"),
    ("budget too small", rule("--budget", "10"), "one component costs at least 50"),
    ("two rules", rule("--rank", 4, "--energy", 0.9), "got --rank and --energy"),
    ("no rule", rule("--min-rank", 1), "expected exactly one rule, got only --min-rank"),
    ("bad pattern", rule("--rank", 4, "--include", "("), "is not a regular expression"),
    ("huge count", rule("--rank", 4, "--include", "q{99999999999}"), "is not a regular expression"),
    ("nothing included", rule("--rank", 4, "--include", "xyz"), "leave none of 2 tensors"),
    ("all excluded", rule("--rank", 4, "--exclude", "."), "leave none of 2 tensors"),
    ("min above max", rule("--rank", 4, "--min-rank", 9, "--max-rank", 8), "below --min-rank 9"),
    ("multiple of 0", rule("--rank", 4, "--multiple-of", 0), "--multiple-of 0"),
    ("workers 0", rule("--rank", 4, "--workers", 0), "--workers"),
    ("dtype", rule("--rank", 4, "--dtype", "INT4"), "expected one of float32, float16, bfloat16, float64"),
    (
        "plan missing",
        rule("--plan", "nowhere.json"),
        "nowhere.json`: there is no such file or folder",
    ),
    ("plan that not a JSON file", plan_of("rubbish"), "plan.json`: the plan is not valid JSON"),
    ("plan of a list", plan_of("[]"), "the plan: expected an object, found an empty list"),
    ("plan of format 2", plan_with(format=2), "expected a plan of format 1"),
    (
        "plan without ranks",
        plan_with(ranks=None),
        "plan.json: ranks`: expected an object of whole numbers, found null",
    ),
    (
        "plan with rank 1.5",
        plan_with(ranks={FIRST: 1.5}),
        f"ranks.{FIRST}`: expected a whole number, found 1.5",
    ),
    ("plan with rank -1", plan_with(ranks={FIRST: -1}), "expected ranks of at least 0, found -1"),
    (
        "plan with rank 0",
        plan_with(ranks={FIRST: 0}),
        "no tensor gets factors, so the adapter would be empty",
    ),
    ("plan of another model", plan_with(ranks={"x.weight": 2}), "x.weight"),
    ("plan over full rank", plan_with(ranks={FIRST: 31}), "31"),
    ("budget above every float", rule("--budget", "1e400"), "budget"),
    (
        "plan with infinite rank",
        plan_of('{"format": 1, "ranks": {"a": Infinity}}'),
        "the plan is not valid JSON (Infinity is",
    ),
    ("plan and a rule", rule("--plan", "p.json", "--rank", 4), "got --plan together with --rank"),
]
OTHERS: list[Row] = [
    ("folder not empty", into_a_full_folder, "the folder is not empty"),
    ("folder without an adapter, overwrite", over_a_full_folder, "has no adapter_config.json"),
    (
        "output is the base",
        lambda p: ["extract", *p.pair.paths, "-o", p.pair.base, "--rank", 4],
        "base.safetensors`: the output is or contains the input",
    ),
    (
        "output is a file",
        lambda p: [*extract(None)(p)[:3], "-o", p.file("out", b"text"), "--rank", 4],
        "out`: expected a folder, found a file",
    ),
    ("no store", lambda p: ["plan", p.nowhere, "--rank", 4], "no such folder"),
    ("not a store", lambda p: ["plan", p.at, "--rank", 4], "no manifest.json"),
    ("factor, missing", lambda p: ["factor", p.nowhere, p.pair.tuned, "-o", p.at / "s"], "no such file"),
    ("factor into a folder", lambda p: ["factor", *p.pair.paths, "-o", p.at], "is not a factor store"),
    (
        "factor, max-rank 0",
        lambda p: ["factor", *p.pair.paths, "-o", p.at / "s", "--max-rank", 0],
        "--max-rank",
    ),
    ("inspect, missing", lambda p: ["inspect", p.nowhere], "no such file"),
    ("inspect, pickle", lambda p: ["inspect", pickled("m.bin")(p)], "found a pickle"),
    ("inspect, NaN", lambda p: ["inspect", "-q", p.pair.base, p.with_value(np.nan, (0, 1))], "at [0, 1]"),
    ("dry run, truncated", lambda p: ["inspect", p.pair.base, truncated(p), "--dry-run"], "truncated"),
    ("verify, no adapter", lambda p: ["verify", *p.pair.paths, p.nowhere], "there is no such file or folder"),
    ("verify, missing", lambda p: ["verify", p.nowhere, p.pair.tuned, p.at], "no such file"),
    ("no such command", lambda p: ["extrude"], "there is no such command"),
    ("no such option", lambda p: ["plan", p.at, "--rang", 4], "has no such option. Use --rank N"),
    ("missing argument", lambda p: ["extract", p.pair.base], "expected TUNED"),
    ("missing output", lambda p: ["extract", *p.pair.paths, "--rank", 4], "expected --output"),
]


def check(done, message):
    """Assert that a command exited with 2 and printed only one line on stderr."""
    assert done.code == 2, done
    assert done.out == ""
    assert "Traceback" not in done.err and "internal error" not in done.err
    assert "\x1b" not in done.err
    assert done.err.startswith("eckart: `") and done.err.count("\n") == 1 and done.err.endswith("\n")
    assert message in " ".join(done.err.split())


PLANS: list[Row] = [
    ("unknown device", rule("--rank", 4, "--device", "abacus"), "abacus"),
    ("plan and rank 0", rule("--plan", "p.json", "--rank", 0), "got --plan together with --rank"),
    ("plan and bounds", lambda p: [*plan_with()(p), "--max-rank", 1], "--max-rank"),
    ("plan nested too deep", plan_of("[" * 200_000), "plan.json`: the plan is nested too deeply"),
]


@pytest.mark.parametrize(
    ("argv", "message"), [pytest.param(*row[1:], id=row[0]) for row in INPUTS + RULES + OTHERS + PLANS]
)
def test_bad_input_is_refused_and_nothing_is_written(place, monkeypatch, argv, message):
    monkeypatch.chdir(place.at)
    command_line = argv(place)
    before = tree(place.at)
    check(run(*command_line), message)
    assert tree(place.at) == before


def test_the_same_command_line_with_good_input_succeeds(place):
    # Otherwise every row of the table above could fail for one reason that has nothing to do with its input.
    done = run(*rule()(place))
    assert (done.code, done.err.count("Next: eckart verify")) == (0, 1)
    assert {p.name for p in (place.at / "out").iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
        "eckart.json",
    }
    assert {p.name for p in place.at.iterdir()} == {"base.safetensors", "tuned.safetensors", "out"}


@pytest.mark.parametrize("command", ["verify", "extract"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_or_infinity_in_a_checkpoint_is_located(place, command, value):
    run(*rule()(place))
    (place.at / "out" / "eckart.json").unlink()  # an adapter of another program states nothing
    bad = place.with_value(value, (3, 4))
    rest = {"verify": [place.at / "out"], "extract": ["-o", place.at / "new", "--rank", 4]}[command]
    check(run(command, place.pair.base, bad, *rest), "the first at [3, 4]")


def test_a_nan_in_a_tensor_that_only_the_fine_tune_has(place):
    arrays = {**place.pair.after, "extra.weight": np.full((3, 3), np.nan, np.float32)}
    bad = write_pair(place.at / "bad", place.pair.before, arrays).tuned
    done = run(*extract(bad)(place), "--quiet")
    assert done.code == 2
    assert "extra.weight" in done.err and ".out.tmp" not in done.err


def test_a_store_with_nan_stays_unfinished_and_is_not_resumed_with_other_files(place):
    bad = place.with_value(np.nan, (3, 4))
    check(run("factor", place.pair.base, bad, "-o", place.at / "store"), "the first at [3, 4]")
    check(run("plan", place.at / "store", "--rank", 4), "the pass is unfinished")
    # With the NaN corrected, it would be a pass over other files.
    check(run("factor", *place.pair.paths, "-o", place.at / "store"), "--overwrite")
    assert run("factor", *place.pair.paths, "-o", place.at / "store", "--overwrite").code == 0


def test_inspect_of_two_equal_checkpoints_reports_no_change(place):
    done = run("inspect", place.pair.base, place.pair.base)
    assert done.code == 0
    assert "Nothing changed" in done.out


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads everything")
def test_a_file_without_read_permission_is_reported(place):
    place.pair.tuned.chmod(0)
    check(run(*rule()(place)), "reading it is not permitted")


def file_size_limit(limit: int) -> Callable[[], None]:
    """Return a function that limits the size of a child's files. A write beyond fails, as on a full disk."""
    resource = pytest.importorskip("resource")

    def before_start() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # the write raises an error instead
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    return before_start


SMALL = ("--rank", 12)
LARGE = ("--energy", 0.99, "--dtype", "F64")


@pytest.mark.parametrize(
    ("limit", "options", "file"),
    [
        (0, SMALL, ".store"),  # the journal's first line
        (3000, SMALL, "factors"),  # a tensor's factors
        (9000, LARGE, "adapter_model.safetensors"),  # the adapter itself
    ],
)
def test_a_full_disk_is_one_line_and_leaves_nothing(place, limit, options, file):
    before = tree(place.at)
    done = start(*rule(*options)(place), preexec_fn=file_size_limit(limit))
    assert done.returncode == 2
    assert done.stderr.startswith("eckart: `") and done.stderr.count("\n") == 1
    assert "cannot be written" in done.stderr and "free space" in done.stderr
    assert str(place.at) in done.stderr and file in done.stderr
    assert done.stdout == ""
    assert tree(place.at) == before


def test_a_full_disk_names_the_output_folder(place):
    done = start(*rule()(place), preexec_fn=file_size_limit(0))
    assert str(place.at / "out") in done.stderr


def test_a_full_disk_keeps_the_old_adapter(place):
    assert run(*rule()(place)).code == 0
    before = tree(place.at)
    done = start(*rule("--rank", 9, "--overwrite")(place), preexec_fn=file_size_limit(2000))
    assert done.returncode == 2 and "cannot be written" in done.stderr
    assert tree(place.at) == before


def test_a_plan_file_that_cannot_be_written_is_reported(store, place):
    (place.at / "plan.json").write_text("old")
    done = run("plan", store, "--rank", 4, "-o", place.at / "no" / "such" / "plan.json")
    check(done, "its folder does not exist. Create the folder first.")
    assert (place.at / "plan.json").read_text() == "old"


def test_the_place_of_a_plan_is_checked_before_the_pass(store, place, monkeypatch):
    def pass_started(*_arguments, **_options):
        raise AssertionError("the pass started before the output was checked")

    monkeypatch.setattr("eckart.cli.plan.decide", pass_started)
    check(run("plan", store, "--rank", 4, "-o", place.at), "expected a file, found a folder")


def test_an_internal_error_is_one_line_unless_debugging(place, monkeypatch):
    def broken(*_arguments, **_options):
        raise KeyError("oh")

    monkeypatch.setattr("eckart.cli.plan.decide", broken)
    eckart.factor(*place.pair.paths, place.at / "store")
    done = run("plan", place.at / "store", "--rank", 4)
    assert done.code == 2 and done.err.count("\n") == 1
    assert "internal error: KeyError" in done.err and "ECKART_DEBUG=1" in done.err
    monkeypatch.setenv("ECKART_DEBUG", "1")
    with pytest.raises(KeyError):
        run("plan", place.at / "store", "--rank", 4)


def test_out_of_memory_is_one_line(place, monkeypatch):
    def too_large(*_arguments, **_options):
        raise MemoryError

    monkeypatch.setattr("eckart.cli.factor.fill_store", too_large)
    done = run("factor", *place.pair.paths, "-o", place.at / "store")
    assert done.code == 2 and done.err.startswith("eckart: out of memory") and done.err.count("\n") == 1
