"""Whatever is wrong: exit code 2, one line that says what and where, and nothing half-written."""

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
    """A folder with a good pair, a store of it, and a plan: ``base``, ``tuned``, ``store``, ``plan.json``."""

    at: Path
    pair: Synthetic

    def __getattr__(self, name: str) -> Path:
        return self.at / name

    def file(self, name: str, data: bytes) -> Path:
        (self.at / name).write_bytes(data)
        return self.at / name

    def header(self, name: str, entries: object, data: bytes = b"", length: int | None = None) -> Path:
        """Write a file with this header, whatever it says."""
        text = json.dumps(entries).encode()
        return self.file(name, (len(text) if length is None else length).to_bytes(8, "little") + text + data)

    def with_value(self, value: float, where: tuple[int, int]) -> Path:
        """The fine-tune with one number replaced."""
        arrays = {name: a.copy() for name, a in self.pair.after.items()}
        arrays[FIRST][where] = value
        arrays[FIRST][-1, -1] = value
        return write_pair(self.at / "bad", self.pair.before, arrays).tuned

    def index(self, shard: str) -> Path:
        """A folder whose index names one shard."""
        (self.at / "sharded").mkdir()
        self.file("sharded/model.safetensors.index.json", json.dumps({"weight_map": {FIRST: shard}}).encode())
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
    here = Synthetic(tmp_path / "base.safetensors", tmp_path / "tuned.safetensors", pair.before, pair.after)
    return Place(tmp_path, here)


@pytest.fixture
def store(place):
    eckart.factor(*place.pair.paths, place.at / "store")
    return place.at / "store"


Row = tuple[str, Callable[[Place], list[object]], str]


def extract(tuned: object, *words: object) -> Callable[[Place], list[object]]:
    """``eckart extract base TUNED -o out ...``; TUNED is a path or a function that makes one."""

    def argv(place: Place) -> list[object]:
        given = tuned(place) if callable(tuned) else tuned or place.pair.tuned
        return ["extract", place.pair.base, given, "-o", place.at / "out", *(words or ("--rank", 4))]

    return argv


def rule(*words: object) -> Callable[[Place], list[object]]:
    return extract(None, *words)


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


def link_out(place: Place) -> Path:
    folder = place.index("shard.safetensors")
    (folder / "shard.safetensors").symlink_to(place.pair.tuned)
    return folder


def linked_folder(place: Place) -> Path:
    (place.at / "folder").mkdir()
    (place.at / "folder" / "model.safetensors").symlink_to(place.pair.tuned)
    return place.at / "folder"


def full_folder(place: Place) -> list[object]:
    (place.at / "out").mkdir()
    (place.at / "out" / "thesis.tex").write_text("years of work")
    return rule()(place)


def not_an_adapter(place: Place) -> list[object]:
    return [*full_folder(place), "--overwrite"]


def pickled(name: str) -> Callable[[Place], Path]:
    return lambda place: place.file(name, pickle.dumps({"a": 1}, protocol=2))


def plan_of(text: str) -> Callable[[Place], list[object]]:
    return lambda place: [*rule("--plan")(place), place.file("plan.json", text.encode())]


def plan_with(**changes: object) -> Callable[[Place], list[object]]:
    whole = {
        "format": 1, "ranks": {FIRST: 2}, "reasons": {}, "rule": "", "parameters": 0, "energy": 1, "dense": []
    }  # fmt: skip
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
    ("missing shard", extract(lambda p: p.index("gone.safetensors")), "missing shards (1 of 1): gone"),
    ("dots", extract(lambda p: p.index("../../etc/passwd")), "../../etc/passwd"),
    ("absolute", extract(lambda p: p.index("/etc/passwd")), "Do not use this checkpoint"),
    ("link out", extract(link_out), "leads out of its folder"),
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
    ("rank 0", rule("--rank", 0), "`rank=0`"),
    ("rank -1", rule("--rank", -1), "`rank=-1`"),
    ("rank 2.5", rule("--rank", 2.5), "--rank"),
    ("energy 0", rule("--energy", 0), "`energy=0.0`"),
    ("energy 1.5", rule("--energy", 1.5), "Use 0.9 for 90 %"),
    ("energy nan", rule("--energy", "nan"), "finite"),
    ("energy inf", rule("--energy", "inf"), "finite"),
    ("error 1.5", rule("--error", 1.5), "`error=1.5`"),
    ("error -1", rule("--error", -1), "`error=-1.0`"),
    ("ratio 0.5", rule("--ratio", 0.5), "`ratio=0.5`"),
    ("budget rubbish", rule("--budget", "lots"), "Use for example 2M, 8MB or 1%"),
    ("budget 0", rule("--budget", "0"), "`budget='0'`"),
    ("budget -1M", rule("--budget=-1M"), "`budget='-1M'`"),
    ("budget 120%", rule("--budget", "120%"), "`budget='120%'`"),
    ("budget too small", rule("--budget", "10"), "one component costs at least 50"),
    ("two rules", rule("--rank", 4, "--energy", 0.9), "got --rank and --energy"),
    ("no rule", rule("--min-rank", 1), "expected exactly one rule, got only --min-rank"),
    ("bad pattern", rule("--rank", 4, "--include", "("), "is not a regular expression"),
    ("nothing included", rule("--rank", 4, "--include", "xyz"), "leave none of 2 tensors"),
    ("all excluded", rule("--rank", 4, "--exclude", "."), "leave none of 2 tensors"),
    ("min over max", rule("--rank", 4, "--min-rank", 9, "--max-rank", 8), "below min_rank=9"),
    ("multiple of 0", rule("--rank", 4, "--multiple-of", 0), "multiple_of=0"),
    ("workers 0", rule("--rank", 4, "--workers", 0), "--workers"),
    ("dtype", rule("--rank", 4, "--dtype", "INT4"), "expected one of float32, float16, bfloat16, float64"),
    ("plan missing", rule("--plan", "nowhere.json"), "nowhere.json`: cannot be read"),
    ("plan of rubbish", plan_of("rubbish"), "is not JSON"),
    ("plan of a list", plan_of("[]"), "expected a plan of format 1"),
    ("plan of the future", plan_with(format=2), "expected a plan of format 1"),
    ("plan without ranks", plan_with(ranks=None), "expected ranks, reasons"),
    ("plan of half a rank", plan_with(ranks={FIRST: 1.5}), "expected ranks, reasons"),
    ("plan of rank -1", plan_with(ranks={FIRST: -1}), "expected ranks, reasons"),
    ("plan of no rank", plan_with(ranks={FIRST: 0}), "rank 0"),
    ("plan of another model", plan_with(ranks={"x.weight": 2}), "x.weight"),
    ("plan over full rank", plan_with(ranks={FIRST: 31}), "31"),
    ("a budget past every number", rule("--budget", "1e400"), "budget"),
    ("a plan of infinite rank", plan_of('{"format": 1, "ranks": {"a": Infinity}}'), "expected ranks"),
    ("plan and a rule", rule("--plan", "p.json", "--rank", 4), "got --plan together with --rank"),
]
OTHERS: list[Row] = [
    ("folder not empty", full_folder, "the folder is not empty"),
    ("folder of others, overwrite", not_an_adapter, "has no adapter_config.json"),
    ("out is base", lambda p: ["extract", *p.pair.paths, "-o", p.pair.base, "--rank", 4], "found a file"),
    ("no store", lambda p: ["plan", p.nowhere, "--rank", 4], "no such folder"),
    ("a store that is none", lambda p: ["plan", p.at, "--rank", 4], "no manifest.json"),
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
    ("no such command", lambda p: ["extrude"], "No such command"),
    ("no such option", lambda p: ["plan", p.at, "--rang", 4], "No such option"),
    ("too few words", lambda p: ["extract", p.pair.base], "Missing argument"),
]


def check(done, words):
    """Exit code 2 and one line, or typer's box, on stderr alone."""
    assert done.code == 2, done
    assert done.out == ""
    assert "Traceback" not in done.err and "internal error" not in done.err
    assert "\x1b" not in done.err
    if done.err.startswith("Usage:"):
        assert done.err.count("Error") == 1
    else:
        assert done.err.startswith("eckart: `") and done.err.count("\n") == 1 and done.err.endswith("\n")
    assert words in " ".join(done.err.split())


PLANS: list[Row] = [
    ("a device nobody has", rule("--rank", 4, "--device", "abacus"), "abacus"),
    ("a plan and rank 0", rule("--plan", "p.json", "--rank", 0), "got --plan together with --rank"),
    ("a plan and bounds", lambda p: [*plan_with()(p), "--max-rank", 1], "--max-rank"),
    ("a plan nested too deep", plan_of("[" * 200_000), "is not JSON"),
]


@pytest.mark.parametrize(
    ("argv", "words"), [pytest.param(*row[1:], id=row[0]) for row in INPUTS + RULES + OTHERS + PLANS]
)
def test_bad_input(place, monkeypatch, argv, words):
    monkeypatch.chdir(place.at)
    given = argv(place)
    before = tree(place.at)
    check(run(*given), words)
    assert tree(place.at) == before


def test_a_good_run_passes_the_same_checks_inverted(place):
    # In case the table passes for a reason of its own: the same words, with nothing wrong.
    done = run(*rule()(place))
    assert (done.code, done.err.count("Next: eckart verify")) == (0, 1)
    assert {p.name for p in (place.at / "out").iterdir()} == {
        "adapter_config.json", "adapter_model.safetensors", "eckart.json"
    }  # fmt: skip
    check_folder = {p.name for p in place.at.iterdir()}
    assert check_folder == {"base.safetensors", "tuned.safetensors", "out"}


@pytest.mark.parametrize("command", ["verify", "extract"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_none_under_an_adapter(place, request, command, value):
    """`verify` of an adapter against a checkpoint that holds a NaN must name it."""
    run(*rule()(place))
    (place.at / "out" / "eckart.json").unlink()  # an adapter of another tool states nothing
    bad = place.with_value(value, (3, 4))
    done = run(command, place.pair.base, bad, *(
        [place.at / "out"] if command == "verify" else [place.at / "new", "--rank", 4]
    ))  # fmt: skip
    check(done, "the first at [3, 4]")


def test_a_nan_in_a_tensor_that_only_the_fine_tune_has(place):
    arrays = {**place.pair.after, "extra.weight": np.full((3, 3), np.nan, np.float32)}
    bad = write_pair(place.at / "bad", place.pair.before, arrays).tuned
    done = run(*extract(bad)(place), "--quiet")
    assert done.code == 2
    assert "extra.weight" in done.err and ".out.tmp" not in done.err


def test_a_nan_leaves_no_finished_store(place):
    bad = place.with_value(np.nan, (3, 4))
    check(run("factor", place.pair.base, bad, "-o", place.at / "store"), "the first at [3, 4]")
    check(run("plan", place.at / "store", "--rank", 4), "is not finished")
    # Mended, the pass is one over other files.
    check(run("factor", *place.pair.paths, "-o", place.at / "store"), "--overwrite")
    assert run("factor", *place.pair.paths, "-o", place.at / "store", "--overwrite").code == 0


def test_base_is_tuned_is_said_by_inspect_too(place):
    done = run("inspect", place.pair.base, place.pair.base)
    assert done.code == 0
    assert "Nothing changed" in done.out


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads everything")
def test_permission_denied(place):
    place.pair.tuned.chmod(0)
    check(run(*rule()(place)), "reading it is not permitted")


def little_room(limit: int) -> Callable[[], None]:
    """For a child: no file may grow beyond a limit. The write fails, as it does on a full disk."""
    resource = pytest.importorskip("resource")

    def before_start() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # an error of the write, not a signal
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    return before_start


SMALL = ("--rank", 12)
LARGE = ("--energy", 0.99, "--dtype", "F64")


@pytest.mark.parametrize(
    ("limit", "words", "where"),
    [
        (0, SMALL, ".store"),  # the journal's first line
        (3000, SMALL, "factors"),  # a tensor's factors
        (9000, LARGE, "adapter_model.safetensors"),  # the adapter itself
    ],
)
def test_a_full_disk(place, limit, words, where):
    before = tree(place.at)
    done = start(*rule(*words)(place), preexec_fn=little_room(limit))
    assert done.returncode == 2
    assert done.stderr.startswith("eckart: `") and done.stderr.count("\n") == 1
    assert "cannot be written" in done.stderr and "free space" in done.stderr
    assert str(place.at) in done.stderr and where in done.stderr
    assert done.stdout == ""
    assert tree(place.at) == before


def test_a_full_disk_names_the_folder_asked_for(place):
    done = start(*rule()(place), preexec_fn=little_room(0))
    assert str(place.at / "out") in done.stderr


def test_a_full_disk_leaves_the_old_adapter(place):
    assert run(*rule()(place)).code == 0
    before = tree(place.at)
    done = start(*rule("--rank", 9, "--overwrite")(place), preexec_fn=little_room(2000))
    assert done.returncode == 2 and "cannot be written" in done.stderr
    assert tree(place.at) == before


def test_a_full_disk_under_plan_out(store, place):
    (place.at / "plan.json").write_text("old")
    done = run("plan", store, "--rank", 4, "-o", place.at / "no" / "such" / "plan.json")
    check(done, "cannot be written")
    assert (place.at / "plan.json").read_text() == "old"


def test_a_bug_of_ours_is_one_line_too(place, monkeypatch):
    def broken(*_args, **_how):
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
    def hungry(*_args, **_how):
        raise MemoryError

    monkeypatch.setattr("eckart.cli.factor.fill_store", hungry)
    done = run("factor", *place.pair.paths, "-o", place.at / "store")
    assert done.code == 2 and done.err.startswith("eckart: out of memory") and done.err.count("\n") == 1
