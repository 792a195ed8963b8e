"""resize, combine, merge, convert, check: what they print, where, and with which exit code."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from support.terminal import ENVIRONMENT, Ran, run, start, tree

COMMANDS = ["resize", "combine", "merge", "convert", "check"]
LAYERS = {
    "model.layers.0.self_attn.q_proj": (20, 16),
    "model.layers.0.mlp.down_proj": (16, 24),
    "model.layers.1.self_attn.q_proj": (20, 16),
    "model.layers.1.mlp.down_proj": (16, 24),
}
SIGMA = np.array([3.142, 2.718, 1.414, 0.5])
EPS = float(np.finfo(np.float32).eps)


@dataclass(frozen=True)
class Work:
    """A base, two adapters of it, one that a program takes amiss, and the truth of their updates."""

    at: Path
    updates: dict[str, dict[str, np.ndarray]]

    def __truediv__(self, name: str) -> Path:
        return self.at / name


def write_adapter(folder: Path, seed: int, **config: object) -> dict[str, np.ndarray]:
    """Write an adapter of rank 4 whose updates have the singular values SIGMA * alpha / 4."""
    random = np.random.default_rng(seed)
    scale = float(config.get("lora_alpha", 4)) / 4  # type: ignore[arg-type]
    tensors, updates = {}, {}
    for name, (m, n) in LAYERS.items():
        U, V = (np.linalg.qr(random.standard_normal((d, 4)))[0] for d in (m, n))
        B, A = (U * SIGMA).astype(np.float32), np.ascontiguousarray(V.T, np.float32)
        key = f"base_model.model.{name}"
        tensors |= {f"{key}.lora_A.weight": A, f"{key}.lora_B.weight": B}
        updates[name] = scale * (B.astype(np.float64) @ A)
    folder.mkdir()
    save_file(tensors, folder / "adapter_model.safetensors")
    whole = {"peft_type": "LORA", "r": 4, "lora_alpha": 4, "target_modules": ["q_proj", "down_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(whole | config))
    return updates


def write_base(folder: Path) -> None:
    random = np.random.default_rng(9)
    tensors = {f"{n}.weight": random.standard_normal(s).astype(np.float32) for n, s in LAYERS.items()}
    tensors["model.norm.weight"] = np.ones(16, np.float32)
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"]}))


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    folder = tmp_path_factory.mktemp("work")
    write_base(folder / "base")
    updates = {
        "a": write_adapter(folder / "a", 1),
        "b": write_adapter(folder / "b", 2, lora_alpha=6),
        "bad": write_adapter(folder / "bad", 3, alpha_pattern={"layers.0.mlp.down_proj": 12}),
    }
    (folder / "many").mkdir()
    for name in ("one", "two"):
        write_adapter(folder / "many" / name, 4)
    return Work(folder, updates)


def words_of(command: str, work: Work, out: Path) -> list[object]:
    """A good command line of every command."""
    return {
        "resize": ["resize", work / "a", "-o", out / "o", "--rank", 2],
        "resize for": ["resize", work / "a", "-o", out / "o", "--rank", 3, "--for", "vllm,tgi"],
        "resize many": ["resize", work / "many", "-o", out / "o", "--rank", 2],
        "combine": ["combine", work / "a", work / "b", "--weights", "0.7,-0.3", "-o", out / "o"],
        "combine ties": ["combine", work / "a", work / "b", "--method", "ties", "--rank", 3, "-o", out / "o"],
        "merge": ["merge", work / "base", work / "a", "-o", out / "o"],
        "merge, dry": ["merge", work / "base", work / "a", work / "b", "-o", out / "o", "--dry-run"],
        "convert": ["convert", work / "a", "-o", out / "o.safetensors", "--to", "kohya"],
        "check": ["check", work / "a", "--for", "peft,vllm,llama.cpp", "--base", work / "base"],
        "check, against": ["check", work / "a", "--against", work / "b"],
    }[command]


RUNNING = [
    "resize",
    "resize for",
    "resize many",
    "combine",
    "combine ties",
    "merge",
    "merge, dry",
    "convert",
    "check",
    "check, against",
]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(command):
    done = run(command, "--help")
    assert done.code == 0 and done.err == ""
    assert re.search(rf"Examples?:.*eckart {command} \S+", " ".join(done.out.split()))


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_without_arguments_exits_2(command):
    done = run(command)
    assert done.code == 2 and done.out == ""
    assert "expected " in done.err and "Traceback" not in done.err


@pytest.mark.parametrize("command", RUNNING)
def test_json_is_one_document_on_stdout(work, tmp_path, command):
    done = run(*words_of(command, work, tmp_path), "--json")
    assert done.code == 0, done.err
    document = json.loads(done.out)
    assert isinstance(document, list if command == "resize many" else dict)
    (tmp_path / "again").mkdir()
    quiet = run(*words_of(command, work, tmp_path / "again"), "--json", "-q")
    assert quiet.err == ""
    first, second = ([s] if isinstance(s, dict) else s for s in (document, json.loads(quiet.out)))
    assert [s.keys() for s in first] == [s.keys() for s in second]


@pytest.mark.parametrize("command", RUNNING)
def test_a_pipe_gets_text_without_progress_bars(work, tmp_path, command):
    done = run(*words_of(command, work, tmp_path))
    assert done.code == 0 and done.out.strip()
    for text in (done.out, done.err):
        assert "\x1b" not in text and "\r" not in text
        assert "━" not in text and "resizing" not in text and "merging" not in text
    assert all(line.startswith("note: ") for line in done.err.splitlines())
    assert "note: " not in done.out
    (tmp_path / "again").mkdir()
    quiet = run(*words_of(command, work, tmp_path / "again"), "--quiet")
    assert quiet.err == ""
    assert quiet.out.replace("again/", "") == done.out


@pytest.mark.parametrize("command", RUNNING)
def test_only_the_output_is_written(work, tmp_path, command):
    before = tree(work.at)
    assert run(*words_of(command, work, tmp_path)).code == 0
    expected = {"convert": ["o.safetensors"], "merge, dry": [], "check": [], "check, against": []}
    assert sorted(p.name for p in tmp_path.iterdir()) == expected.get(command, ["o"])
    assert tree(work.at) == before, "inputs stay as they were"


def test_a_process_without_a_terminal_prints_plain_text(work, tmp_path):
    for number, more in enumerate(({}, {"NO_COLOR": "1", "TERM": "xterm-256color"})):
        out = tmp_path / str(number)
        done = start("resize", work / "a", "-o", out, "--rank", 2, env={**ENVIRONMENT, **more})
        assert done.returncode == 0 and done.stderr == ""
        assert "\x1b" not in done.stdout and "rank 2" in done.stdout
    done = start("check", work / "bad", "--for", "vllm-0.30", env=ENVIRONMENT)
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "\x1b" not in done.stdout


# resize


def left_after(rank: int) -> float:
    return float(np.sqrt((SIGMA[rank:] ** 2).sum() / (SIGMA**2).sum()))


def read(folder: Path) -> dict[str, np.ndarray]:
    """Return the updates of a PEFT folder without patterns, from its files alone."""
    config = json.loads((folder / "adapter_config.json").read_text())
    tensors = load_file(folder / "adapter_model.safetensors")
    assert not config["rank_pattern"] and not config["alpha_pattern"]
    updates = {}
    for key, A in tensors.items():
        if key.endswith(".lora_A.weight"):
            B = tensors[key.replace("lora_A", "lora_B")]
            name = key.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
            updates[name] = config["lora_alpha"] / config["r"] * (B.astype(np.float64) @ A)
    return updates


def apart(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> float:
    assert one.keys() == other.keys()
    gap = sum(((one[n] - other[n]) ** 2).sum() for n in one)
    return float(np.sqrt(gap / sum((u**2).sum() for u in other.values())))


def test_resize_prints_and_writes_what_numpy_computes(work, tmp_path):
    done = run("resize", work / "a", "-o", tmp_path / "o", "--rank", 2)
    expected = left_after(2)
    assert f"{tmp_path / 'o'}: 4 modules, rank 2" in done.out and "float32" in done.out
    assert f"error {expected:.3g} of the update" in done.out
    assert "arranged" not in done.out
    assert apart(read(tmp_path / "o"), work.updates["a"]) == pytest.approx(expected, rel=1e-5)
    document = json.loads(run("resize", work / "b", "-o", tmp_path / "p", "--error", 0.2, "--json").out)
    rank = next(r for r in range(5) if left_after(r) <= 0.2)
    assert {m["rank"] for m in document["modules"].values()} == {rank}
    assert document["error"] == pytest.approx(left_after(rank), rel=1e-5)
    assert document["adapter"] == str(tmp_path / "p")
    assert document["parameters"] == rank * sum(m + n for m, n in LAYERS.values())


def test_resize_for_programs_prints_the_padding_and_the_option(work, tmp_path):
    done = run("resize", work / "a", "-o", tmp_path / "o", "--rank", 3, "--for", "vllm,tgi")
    zeros = (8 - 3) * sum(m + n for m, n in LAYERS.values()) * 4
    assert f"arranged for vllm, tgi ({zeros / 1000:.1f} kB of zero padding)" in done.out
    assert "start vllm with --max-lora-rank 8" in done.out
    assert run("check", tmp_path / "o", "--for", "vllm,tgi").code == 0


def test_resize_takes_a_folder_of_adapters(work, tmp_path):
    done = run("resize", work / "many", "-o", tmp_path / "o", "--rank", 2, "--json")
    document = json.loads(done.out)
    assert [Path(s["adapter"]).name for s in document] == ["one", "two"]
    assert sorted(p.name for p in (tmp_path / "o").iterdir()) == ["one", "two"]


@pytest.mark.parametrize("options", [["--rank", 2], ["--rank", 2, "--for", "tgi"]])
def test_an_output_is_replaced_only_with_overwrite(work, tmp_path, options):
    argv = ["resize", work / "a", "-o", tmp_path / "o"]
    assert run(*argv, "--rank", 1).code == 0
    before = tree(tmp_path)
    refused = run(*argv, *options)
    assert refused.code == 2 and tree(tmp_path) == before
    assert run(*argv, *options, "--overwrite").code == 0
    assert tree(tmp_path) != before and [p.name for p in tmp_path.iterdir()] == ["o"]


# combine


def test_combine_writes_the_exact_sum_and_prints_the_overlap(work, tmp_path):
    done = run("combine", work / "a", work / "b", "--weights", "0.7,-0.3", "-o", tmp_path / "o")
    a, b = work.updates["a"], work.updates["b"]
    sums = {n: 0.7 * a[n] - 0.3 * b[n] for n in a}
    assert apart(read(tmp_path / "o"), sums) < 20 * EPS
    assert "4 modules, rank 8" in done.out
    row = next(line for line in done.out.splitlines() if line.startswith(f"{work / 'a'} and"))
    cosines = {n: (a[n] * b[n]).sum() / np.linalg.norm(a[n]) / np.linalg.norm(b[n]) for n in a}
    largest = max(cosines, key=lambda n: abs(cosines[n]))
    assert row.split()[-1] == largest and row.split()[-2] == f"{cosines[largest]:+.3f}"


def test_an_adapter_combined_with_itself_keeps_its_rank(work, tmp_path):
    done = run("combine", work / "a", work / "a", "-o", tmp_path / "o", "--json")
    document = json.loads(done.out)
    assert {m["rank"] for m in document["modules"].values()} == {4}, "the sum has the rank of the adapter"
    assert apart(read(tmp_path / "o"), {n: 2 * u for n, u in work.updates["a"].items()}) < 20 * EPS
    for row in document["overlaps"]:
        assert [row["left"], row["right"], row["cosine"]] == pytest.approx([1, 1, 1])


# merge


def test_merge_adds_the_updates_to_the_base(work, tmp_path):
    done = run("merge", work / "base", work / "a", work / "b", "-o", tmp_path / "o", "--weights", "1,-0.5")
    base, model = (load_file(f / "model.safetensors") for f in (work / "base", tmp_path / "o"))
    for name in LAYERS:
        update = work.updates["a"][name] - 0.5 * work.updates["b"][name]
        expected = base[f"{name}.weight"].astype(np.float64) + update
        np.testing.assert_allclose(model[f"{name}.weight"], expected, atol=20 * EPS, rtol=0)
    np.testing.assert_array_equal(model["model.norm.weight"], base["model.norm.weight"])
    assert "changed 4 tensors" in done.out and "rounding error: " in done.out
    assert (tmp_path / "o" / "config.json").read_bytes() == (work / "base" / "config.json").read_bytes()


def test_a_dry_merge_counts_and_writes_nothing(work, tmp_path):
    done = run("merge", work / "base", work / "a", "-o", tmp_path / "o", "--dry-run", "--json")
    document = json.loads(done.out)
    assert document["written"] is False and not list(tmp_path.iterdir())
    assert sorted(document["changed"]) == sorted(f"{n}.weight" for n in LAYERS)
    assert document["bytes"] == 4 * (16 + sum(m * n for m, n in LAYERS.values()))


# convert


def test_converting_there_and_back_gives_the_same_updates(work, tmp_path):
    there = run("convert", work / "b", "-o", tmp_path / "k.safetensors", "--to", "kohya")
    assert there.out.strip() == f"{tmp_path / 'k.safetensors'}: 4 modules, peft to kohya"
    back = run("convert", tmp_path / "k.safetensors", "-o", tmp_path / "p", "--to", "peft", "--json")
    document = json.loads(back.out)
    assert (document["from"], document["to"], document["modules"]) == ("kohya", "peft", 4)
    assert apart(read(tmp_path / "p"), work.updates["b"]) == 0
    stem = "lora_unet_model_layers_0_mlp_down_proj"
    assert load_file(tmp_path / "k.safetensors")[f"{stem}.alpha"] == 6


# check


def rows_of(done: Ran) -> dict[str, list[str]]:
    lines = [re.split(r"\s{2,}", line.strip()) for line in done.out.splitlines()]
    return {words[0]: words[1:] for words in lines if len(words) == 4}


def test_check_finds_nothing_wrong(work):
    done = run("check", work / "a", "--for", "peft,vllm,llama.cpp", "--base", work / "base")
    assert done.code == 0 and done.err == ""
    assert rows_of(done) == {
        "program": ["correct", "error of its update", "start it with"],
        "PEFT": ["yes", "0", "-"],
        "vLLM": ["yes", "0", "--max-lora-rank 8"],
        "llama.cpp": ["yes", "0", "-"],
    }


def test_check_exits_1_and_prints_a_fix(work):
    done = run("check", work / "bad", "--for", "peft,vllm-0.30", "--json")
    document = json.loads(done.out)
    assert done.code == 1 and document["holds"] is False
    assert [(p["name"], p["holds"]) for p in document["programs"]] == [("peft", True), ("vllm-0.30", False)]
    updates = work.updates["bad"]
    wrong = "model.layers.0.mlp.down_proj"  # meant three times as large as vLLM makes it
    whole = sum((u**2).sum() for u in updates.values()) + 8 * (updates[wrong] ** 2).sum()
    expected = np.sqrt(4 * (updates[wrong] ** 2).sum() / whole)
    assert document["programs"][1]["error"] == pytest.approx(expected, rel=1e-6)
    (problem,) = document["programs"][1]["problems"]
    assert problem["where"] == wrong and problem["severity"] == "wrong"
    assert document["programs"][1]["source"].startswith("vllm-project/vllm")
    assert done.err.splitlines() == [
        f"eckart: `{work / 'bad'}`: would not be loaded correctly by vLLM 0.30. See the fixes above."
    ]
    printed = run("check", work / "bad", "--for", "peft,vllm-0.30")
    assert rows_of(printed)["vLLM 0.30"] == ["NO", f"{expected:.3g}", "--max-lora-rank 8"]
    assert f"vLLM 0.30: {wrong} (wrong): " in printed.out and "Fix: eckart resize" in printed.out


def test_the_fix_that_check_prints_fixes_the_adapter(work, tmp_path):
    """The command that is printed, with its placeholders filled in, makes check hold."""
    document = json.loads(run("check", work / "bad", "--for", "vllm-0.30", "--json").out)
    fix = document["programs"][0]["problems"][0]["fix"]
    command = fix.replace("OUT", str(tmp_path / "o")).replace("ADAPTER", str(work / "bad"))
    done = run(*command.replace("--rank R", "--rank 4").split()[1:])
    assert done.code == 0, done.err
    assert run("check", tmp_path / "o", "--for", "vllm-0.30").code == 0
    assert run("check", tmp_path / "o", "--against", work / "bad").code == 0
    updates = dict(work.updates["bad"])
    updates["model.layers.0.mlp.down_proj"] = 3 * updates["model.layers.0.mlp.down_proj"]
    assert apart(read(tmp_path / "o"), updates) < 20 * EPS


def test_check_against_measures_the_difference(work, tmp_path):
    run("resize", work / "a", "-o", tmp_path / "o", "--rank", 3)
    done = run("check", tmp_path / "o", "--against", work / "a")
    assert done.code == 0
    expected = f"{left_after(3):.4g}"
    assert re.search(rf"measured {expected}\d*, stated {expected}\d*", done.out)
    statement = json.loads((tmp_path / "o" / "eckart.json").read_text())
    statement["error"] /= 2
    (tmp_path / "o" / "eckart.json").write_text(json.dumps(statement))
    done = run("check", tmp_path / "o", "--against", work / "a")
    assert done.code == 1 and "states an error that does not hold" in done.err
    done = run("check", work / "a", "--against", work / "b")
    assert done.code == 0 and "nothing stated" in done.out


def test_check_finds_that_a_base_does_not_fit(work, tmp_path):
    (tmp_path / "base").mkdir()
    save_file({"h.0.weight": np.ones((3, 3), np.float32)}, tmp_path / "base" / "model.safetensors")
    done = run("check", work / "a", "--base", tmp_path / "base")
    assert done.code == 1 and "does not fit the base. See the fixes above" in done.err
    assert "no module fits this base" in done.out


def test_check_exits_2_for_bad_input(work):
    assert run("check", work / "nowhere", "--for", "vllm").code == 2
    assert run("check", work / "a", "--for", "nothing").code == 2
    assert run("check", work / "a").code == 2


STOPPED = """
import os, signal
from eckart.checkpoint import OutputFolder
from eckart.cli import app, usage

def work(program):
    with OutputFolder("out") as staging:
        (staging / "half").write_text("half")
        os.kill(os.getpid(), signal.SIGTERM)

usage.run = work
app.main()
"""


def test_a_stopped_program_leaves_nothing_half_written(tmp_path):
    done = subprocess.run([sys.executable, "-c", STOPPED], cwd=tmp_path, env=ENVIRONMENT, check=False)
    assert done.returncode == 128 + signal.SIGTERM
    assert list(tmp_path.iterdir()) == []
