"""What the commands print, and where: results on stdout, remarks on stderr, one JSON document."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file

import eckart
from eckart.checkpoint import write_safetensors
from eckart.rank import RankPlan
from support.pairs import EPS, make_pair, write_pair
from support.terminal import ENVIRONMENT, run, start, tree

COMMANDS = ["demo", "inspect", "factor", "plan", "extract", "verify", "explain"]
PROMISED = [
    "demo", "inspect", "factor", "plan", "extract", "verify", "report", "search", "resize", "combine",
    "merge", "convert", "check", "tune", "compress", "explain", "image", "recommend",
]  # fmt: skip
SHAPES = {
    "model.embed_tokens.weight": (50, 24),
    "model.layers.0.q_proj.weight": (40, 30),
    "model.layers.0.q_proj.bias": (40,),
    "model.layers.1.q_proj.weight": (33, 70),
    "model.norm.weight": (30,),
}
MATRICES = [name for name, shape in SHAPES.items() if len(shape) == 2]
LINEAR = MATRICES[1:]


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder with a pair, a store of it and an adapter, and the truth of the pair."""
    folder = tmp_path_factory.mktemp("work")
    pair = make_pair(folder, shapes=SHAPES)
    eckart.factor(*pair.paths, folder / "store")
    eckart.extract(*pair.paths, folder / "adapter", energy=0.9, base_name="base")
    return folder, pair


def words_of(command, folder, pair):
    """A good command line of every command."""
    return {
        "inspect": ["inspect", *pair.paths],
        "factor": ["factor", *pair.paths, "-o", folder / "store"],
        "plan": ["plan", folder / "store", "--energy", "0.9"],
        "extract": ["extract", *pair.paths, "-o", folder / "new", "--rank", "4"],
        "verify": ["verify", *pair.paths, folder / "adapter"],
        "one": ["inspect", pair.tuned],
        "dry run": ["inspect", *pair.paths, "--dry-run"],
    }[command]


RUNNING = ["inspect", "factor", "plan", "extract", "verify", "one", "dry run"]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(command):
    done = run(command, "--help")
    assert done.code == 0 and done.err == ""
    if command == "demo":  # it takes no input: its own name is the example
        assert "Nothing is downloaded" in " ".join(done.out.split())
        return
    assert re.search(rf"Examples?:.*eckart {command} \S+", " ".join(done.out.split()))


def test_the_list_of_commands():
    done = run("--help")
    assert done.code == 0
    found = re.findall(r"^│ ([a-z]+) ", done.out.partition("Commands")[2], re.MULTILINE)
    assert set(COMMANDS) <= set(found) <= set(PROMISED)
    assert found == [command for command in PROMISED if command in found]
    assert "Exit 0: done; 1: a check failed; 2: bad" in " ".join(done.out.split())
    assert run("-h").out == done.out
    nothing = run()
    assert "Commands" in nothing.out + nothing.err


def test_the_version():
    done = start("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, eckart.__version__ + "\n", "")


@pytest.mark.parametrize("command", RUNNING)
def test_json_is_one_document_on_stdout(work, tmp_path, command):
    folder, pair = work
    argv = words_of(command, folder, pair)
    argv = [tmp_path / "new" if word == folder / "new" else word for word in argv]
    done = run(*argv, "--json")
    assert done.code == 0
    assert isinstance(json.loads(done.out), dict)
    quiet = run(*[tmp_path / "other" if word == tmp_path / "new" else word for word in argv], "--json", "-q")
    assert json.loads(quiet.out).keys() == json.loads(done.out).keys()
    assert quiet.err == ""


@pytest.mark.parametrize("command", RUNNING)
def test_a_pipe_gets_no_escape_codes_and_no_progress(work, tmp_path, command):
    folder, pair = work
    argv = [tmp_path / "new" if w == folder / "new" else w for w in words_of(command, folder, pair)]
    done = run(*argv)
    assert done.code == 0 and done.out
    for text in (done.out, done.err):
        assert "\x1b" not in text and "\r" not in text
        assert "tensors/" not in text
    # every line on stderr is a remark: a note of the files, or what to do next
    assert all(line.startswith(("note: ", "Next: ")) for line in done.err.splitlines())
    assert "note: " not in done.out and "Next: " not in done.out


def test_no_color_and_pipes_as_a_process(work):
    _, pair = work
    for more in ({}, {"NO_COLOR": "1", "TERM": "xterm-256color"}):
        done = start("inspect", *pair.paths, env={**ENVIRONMENT, **more})
        assert done.returncode == 0
        assert "\x1b" not in done.stdout + done.stderr
        assert "q_proj" in done.stdout and done.stderr.startswith("note: Skipped 1 tensor")


@pytest.fixture(scope="module")
def long_pair(tmp_path_factory):
    """Enough layers that their table does not fit into the buffer of a pipe."""
    folder = tmp_path_factory.mktemp("long")
    before = {f"layers.{i}.proj.weight": np.ones((3, 3), np.float32) for i in range(600)}
    after = {name: ones + np.eye(3, dtype=np.float32) for name, ones in before.items()}
    return write_pair(folder, before, after)


@pytest.mark.parametrize("command", [["inspect"], ["inspect", "--json"]], ids=["table", "json"])
def test_into_head(long_pair, request, command):
    with subprocess.Popen(
        [sys.executable, "-m", "eckart", *command, "-q", *map(str, long_pair.paths)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=ENVIRONMENT,
    ) as process:
        assert process.stdout.readline()
        process.stdout.close()  # as `head -1` does
        errors = process.stderr.read().decode()
    assert errors == ""
    assert process.returncode == 0


def test_into_head_gives_no_stack_trace(long_pair):
    line = f"{sys.executable} -m eckart inspect -q {long_pair.base} {long_pair.tuned} | head -1"
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, env=ENVIRONMENT, timeout=60)
    assert done.stdout.startswith("layer") and done.stdout.count("\n") == 1
    assert done.stderr == ""


# inspect


def rows_of(table):
    """The rows of a printed table, as lists of words, by their first word."""
    lines = [line.split() for line in table.splitlines() if line.strip()]
    return {words[0]: words[1:] for words in lines}


def test_inspect_shows_numpy_s_numbers(work):
    _, pair = work
    done = run("inspect", *pair.paths, "--json")
    layers = {row["name"]: row for row in json.loads(done.out)["layers"]}
    assert list(layers) == MATRICES
    for name, row in layers.items():
        sigma = pair.sigma(name)
        energy = np.cumsum(sigma**2) / (sigma**2).sum()
        for percent, share in (("80%", 0.8), ("90%", 0.9), ("95%", 0.95), ("99%", 0.99)):
            assert row["ranks"][percent] == 1 + int(np.argmax(energy >= share))
        tolerance = 20 * EPS  # of LAPACK in float32, relative to sigma_1
        assert row["sigma_1"] == pytest.approx(sigma[0], rel=tolerance)
        assert row["stable_rank"] == pytest.approx((sigma**2).sum() / sigma[0] ** 2, rel=2 * tolerance)
        shares = sigma / sigma.sum()
        entropy = -(shares * np.log(shares, where=shares > 0, out=np.zeros_like(shares))).sum()
        # Each of n values is off by up to eps sigma_1: n times that of their sum.
        assert row["effective_rank"] == pytest.approx(np.exp(entropy), rel=len(sigma) * tolerance)
        base = np.linalg.norm(pair.before[name].astype(np.float64))
        assert row["relative"] == pytest.approx(np.linalg.norm(sigma) / base, rel=1e-6)
        assert row["unchanged"] == np.count_nonzero(pair.update(name) == 0) / pair.update(name).size
        assert row["shape"] == list(SHAPES[name])


def test_the_table_shows_the_same_numbers(work):
    folder, pair = work
    done = run("inspect", *pair.paths)
    rows = rows_of(done.out)
    assert rows["layer"] == [
        "shape", "|dW|/|W|", "sigma_1", "stable", "effective", "r80", "r90", "r95", "r99",
        "knee", "above", "noise", "decay", "unchanged",
    ]  # fmt: skip
    for name in MATRICES:
        sigma = pair.sigma(name)
        energy = np.cumsum(sigma**2) / (sigma**2).sum()
        words = rows[name.removesuffix(".weight")]
        m, n = SHAPES[name]
        base = np.linalg.norm(pair.before[name].astype(np.float64))
        expected = [np.linalg.norm(sigma) / base, sigma[0], (sigma**2).sum() / sigma[0] ** 2]
        assert words[0] == f"{m}x{n}"
        # three significant digits are printed: half of the last is at most 0.5 %
        assert [float(w) for w in words[1:4]] == pytest.approx(expected, rel=5e-3)
        ranks = [1 + int(np.argmax(energy >= e)) for e in (0.8, 0.9, 0.95, 0.99)]
        assert [int(w) for w in words[5:9]] == ranks
        floor = eckart.FactorStore.open(folder / "store").record(name).noise_floor
        assert int(words[10]) == int((sigma > floor).sum())
    shown = sum((pair.sigma(name) ** 2).sum() for name in MATRICES)
    total = sum((pair.update(name) ** 2).sum() for name in SHAPES)
    assert f"3 matrices hold {100 * shown / total:.1f}% of the change's energy; 2 other" in done.out


def test_inspect_of_one_checkpoint(work):
    _, pair = work
    done = run("inspect", pair.tuned, "--json")
    said = json.loads(done.out)
    assert said["diagnosis"] == []
    layers = {row["name"]: row for row in said["layers"]}
    for name in MATRICES:
        sigma = np.linalg.svd(pair.after[name].astype(np.float64), compute_uv=False)
        assert layers[name]["sigma_1"] == pytest.approx(sigma[0], rel=20 * EPS)
        assert layers[name]["relative"] is None
    words = rows_of(run("inspect", pair.tuned).out)[MATRICES[0].removesuffix(".weight")]
    assert words[1] == "-"


def test_inspect_of_a_base_that_is_zero(tmp_path):
    zeros, update = np.zeros((4, 3), np.float32), np.eye(4, 3, dtype=np.float32)
    pair = write_pair(tmp_path, {"a.weight": zeros}, {"a.weight": update})
    done = run("inspect", *pair.paths)
    assert done.code == 0, done.err
    assert rows_of(done.out)["a"][:3] == ["4x3", "-", "1"]


def test_inspect_keeps_a_store_where_one_is_named(work, tmp_path):
    _, pair = work
    first = run("inspect", *pair.paths, "--store", tmp_path / "store")
    assert eckart.FactorStore.open(tmp_path / "store").spectrum(MATRICES[0]).complete
    kept = tree(tmp_path)
    again = run("inspect", *pair.paths, "--store", tmp_path / "store")
    assert (again.out, tree(tmp_path)) == (first.out, kept)


def test_a_dry_run_reads_headers_alone(tmp_path):
    """Two files of 6 GB each, all hole: to read them would take longer than the tests may."""
    shapes = {"0.q.weight": (40_000, 30_000), "1.q.weight": (7, 300), "embed.weight": (90, 7), "b": (40_000,)}
    entries, end = {}, 0
    for name, shape in shapes.items():
        size = 4 * int(np.prod(shape))
        entries[name] = {"dtype": "F32", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(entries).encode()
    for file in ("base", "tuned"):
        with (tmp_path / f"{file}.safetensors").open("wb") as sparse:
            sparse.write(len(text).to_bytes(8, "little") + text)
            sparse.truncate(8 + len(text) + end)
    before = sorted(p.name for p in tmp_path.iterdir())
    pair = [tmp_path / "base.safetensors", tmp_path / "tuned.safetensors"]
    said = json.loads(run("inspect", *pair, "--dry-run", "--json").out)
    assert said["tensors"] == 4 and said["matrices"] == 3
    assert said["parameters"] == sum(int(np.prod(s)) for s in shapes.values())
    assert said["bytes_read"] == 2 * end
    assert set(said["adapter_bytes"]) == {"8", "16", "32", "64", "128"}
    for rank, size in said["adapter_bytes"].items():
        r = int(rank)
        assert size == 4 * (r * 70_000 + min(r, 7) * 307)  # r (m + n) numbers of four bytes, r <= min(m, n)
    assert said["peak_bytes"] >= 3 * 4 * 40_000 * 30_000  # both originals and their difference
    table = run("inspect", *pair, "--dry-run").out
    assert "4 (3 matrices)" in table and f"{2 * end / 1e9:.1f} GB" in table
    assert sorted(p.name for p in tmp_path.iterdir()) == before


# factor, plan, extract, verify


def test_the_commands_one_after_the_other(work, tmp_path):
    _, pair = work
    done = run("factor", *pair.paths, "-o", tmp_path / "store", "--max-rank", "9")
    assert done.code == 0 and "5 tensors, 3 with factors up to rank 9" in done.out
    done = run("plan", tmp_path / "store", "--rank", "6", "-o", tmp_path / "plan.json", "--json")
    written = json.loads((tmp_path / "plan.json").read_text())
    assert written == json.loads(done.out)
    plan = RankPlan.from_json(written)
    assert plan.ranks == dict.fromkeys(LINEAR, 6)
    assert plan.parameters == 6 * (70 + 103)
    argv = ["extract", *pair.paths, "-o", tmp_path / "adapter", "--plan", tmp_path / "plan.json"]
    done = run(*argv, "--store", tmp_path / "store", "--json")
    said = json.loads(done.out)
    assert said["parameters"] == plan.parameters
    assert {name: m["rank"] for name, m in said["modules"].items()} == {
        name.removesuffix(".weight"): 6 for name in LINEAR
    }
    for name in LINEAR:
        sigma = pair.sigma(name)
        best = np.sqrt((sigma[6:] ** 2).sum() / (sigma**2).sum())
        # F32 factors: their rounding is 1e-7 of the update.
        assert said["modules"][name.removesuffix(".weight")]["error"] == pytest.approx(best, abs=1e-6)
    done = run("verify", *pair.paths, tmp_path / "adapter", "--json")
    checked = json.loads(done.out)
    assert done.code == 0 and checked["holds"] is True and checked["problems"] == []
    assert checked["stated"] == said["error"]
    assert checked["error"] == pytest.approx(said["error"], rel=2e-4)  # the tolerance that verify states
    table = rows_of(run("verify", *pair.paths, tmp_path / "adapter").out)
    assert all(table[name.removesuffix(".weight")][-1] == "yes" for name in LINEAR)


def test_plan_goes_back_to_the_checkpoints_and_says_so(work, tmp_path):
    _, pair = work
    run("factor", *pair.paths, "-o", tmp_path / "store", "--max-rank", "2")
    done = run("plan", tmp_path / "store", "--rank", "8")
    assert done.code == 0
    assert done.err.startswith("factoring again 2 of 2 tensors to a higher rank: model.layers.0")
    assert run("plan", tmp_path / "store", "--rank", "8").err == ""
    assert run("plan", tmp_path / "store", "--rank", "9", "--quiet").err == ""


def copy_of(adapter, to):
    shutil.copytree(adapter, to)
    return to


def test_verify_exits_1_on_a_statement_that_is_wrong(work, tmp_path):
    folder, pair = work
    adapter = copy_of(folder / "adapter", tmp_path / "adapter")
    assert run("verify", *pair.paths, adapter).code == 0
    statement = json.loads((adapter / "eckart.json").read_text())
    module = LINEAR[0].removesuffix(".weight")
    statement["modules"][module]["error"] *= 0.9
    (adapter / "eckart.json").write_text(json.dumps(statement))
    done = run("verify", *pair.paths, adapter)
    assert done.code == 1
    assert rows_of(done.out)[module][-1] == "NO"
    assert done.err.startswith("eckart: `") and done.err.count("\n") == 1
    assert "its statement does not hold (1 module, 0 other problems)" in done.err
    said = run("verify", *pair.paths, adapter, "--json")
    assert said.code == 1 and json.loads(said.out)["holds"] is False


def test_verify_exits_1_on_weights_that_are_wrong(work, tmp_path):
    folder, pair = work
    adapter = copy_of(folder / "adapter", tmp_path / "adapter")
    arrays = load_file(adapter / "adapter_model.safetensors")
    name = next(n for n in arrays if "lora_B" in n)
    arrays[name] = arrays[name] * np.float32(1.01)
    write_safetensors(adapter / "adapter_model.safetensors", arrays)
    done = run("verify", *pair.paths, adapter)
    assert done.code == 1 and "Traceback" not in done.err


def test_verify_exits_1_on_the_total_alone(work, tmp_path):
    folder, pair = work
    adapter = copy_of(folder / "adapter", tmp_path / "adapter")
    statement = json.loads((adapter / "eckart.json").read_text())
    statement["error"] /= 2
    (adapter / "eckart.json").write_text(json.dumps(statement))
    assert run("verify", *pair.paths, adapter).code == 1


def test_verify_of_an_adapter_that_states_nothing(work, tmp_path):
    folder, pair = work
    adapter = copy_of(folder / "adapter", tmp_path / "adapter")
    (adapter / "eckart.json").unlink()
    done = run("verify", *pair.paths, adapter)
    assert done.code == 0 and "nothing stated" in done.out
    assert [words[-1] for name, words in rows_of(done.out).items() if "proj" in name] == ["-", "-"]


@pytest.mark.parametrize("text", ["{", "[]", '{"modules": 3}', '{"modules": {"a": 3}}', '{"error": "small"}'])
def test_a_damaged_statement_is_one_line(work, tmp_path, request, text):
    folder, pair = work
    adapter = copy_of(folder / "adapter", tmp_path / "adapter")
    (adapter / "eckart.json").write_text(text)
    done = run("verify", *pair.paths, adapter)
    assert done.code in (1, 2) and done.err.count("\n") == 1
    assert "internal error" not in done.err


# demo


def test_the_demo(tmp_path):
    done = start("demo", "--output", tmp_path / "adapters", "--quiet", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    marks = [
        "The pair of models",
        "The update of each layer",
        "Adapters, with their errors recomputed from the files",
        "Loss on held-out Python code, in nats per byte",
    ]
    places = [done.stdout.index(mark) for mark in marks]
    assert places == sorted(places)
    written, losses = done.stdout[places[2] : places[3]], done.stdout[places[3] :]
    adapters = [line.split() for line in written.splitlines() if line.rstrip().endswith("yes")]
    assert [words[1] for words in adapters] == ["2%", "6%", "18%"]
    assert " NO" not in written
    for words in adapters:
        stated, measured = float(words[-3]), float(words[-2])
        assert abs(stated - measured) <= 2e-4 * measured + 2e-6  # the tolerance that verify states
    stated = [float(words[-3]) for words in adapters]
    assert stated == sorted(stated, reverse=True)  # more parameters, less error
    values = [float(line.split()[-2]) for line in losses.splitlines() if line.rstrip().endswith("%")]
    assert len(values) == 5
    assert values == sorted(values, reverse=True)  # from the base to the fine-tune, step by step
    assert sorted(p.name for p in (tmp_path / "adapters").iterdir()) == ["budget-18", "budget-2", "budget-6"]
    assert [p.name for p in tmp_path.iterdir()] == ["adapters"]
