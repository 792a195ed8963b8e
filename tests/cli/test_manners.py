"""What a new user types: names on the Hub, ~, capitals, percentages, options of other tools."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

import eckart
from eckart.adapter.formats import FORMATS
from eckart.cli import usage
from eckart.errors import EckartError, KeywordError
from support.adapter_files import write_peft
from support.terminal import Ran, run


@pytest.fixture
def place(fine_tune, tmp_path, monkeypatch):
    """The home folder, with ``base``, ``tuned``, ``adapter``, ``store`` and ``ratings.csv``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    for name, source in zip(("base", "tuned"), fine_tune.pair.paths, strict=True):
        copy(source, tmp_path / name)
    copy(fine_tune.adapter, tmp_path / "adapter")
    copy(fine_tune.store, tmp_path / "store")
    (tmp_path / "ratings.csv").write_text("".join(f"u{i % 8},i{i // 4},{i % 5 + 1}\n" for i in range(40)))
    return tmp_path


def copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target)
    else:
        target.mkdir()
        shutil.copyfile(source, target / "model.safetensors")
        if (source.parent / "config.json").is_file():
            shutil.copyfile(source.parent / "config.json", target / "config.json")


def refused(done: Ran) -> str:
    """Return the message of a command that was refused in one line."""
    assert done.code == 2, done
    assert done.out == ""
    assert re.fullmatch(r"eckart: `.+\n", done.err), done.err
    assert "internal error" not in done.err
    return done.err


# Every command with its inputs; X stands for the one that is tried.
INPUTS = [
    "inspect X",
    "inspect X tuned",
    "inspect base X",
    "inspect X --dry-run",
    "factor X tuned -o out",
    "factor base X -o out",
    "extract X tuned -o out --rank 2",
    "extract base X -o out --rank 2",
    "verify X tuned adapter",
    "verify base X adapter",
    "verify base tuned X",
    "resize X -o out --rank 2",
    "resize adapter -o out --rank 2 --base X",
    "combine adapter X -o out",
    "combine adapter -o out --base X",
    "merge X adapter -o out",
    "merge base X -o out",
    "convert X -o out --to peft",
    "convert adapter -o out --to peft --experts split --base X",
    "check X --for vllm",
    "check adapter --base X",
    "check adapter --against X",
]
OTHER_INPUTS = ["plan X --rank 2", "image X", "recommend X"]


def line(command: str, name: str) -> list[str]:
    return [name if word == "X" else word for word in command.split()]


HUB = {
    "meta-llama/Llama-3.2-1B": (
        "hf download meta-llama/Llama-3.2-1B --local-dir Llama-3.2-1B",
        "Llama-3.2-1B",
    ),
    "org/model@v1.0": ("hf download org/model --revision v1.0 --local-dir model", "model"),
    "org/model:unet": ("hf download org/model --include 'unet/*' --local-dir model", "model/unet"),
    "org/model@main:unet": (
        "hf download org/model --revision main --include 'unet/*' --local-dir model",
        "model/unet",
    ),
}


@pytest.mark.parametrize("name", HUB)
@pytest.mark.parametrize("command", INPUTS)
def test_a_hub_name_gets_the_command_that_downloads_it(place, command, name):
    message = refused(run(*line(command, name)))
    download, path = HUB[name]
    assert message.startswith(f"eckart: `{name}`: ")
    assert f"Download it first: {download}. Then pass the path {path}." in message
    assert not (place / "out").exists()


URLS = {
    "https://huggingface.co/org/model": "hf download org/model --local-dir model",
    "https://hf.co/org/model/tree/main/unet": "hf download org/model --revision main --include 'unet/*'",
    "https://huggingface.co/org/model/resolve/main/x.safetensors?download=true": "model/x.safetensors",
    "hf://org/model": "hf download org/model --local-dir model",
    "https://example.com/a//b.safetensors": "Download it first, then pass the path of the file or folder",
    "s3://bucket/model": "Download it first, then pass the path of the file or folder",
}


@pytest.mark.parametrize("url", URLS)
@pytest.mark.parametrize("command", [*INPUTS, *OTHER_INPUTS])
def test_a_url_keeps_its_slashes_and_gets_what_to_do_instead(place, command, url):
    message = refused(run(*line(command, url)))
    assert message.startswith(f"eckart: `{url}`: expected a path, found a URL.")
    assert URLS[url] in message


@pytest.mark.parametrize("wrap", [str, Path])
@pytest.mark.parametrize("url", ["https://huggingface.co/org/model", "hf://org/model"])
def test_python_refuses_a_url_even_as_a_path(wrap, url):
    for call in (eckart.load_adapter, eckart.inspect, eckart.check, eckart.FactorStore.open):
        with pytest.raises(EckartError, match=re.escape(f"`{url}`: expected a path, found a URL")):
            call(wrap(url)) if call is not eckart.check else call(wrap(url), "vllm")


def test_a_folder_with_the_form_of_a_hub_name_is_read(place):
    (place / "org").mkdir()
    shutil.copytree(place / "adapter", place / "org" / "model")
    assert run("check", "org/model", "--for", "peft").code == 0
    # A misspelled folder of one that exists is no name on the Hub.
    assert "Hub" not in refused(run("check", "org/modle", "--for", "peft"))


@pytest.mark.parametrize(
    "command",
    [
        "inspect ~/base ~/tuned --store ~/out",
        "factor ~/base ~/tuned -o ~/out",
        "extract ~/base ~/tuned -o ~/out --rank 2",
        "resize ~/adapter -o ~/out --rank 2",
        "combine ~/adapter ~/adapter -o ~/out",
        "merge ~/base ~/adapter -o ~/out",
        "convert ~/adapter -o ~/out --to peft",
        "plan ~/store --rank 2 -o ~/out",
        "recommend ~/ratings.csv -o ~/out.safetensors",
        "demo --pair -o ~/out",
    ],
)
def test_a_tilde_in_quotes_is_the_home_folder(place, command):
    assert run(*command.split()).code == 0
    assert (place / "out").exists() or (place / "out.safetensors").exists()
    assert not (place / "~").exists()


def test_a_tilde_is_the_home_folder_in_python_too(place):
    eckart.factor("~/base", "~/tuned", "~/new-store")
    eckart.extract("~/base", "~/tuned", "~/new", rank=2, store="~/new-store")
    eckart.resize("~/new", "~/small", rank=1)
    eckart.convert("~/new", "~/new.safetensors", "kohya")
    eckart.merge("~/base", ["~/small"], "~/merged")
    eckart.load_adapter("~/small").save("~/saved")
    assert eckart.verify("~/base", "~/tuned", "~/new").holds
    assert eckart.FactorStore.open("~/new-store").path == place / "new-store"
    for name in ("new-store", "new", "small", "merged", "saved", "new.safetensors"):
        assert (place / name).exists()
    assert not (place / "~").exists()


def test_a_dot_before_the_tilde_means_a_folder_of_that_name(place):
    assert run("convert", "adapter", "-o", "./~", "--to", "peft").code == 0
    assert (place / "~").is_dir()


# Choices and shares


CHOICES = {
    "convert adapter -o out --to": "PEFT Kohya DIFFUSERS",
    "resize adapter -o out --rank 2 --format": "Kohya DIFFUSERS",
    "combine adapter adapter -o out --format": "Kohya",
    "combine adapter adapter -o out --rank 2 --method": "SUM Ties DARE",
    "check adapter --for": "PEFT",
    "extract base tuned -o out --rank 2 --for": "VLLM vLLM",
    "extract base tuned -o out --rank 2 --dtype": "BF16 Float32",
    "extract base tuned -o out --rank 2 --experts": "FUSED Split",
    "extract base tuned -o out --rank 2 --device": "CPU",
    "factor base tuned -o out --device": "Cpu",
    "recommend ratings.csv --method": "ALS Auto",
}


@pytest.mark.parametrize(
    "command, value", [(command, value) for command, values in CHOICES.items() for value in values.split()]
)
def test_every_choice_ignores_case(place, command, value):
    words = command.split()
    is_file = value.lower() in FORMATS and value.lower() != "peft"
    words = ["out.safetensors" if word == "out" and is_file else word for word in words]
    done = run(*words, value)
    assert done.code == 0, done.err


@pytest.mark.parametrize("command", CHOICES)
def test_a_value_that_is_no_choice_is_refused_with_the_choices(place, command):
    option = command.split()[-1]
    message = refused(run(*command.split(), "bogus"))
    assert message.startswith(f"eckart: `{option} bogus`: expected ")
    assert not (place / "out").exists()


@pytest.mark.parametrize("option", ["--experts", "--dtype", "--for", "--device"])
def test_a_wrong_choice_is_refused_before_any_tensor_is_read(place, monkeypatch, option):
    def no_pass(*arguments: object, **options: object) -> None:
        raise AssertionError("a pass was started")

    monkeypatch.setattr("eckart.store.fill.run_tasks", no_pass)
    refused(run("extract", "base", "tuned", "-o", "out", "--rank", "2", option, "bogus"))


def test_a_wrong_method_is_refused_before_the_ratings_are_read(place, monkeypatch):
    def no_reading(*arguments: object) -> None:
        raise AssertionError("the ratings were read")

    monkeypatch.setattr("eckart.cli.recommend.read_ratings", no_reading)
    for options in (["--method", "svd"], ["--rank", "0"], ["--holdout", "1"]):
        refused(run("recommend", "ratings.csv", *options))


SHARES = {
    "plan store --energy": ("90%", "0.9"),
    "plan store --error": ("5%", "0.05"),
    "extract base tuned -o out --overwrite --energy": ("90 %", "0.9"),
    "resize adapter -o out --overwrite --error": ("12.5%", "0.125"),
    "combine adapter adapter -o out --overwrite --rank 2 --method ties --density": ("50%", "0.5"),
    "recommend ratings.csv --holdout": ("20%", "0.2"),
}


@pytest.mark.parametrize("command", SHARES)
def test_every_share_may_be_a_percentage(place, command):
    percentage, share = SHARES[command]
    done, same = run(*command.split(), percentage), run(*command.split(), share)
    assert done.code == 0, done.err
    assert done.out == same.out


@pytest.mark.parametrize("command", SHARES)
def test_a_share_that_is_no_number_is_refused(place, command):
    message = refused(run(*command.split(), "most"))
    assert f"`{command.split()[-1]} most`: expected a share such as 0.9 or 90%." in message


@pytest.mark.parametrize(
    "option, value, fix",
    [
        ("--energy", "90", "Use --energy 0.9 for 90 %."),
        ("--energy", "100", "Use --energy 1 for 100 %."),
        ("--error", "5", "Use --error 0.05 for 5 %."),
        ("--budget", "0.05", "Use --budget 5% for 5% of the base's parameters."),
        ("--budget", "0.5", "Use --budget 50% for 50% of the base's parameters."),
    ],
)
def test_a_number_that_was_meant_as_a_share_is_asked_about(place, option, value, fix):
    assert fix in refused(run("plan", "store", option, value))


@pytest.mark.parametrize(
    "keywords, message",
    [
        ({"energy": 90}, "`energy=90`: expected a share above 0 and at most 1. Use energy=0.9 for 90 %."),
        ({"error": 5}, "Use error=0.05 for 5 %."),
        ({"budget": 0.05}, "`budget=0.05`: this is less than one parameter. Use budget='5%' for 5%"),
        ({"rank": 0}, "`rank=0`: expected a whole number of at least 1."),
        ({"rank": 2, "max_rank": 1, "min_rank": 2}, "Use a larger max_rank or a smaller min_rank."),
        ({}, "Use one of rank=16, energy=0.9, error=0.05, ratio=100, knee=True, noise_floor=True, budget="),
    ],
)
def test_errors_of_python_speak_python(place, keywords, message):
    with pytest.raises(EckartError) as caught:
        eckart.plan("store", **keywords)
    assert message in str(caught.value)
    assert "--" not in str(caught.value)


@pytest.mark.parametrize(
    "options, message",
    [
        ("--rank 0", "`--rank 0`: expected a whole number of at least 1."),
        ("--rank 4 --max-rank 1 --min-rank 2", "Use a larger --max-rank or a smaller --min-rank."),
        (
            "",
            "Use one of --rank 16, --energy 0.9, --error 0.05, --ratio 100, --knee, --noise-floor, --budget",
        ),
        ("--rank 2 --knee", "got --rank and --knee."),
        ("--rank x", "`--rank x`: expected a whole number."),
        ("--ratio x", "`--ratio x`: expected a number."),
    ],
)
def test_errors_of_the_command_line_speak_options(place, options, message):
    assert message in refused(run("plan", "store", *options.split()))


def test_no_message_of_an_existing_output_mixes_the_two_languages(place):
    (place / "out").mkdir()
    (place / "out" / "file").touch()
    line_of_options = refused(run("extract", "base", "tuned", "-o", "out", "--rank", 2))
    assert "pass --overwrite to replace it" in line_of_options and "Python" not in line_of_options
    with pytest.raises(EckartError, match="pass overwrite=True to replace it"):
        eckart.extract("base", "tuned", "out", rank=2)


@pytest.mark.parametrize(
    "call",
    [
        lambda **k: eckart.plan("store", **k),
        lambda **k: eckart.extract("base", "tuned", "out", **k),
        lambda **k: eckart.resize("adapter", "out", **k),
        lambda **k: eckart.combine(["adapter", "adapter"], "out", **k),
    ],
    ids=["plan", "extract", "resize", "combine"],
)
@pytest.mark.parametrize(
    "keyword, nearest",
    [("ranks", "rank"), ("r", "rank"), ("enregy", "energy"), ("target_modules", "include"), ("tol", "error")],
)
def test_an_unknown_keyword_gets_the_nearest_one(place, call, keyword, nearest):
    with pytest.raises(KeywordError, match=rf"`{keyword}=4`: unknown keyword\. Use {nearest}"):
        call(**{keyword: 4})


# Patterns


@pytest.mark.parametrize(
    "pattern, meant",
    [
        ("q_proj,v_proj", "'q_proj|v_proj'"),
        ("q_proj, v_proj", "'q_proj|v_proj'"),
        ("layers.0.*,layers.1.*", "'layers.0.*|layers.1.*'"),
    ],
)
@pytest.mark.parametrize("command", ["plan store --rank 2", "extract base tuned -o out --rank 2"])
def test_a_list_with_commas_gets_the_pattern_that_was_meant(place, command, pattern, meant):
    message = refused(run(*command.split(), "--include", pattern))
    assert "these patterns leave none of" in message
    assert f"Use --include {meant}." in message


def test_patterns_that_leave_nothing_get_names_that_exist(place):
    message = refused(run("plan", "store", "--rank", 2, "--include", "nothing,either"))
    assert "Use patterns that match names such as " in message


# Options of other tools


OTHER_TOOLS = {
    "extract base tuned -o out --rank 2": {
        "--target-modules": "--include REGEX",
        "--target_modules": "--include REGEX",
        "--exclude-modules": "--exclude REGEX",
        "--lora-rank": "--rank N",
        "--r": "--rank N",
        "--dim": "--rank N",
        "--network_dim": "--rank N",
        "--max_lora_rank": "--max-rank N",
        "--out": "--output OUT",
        "--output-dir": "--output OUT",
        "--save-to": "--output OUT",
        "--outfile": "--output OUT",
        "--threshold": "--energy SHARE, --error ERROR or --ratio RATIO",
        "--torch-dtype": "--dtype",
        "--num-workers": "--workers",
        "--force": "--overwrite",
        "--backend": "--for",
        "--rnak": "--rank N",
    },
    "merge base adapter -o out": {"--weight": "--weights NUMBERS", "--save-path": "--output OUT"},
    "convert adapter -o out": {"--format": "--to", "--output-format": "--to"},
}


@pytest.mark.parametrize(
    "command, option, ours",
    [(command, option, ours) for command, table in OTHER_TOOLS.items() for option, ours in table.items()],
)
def test_an_option_of_another_tool_points_to_ours(place, command, option, ours):
    message = refused(run(*command.split(), option, "x"))
    name = command.split()[0]
    assert message.startswith(f"eckart: `{option}`: eckart {name} has no such option. Use {ours}")


@pytest.mark.parametrize("option", sorted(usage.EXPLAINED))
def test_an_option_that_nothing_replaces_is_explained(place, option):
    message = refused(run("extract", "base", "tuned", "-o", "out", "--rank", 2, option, "16"))
    assert "has no such option. Remove it: " in message


def test_an_option_that_resembles_nothing_points_to_the_help(place):
    assert refused(run("merge", "base", "adapter", "--xyzzy")).endswith("All options: eckart merge --help.\n")


@pytest.mark.parametrize(
    "typed, meant", [("extrat", "extract"), ("Verify", "verify"), ("conbine", "combine")]
)
def test_a_misspelled_command_gets_the_nearest_one(place, typed, meant):
    assert f"there is no such command. Use eckart {meant}." in refused(run(typed, "x"))


def test_a_format_in_place_of_a_program_is_explained(place):
    for name, reader in (("kohya", "diffusers"), ("diffusers-old", None)):
        message = refused(run("check", "adapter", "--for", name))
        if reader:
            assert f"{name} is a file format" in message and f"Use --for {reader}, which reads it." in message
        else:
            assert "expected some of peft" in message


# Missing and misplaced arguments


@pytest.mark.parametrize(
    "command, completed",
    [
        ("factor base tuned", "eckart factor base tuned -o OUT"),
        ("extract base tuned --rank 4", "eckart extract base tuned --rank 4 -o OUT"),
        ("resize adapter --rank 4", "eckart resize adapter --rank 4 -o OUT"),
        ("combine adapter adapter", "eckart combine adapter adapter -o OUT"),
        ("merge base adapter", "eckart merge base adapter -o OUT, or --dry-run"),
        ("convert adapter --to peft", "eckart convert adapter --to peft -o OUT"),
        ("convert adapter -o x", "eckart convert adapter -o x --to FORMAT"),
        ("extract base -o x --rank 4", "eckart extract base -o x --rank 4 TUNED"),
        ("extract 'my base' tuned --rank 4", "eckart extract 'my base' tuned --rank 4 -o OUT"),
        ("plan --rank 4", "eckart plan --rank 4 STORE"),
    ],
)
def test_a_missing_argument_gets_the_whole_command(place, command, completed):
    words = [word.strip("'") for word in re.findall(r"'[^']*'|\S+", command)]
    message = refused(run(*words))
    assert re.search(rf"Use:? {re.escape(completed)}\.\n$", message), message


@pytest.mark.parametrize("command", ["combine adapter adapter -o out", "merge base adapter adapter -o out"])
def test_weights_may_be_separated_by_commas_or_repeated_but_not_by_spaces(place, command):
    words = command.split()
    message = refused(run(*words, "--weights", "0.5", "0.25"))
    assert "Use --weights 0.5,0.25, or one --weights for each number." in message
    assert run(*words, "--weights", "0.5,0.25").code == 0
    assert run(*words, "--overwrite", "--weights", "0.5", "--weights", "0.25").code == 0


@pytest.mark.parametrize(
    "command",
    [
        "merge adapter base -o out",
        "merge adapter adapter -o out",
        "extract adapter tuned -o out --rank 2",
        "extract base adapter -o out --rank 2",
        "factor adapter tuned -o out",
        "factor base adapter -o out",
        "verify adapter base tuned",
        "verify base adapter tuned",
        "inspect adapter base",
        "check adapter --base adapter",
        "resize adapter -o out --rank 2 --base adapter",
        "combine adapter adapter -o out --base adapter",
    ],
)
def test_an_adapter_in_place_of_a_model_is_recognised(place, command):
    message = refused(run(*command.split()))
    assert "`adapter`: expected a whole model, found an adapter" in message
    assert "models come first, and adapters after them" in message
    assert not (place / "out").exists()


@pytest.mark.parametrize("command", [*INPUTS, "plan X --rank 2 -o taken.json"])
def test_a_missing_input_is_reported_before_an_output_that_exists(place, command):
    (place / "out").mkdir()
    (place / "out" / "file").touch()
    (place / "taken.json").write_text("{}")
    message = refused(run(*line(command, "nowhere")))
    assert message.startswith("eckart: `nowhere`: ")


@pytest.mark.parametrize(
    "command",
    [
        "image nowhere -o taken.png",
        "recommend nowhere -o taken.safetensors",
        "explain svd nowhere.csv -o taken.md",
    ],
)
def test_a_missing_file_is_reported_before_an_output_that_exists(place, command):
    words = command.split()
    (place / words[-1]).touch()
    assert refused(run(*words)).startswith("eckart: `nowhere")


# Advice


def test_check_advises_a_rank_that_the_program_accepts(tmp_path):
    tensors = {
        f"model.layers.0.self_attn.q_proj.lora_{side}.weight": np.ones(shape, np.float32)
        for side, shape in (("A", (63, 80)), ("B", (80, 63)))
    }
    done = run("check", write_peft(tmp_path / "a", tensors, r=63, lora_alpha=63), "--for", "tgi")
    assert done.code == 1
    assert "correct ranks are 8, 16, 32, 48, 64" in done.out
    assert re.findall(r"--rank (\d+) --for tgi", done.out) and "--rank 63" not in done.out
