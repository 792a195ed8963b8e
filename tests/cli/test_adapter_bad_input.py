"""For every kind of damaged adapter: exit code 2, one line that names it, and nothing half-written."""

from __future__ import annotations

import json
import os
import pickle
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from support.terminal import Ran, run, tree

Q, DOWN = "model.layers.0.self_attn.q_proj", "model.layers.0.mlp.down_proj"
SHAPES = {Q: (20, 16), DOWN: (16, 24)}
CONFIG = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "down_proj"]}
PREFIX = "base_model.model."
WEIGHTS = "adapter_model.safetensors"


class Pickled:
    """An object that creates a file when it is unpickled, which no command may do."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self):
        return open, (str(self.witness), "w")


def factors() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    tensors = {}
    for name, (m, n) in SHAPES.items():
        tensors[f"{PREFIX}{name}.lora_A.weight"] = random.standard_normal((4, n)).astype(np.float32)
        tensors[f"{PREFIX}{name}.lora_B.weight"] = random.standard_normal((m, 4)).astype(np.float32)
    return tensors


@dataclass(frozen=True)
class Place:
    """A folder with a base, two good adapters ``a`` and ``b``, and whatever a row of a table adds."""

    at: Path

    def __truediv__(self, name: str) -> Path:
        return self.at / name

    @property
    def out(self) -> Path:
        return self.at / "out"

    def file(self, name: str, data: bytes) -> Path:
        (self / name).parent.mkdir(exist_ok=True)
        (self / name).write_bytes(data)
        return self / name

    def empty(self, name: str) -> Path:
        (self / name).mkdir()
        return self / name

    def adapter(self, name: str, tensors: dict | None = None, **config: object) -> Path:
        (self / name).mkdir()
        arrays = {k: v for k, v in (factors() if tensors is None else tensors).items() if v is not None}
        save_file(arrays, self / name / WEIGHTS)
        text = json.dumps({**CONFIG, **config})
        (self / name / "adapter_config.json").write_text(text)
        return self / name

    def changed(self, key: str, value: object, **config: object) -> Path:
        return self.adapter("bad", factors() | {PREFIX + key: value}, **config)

    def with_entry(self, key: str, value: float) -> Path:
        array = factors()[PREFIX + key]
        array[1, 1] = value
        return self.changed(key, array)

    def with_config(self, text: str | bytes) -> Path:
        self.adapter("bad")
        self.file("bad/adapter_config.json", text if isinstance(text, bytes) else text.encode())
        return self / "bad"

    def with_weights(self, data: bytes, name: str = WEIGHTS) -> Path:
        self.adapter("bad")
        (self / "bad" / WEIGHTS).unlink()
        return self.file(f"bad/{name}", data).parent

    def one_file(self, tensors: dict[str, np.ndarray], metadata: dict[str, str] | None = None) -> Path:
        save_file(tensors, self / "bad.safetensors", metadata)
        return self / "bad.safetensors"

    def base(self, name: str, tensors: dict[str, np.ndarray], **config: object) -> Path:
        (self / name).mkdir()
        save_file(tensors, self / name / "model.safetensors")
        (self / name / "config.json").write_text(json.dumps(config))
        return self / name


@pytest.fixture
def place(tmp_path) -> Place:
    place = Place(tmp_path)
    place.adapter("a")
    place.adapter("b")
    weights = {f"{n}.weight": np.ones(s, np.float32) for n, s in SHAPES.items()}
    place.base("base", weights)
    return place


Making = Callable[[Place], Path]


def kohya(**others: object) -> Making:
    def make(place: Place) -> Path:
        stem = "lora_unet_mid_block_attentions_0_proj_in"
        tensors = {
            f"{stem}.lora_down.weight": np.ones((2, 5), np.float32),
            f"{stem}.lora_up.weight": np.ones((3, 2), np.float32),
            f"{stem}.alpha": np.array(2.0, np.float32),
        }
        tensors |= {f"{stem}.{k}" if k.islower() else k: v for k, v in others.items()}
        return place.one_file({k: v for k, v in tensors.items() if v is not None})

    return make


def linked(what: str) -> Making:
    def make(place: Place) -> Path:
        bad = place.adapter("bad")
        (bad / what).unlink()
        (bad / what).symlink_to(place / "a" / what)
        return bad

    return make


def pickle_in_a_folder(place: Place) -> Path:
    return place.with_weights(pickle.dumps(Pickled(place / "ran")), "adapter_model.bin")


def pickle_named(name: str) -> Making:
    return lambda place: place.file(name, pickle.dumps(Pickled(place / "ran")))


def renamed(old: str, new: str) -> Making:
    def make(place: Place) -> Path:
        tensors = {k.replace(old, new): v for k, v in factors().items()}
        return place.adapter("bad", tensors)

    return make


ones = np.ones
KEY_A, KEY_B = f"{Q}.lora_A.weight", f"{Q}.lora_B.weight"

# Every command refuses these adapters with the same message.
UNREADABLE: dict[str, tuple[Making, str]] = {
    "missing": (lambda p: p / "nowhere", "nowhere`: there is no such file or folder"),
    "an empty folder": (
        lambda p: p.empty("bad"),
        "bad`: expected an adapter, found neither adapter_config.json nor a .safetensors file",
    ),
    "A without B": (
        lambda p: p.changed(KEY_B, None),
        f"{Q}`: expected factors A and B, found .*lora_A.weight without B",
    ),
    "B without A": (
        lambda p: p.changed(KEY_A, None),
        f"{Q}`: expected factors A and B, found .*lora_B.weight without A",
    ),
    "shapes": (lambda p: p.changed(KEY_B, ones((20, 3), np.float32)), f"{Q}`: .*do not chain"),
    "one axis": (lambda p: p.changed(KEY_B, ones(20, np.float32)), f"{Q}`: .*do not chain"),
    "rank against r": (lambda p: p.adapter("bad", r=3), "has rank 4, but the configuration states 3"),
    "rank against a pattern": (lambda p: p.adapter("bad", rank_pattern={"q_proj": 2}), "states 2"),
    "r in words": (
        lambda p: p.adapter("bad", r="four"),
        'json: r`: expected a whole number or null, found "four"',
    ),
    "NaN": (
        lambda p: p.with_entry(KEY_A, np.nan),
        f"{WEIGHTS}: {PREFIX}{KEY_A}`: expected finite numbers, found a NaN or an inf",
    ),
    "infinity": (
        lambda p: p.with_entry(KEY_B, np.inf),
        f"{KEY_B}`: expected finite numbers, found a NaN or an inf",
    ),
    "alpha 0": (lambda p: p.adapter("bad", lora_alpha=0), "alpha is 0, expected a number other than 0"),
    "alpha NaN": (
        lambda p: p.adapter("bad", lora_alpha=float("nan")),
        r"the configuration is not valid JSON \(NaN is not a number",
    ),
    "alpha true": (
        lambda p: p.adapter("bad", lora_alpha=True),
        "lora_alpha`: expected a number or null, found true",
    ),
    "alpha in words": (
        lambda p: p.adapter("bad", lora_alpha="16"),
        'lora_alpha`: expected a number or null, found "16"',
    ),
    "alpha a list": (
        lambda p: p.adapter("bad", alpha_pattern={"q_proj": [1]}),
        r"alpha_pattern\.q_proj`: expected a number, found a list of 1 value",
    ),
    "DoRA turned on": (lambda p: p.adapter("bad", use_dora=True), "turns on DoRA"),
    "DoRA found": (
        lambda p: p.changed(f"{Q}.lora_magnitude_vector", ones(20, np.float32)),
        "belongs to DoRA",
    ),
    "LoHa": (kohya(hada_w1_a=ones((2, 2), np.float32)), "belongs to LoHa"),
    "LoKr": (kohya(lokr_w1=ones((2, 2), np.float32)), "belongs to LoKr"),
    "OFT": (kohya(oft_blocks=ones((2, 2, 2), np.float32)), "belongs to OFT"),
    "DoRA of kohya": (kohya(dora_scale=ones((3, 1), np.float32)), "belongs to DoRA"),
    "PiSSA": (lambda p: p.adapter("bad", init_lora_weights="pissa_niter_4"), "pissa_niter_4: .*changed"),
    "a method of others": (lambda p: p.adapter("bad", peft_type="LOHA"), "peft_type LORA, found 'LOHA'"),
    "pickle in a folder": (pickle_in_a_folder, "which can run code when it is loaded"),
    "pickle by name": (pickle_named("lora.bin"), "found a pickle"),
    "pickle .pt": (pickle_named("lora.pt"), "found a pickle"),
    "pickle as safetensors": (pickle_named("lora.safetensors"), "found a pickle"),
    "GGUF": (lambda p: p.file("lora.gguf", b"GGUF" + bytes(64)), "found a GGUF file"),
    "LFS": (lambda p: p.with_weights(b"version https://git-lfs.github.com/spec/v1\n"), "git lfs pull"),
    "empty file": (lambda p: p.with_weights(b""), f"{WEIGHTS}`: the file is empty"),
    "truncated": (lambda p: p.with_weights((p / "a" / WEIGHTS).read_bytes()[:-7]), "truncated"),
    "a text": (lambda p: p.file("a.txt", b"to be or not to be, that is"), "not a safetensors file"),
    "a header of gigabytes": (
        lambda p: p.with_weights((2 << 30).to_bytes(8, "little") + b"{}"),
        "2,147,483,648",
    ),
    "config is not JSON": (lambda p: p.with_config("{r: 4"), "json`: the configuration is not valid JSON"),
    "config is a list": (lambda p: p.with_config("[]"), "adapter_config.json`: expected peft_type LORA"),
    "config is nested": (
        lambda p: p.with_config("[" * 200_000),
        "json`: the configuration is nested too deeply",
    ),
    "config is not text": (
        lambda p: p.with_config(b"\xff\xfe\x00"),
        "adapter_config.json`: the configuration is not valid JSON",
    ),
    "patterns are a list": (
        lambda p: p.adapter("bad", rank_pattern=["q"]),
        "rank_pattern`: expected an object of whole numbers or null, found a list of 1 value",
    ),
    "an invalid expression": (
        lambda p: p.adapter("bad", rank_pattern={"(": 4}),
        r'rank_pattern`: the key "\(" is not a regular expression that PEFT accepts: missing \)',
    ),
    "patterns are a list of pairs": (
        lambda p: p.adapter("bad", rank_pattern=[["q_proj", 4]]),
        "rank_pattern`: expected an object of whole numbers or null, found a list of 1 value",
    ),
    "an expression with flags": (
        lambda p: p.adapter("bad", alpha_pattern={"(?i)Q": 4}),
        r'alpha_pattern`: the key "\(\?i\)Q" is not .* PEFT accepts: global flags not at the start',
    ),
    "an expression with a huge count": (
        lambda p: p.adapter("bad", rank_pattern={"q{99999999999}": 4}),
        "rank_pattern`: the key .* PEFT accepts: the repetition number is too large",
    ),
    "target_parameters are a number": (
        lambda p: p.adapter("bad", target_parameters=5),
        "target_parameters`: expected a list of strings or null, found 5",
    ),
    "weights linked out": (linked(WEIGHTS), "leads out of its folder"),
    "config linked out": (linked("adapter_config.json"), "leads out of its folder"),
    "no factors": (
        lambda p: p.adapter("bad", {"x.weight": ones((2, 2), np.float32)}),
        "expected LoRA factors, found none",
    ),
    "zero-size": (
        lambda p: p.changed(KEY_A, ones((4, 0), np.float32)),
        f"{Q}`: has factors without entries",
    ),
    "rank 0": (
        lambda p: p.adapter(
            "bad",
            {f"{PREFIX}{KEY_A}": ones((0, 16), np.float32), f"{PREFIX}{KEY_B}": ones((20, 0), np.float32)},
            r=0,
        ),
        f"{Q}`: has factors without entries",
    ),
    "integers": (lambda p: p.changed(KEY_A, ones((4, 16), np.int8)), "expected a floating dtype, found int8"),
    "PEFT's keys alone": (lambda p: p.one_file(factors()), "there is no adapter_config.json in its folder"),
    "unknown keys": (lambda p: p.one_file({"w": ones((2, 2), np.float32)}), "found keys such as w"),
    "kohya, alpha 0": (kohya(alpha=np.array(0.0, np.float32)), "alpha is 0.0"),
    "kohya, alpha NaN": (
        kohya(alpha=np.array(np.nan, np.float32)),
        "alpha`: expected a finite number, found nan",
    ),
    "kohya, many alphas": (kohya(alpha=ones(3, np.float32)), "expected one number, found shape"),
    "kohya, no up": (kohya(**{"lora_up.weight": None}), "without B"),
    "kohya's names are a list": (
        lambda p: p.one_file(
            {
                "lora_unet_x.lora_down.weight": ones((2, 3), np.float32),
                "lora_unet_x.lora_up.weight": ones((3, 2), np.float32),
            },
            {"eckart.names": "[1]"},
        ),
        "eckart.names`: the entry: expected an object of strings, found a list of 1 value",
    ),
}


def readers(place: Place, bad: Path) -> Iterator[list[object]]:
    """Yield every command that reads an adapter; in some it is the second of two."""
    yield ["resize", bad, "-o", place.out, "--rank", 2]
    yield ["combine", bad, place / "b", "-o", place.out]
    yield ["combine", place / "a", bad, "-o", place.out, "--rank", 2, "--for", "vllm"]
    yield ["merge", place / "base", bad, "-o", place.out]
    yield ["convert", bad, "-o", place / "out.safetensors", "--to", "kohya"]
    yield ["check", bad, "--for", "vllm"]
    yield ["check", place / "a", "--against", bad]


def refused(done: Ran, message: str) -> None:
    """Check for exit code 2 and, on stderr alone, one line that begins with a place."""
    assert done.code == 2, done
    assert done.out == ""
    assert "Traceback" not in done.err and "internal error" not in done.err, done.err
    assert "\x1b" not in done.err
    assert done.err.startswith("eckart: `") and done.err.count("\n") == 1 and done.err.endswith("\n")
    assert ".tmp" not in done.err, "the hidden staging folder no longer exists"
    assert re.search(message, " ".join(done.err.split())), done.err


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_damaged_adapter_is_refused_by_every_command(name, place):
    make, message = UNREADABLE[name]
    bad = make(place)
    before = tree(place.at)
    for argv in readers(place, bad):
        refused(run(*argv), message)
        assert tree(place.at) == before, argv
    assert not (place / "ran").exists(), "a pickle was run"


# --- command lines ---

Row = tuple[Callable[[Place], list[object]], str]


def resize(*options: object) -> Callable[[Place], list[object]]:
    return lambda p: ["resize", p / "a", "-o", p.out, *options]


def combine(*options: object) -> Callable[[Place], list[object]]:
    return lambda p: ["combine", p / "a", p / "b", "-o", p.out, *options]


def merge(*options: object) -> Callable[[Place], list[object]]:
    return lambda p: ["merge", p / "base", p / "a", p / "b", "-o", p.out, *options]


def full(place: Place) -> list[object]:
    place.file("out/thesis.tex", b"years of work")
    return resize("--rank", 2)(place)


def quantised(place: Place) -> Path:
    tensors = {
        "model.layers.0.self_attn.q_proj.qweight": ones((2, 20), np.int32),
        "model.layers.0.self_attn.q_proj.qzeros": ones((1, 3), np.int32),
        "model.layers.0.self_attn.q_proj.scales": ones((1, 20), np.float16),
    }
    return place.base("q", tensors, quantization_config={"quant_method": "gptq", "bits": 4})


def other_base(place: Place) -> Path:
    return place.base("other", {"transformer.h.0.attn.c_attn.weight": ones((8, 24), np.float32)})


def other_shape(place: Place) -> Path:
    return place.base("other", {f"{n}.weight": ones((9, 9), np.float32) for n in SHAPES})


def for_unet(place: Place) -> Path:
    stem = "unet.mid_block.attentions.0.proj_in"
    return place.one_file(
        {f"{stem}.lora_A.weight": ones((2, 5), np.float32), f"{stem}.lora_B.weight": ones((3, 2), np.float32)}
    )


def with_head(place: Place) -> Path:
    more = {
        f"{PREFIX}lm_head.lora_A.weight": ones((4, 16), np.float32),
        f"{PREFIX}lm_head.lora_B.weight": ones((9, 4), np.float32),
    }
    return place.adapter("bad", factors() | more)


def tied_base(place: Place) -> Path:
    weights = {f"{n}.weight": ones(s, np.float32) for n, s in SHAPES.items()}
    weights["model.embed_tokens.weight"] = ones((9, 16), np.float32)
    return place.base("tied", weights, tie_word_embeddings=True, architectures=["LlamaForCausalLM"])


def nan_base(place: Place) -> Path:
    weights = {f"{n}.weight": np.full(s, np.nan, np.float32) for n, s in SHAPES.items()}
    return place.base("nan", weights)


def half_base(place: Place) -> list[object]:
    """Return a merge whose sum overflows float16."""
    weights = {f"{n}.weight": np.full(s, 65000, np.float16) for n, s in SHAPES.items()}
    base = place.base("half", weights)
    return ["merge", base, place / "a", "-o", place.out, "--weights", "1000"]


LINES: dict[str, Row] = {
    "rank 0": (resize("--rank", 0), "`--rank 0`"),
    "rank -1": (resize("--rank", -1), "`--rank -1`"),
    "rank 2.5": (resize("--rank", 2.5), "--rank"),
    "energy 2": (resize("--energy", 2), r"`--energy 2`"),
    "energy nan": (resize("--energy", "nan"), "finite"),
    "error 2": (resize("--error", 2), "`--error 2`"),
    "two rules": (resize("--rank", 2, "--energy", 0.9), "got --rank and --energy"),
    "no rule": (resize(), "expected exactly one rule, got none"),
    "a share of the base": (resize("--budget", "1%"), "a share of the base needs the base"),
    "the noise floor": (resize("--noise-floor"), "computed from the two checkpoints"),
    "a budget too small": (resize("--budget", "3"), "one component costs at least"),
    "nothing included": (resize("--rank", 2, "--include", "xyz"), "leave none of 2"),
    "an invalid pattern": (resize("--rank", 2, "--exclude", "("), "is not a regular expression"),
    "format foo": (resize("--rank", 2, "--format", "foo"), "'?foo'?.*expected one of peft, kohya, diffusers"),
    "dtype foo": (
        resize("--rank", 2, "--dtype", "foo"),
        "expected one of float32, float16, bfloat16, float64",
    ),
    "for foo": (resize("--rank", 2, "--for", "foo"), "`--for foo`: expected some of peft, vllm"),
    "for clashing": (resize("--rank", 2, "--for", "vllm,comfyui"), "no format is read by all"),
    "format against for": (
        resize("--rank", 2, "--for", "vllm", "--format", "kohya"),
        "not every program of the list reads this format",
    ),
    "workers 0": (resize("--rank", 2, "--workers", 0), "--workers"),
    "base missing": (lambda p: [*resize("--rank", 2, "--for", "tgi")(p), "--base", p / "no"], "no such file"),
    "kohya without suffix": (resize("--rank", 2, "--format", "kohya"), r"ends in \.safetensors"),
    "combine kohya without suffix": (combine("--format", "kohya"), r"ends in \.safetensors"),
    "convert without suffix": (
        lambda p: ["convert", p / "a", "-o", p.out, "--to", "kohya"],
        r"ends in \.safetensors",
    ),
    "PEFT onto a file": (
        lambda p: ["resize", p / "a", "-o", p.file("o", b"x"), "--rank", 2],
        "expected a folder, found a file",
    ),
    "out exists": (full, "the folder is not empty"),
    "out holds other files": (lambda p: [*full(p), "--overwrite"], "has no adapter_config.json"),
    "out is the input": (
        lambda p: ["resize", p / "a", "-o", p / "a", "--rank", 2, "--overwrite"],
        "is or contains the input",
    ),
    "out holds the input": (
        lambda p: ["resize", p / "a", "-o", p.at, "--rank", 2, "--overwrite"],
        "is or contains the input",
    ),
    "combine onto the second input": (
        lambda p: ["combine", p / "a", p / "b", "-o", p / "b", "--overwrite"],
        "is or contains the input",
    ),
    "convert onto itself": (
        lambda p: ["convert", p / "a", "-o", p / "a", "--to", "peft", "--overwrite"],
        "is or contains the input",
    ),
    "merge onto the base": (
        lambda p: ["merge", p / "base", p / "a", "-o", p / "base", "--overwrite"],
        "is or contains the input",
    ),
    "merge over an adapter": (
        lambda p: ["merge", p / "base", p / "a", "-o", p / "a", "--overwrite"],
        "is or contains the input",
    ),
    "out under a file": (
        lambda p: ["resize", p / "a", "-o", p / "a" / WEIGHTS / "o", "--rank", 2],
        f"{WEIGHTS} is a file, not a folder",
    ),
    "file exists": (
        lambda p: ["convert", p / "a", "-o", p.file("k.safetensors", b"x"), "--to", "kohya"],
        "this file exists already",
    ),
    "file is a folder": (
        lambda p: ["convert", p / "a", "-o", p.empty("k.safetensors"), "--to", "kohya"],
        "expected a file, found a folder",
    ),
    "to foo": (
        lambda p: ["convert", p / "a", "-o", p.out, "--to", "foo"],
        "`--to foo`: expected one of peft",
    ),
    "no to": (lambda p: ["convert", p / "a", "-o", p.out], "expected --to"),
    "experts foo": (
        lambda p: ["convert", p / "a", "-o", p.out, "--to", "peft", "--experts", "foo"],
        "expected one of fused, split",
    ),
    "convert, base missing": (
        lambda p: ["convert", p / "a", "-o", p.out, "--to", "peft", "--experts", "split", "--base", p / "no"],
        "no such file",
    ),
    "method foo": (combine("--method", "foo"), "expected one of sum, ties, dare"),
    "density 0": (combine("--method", "ties", "--density", 0), "--density 0"),
    "density 2": (combine("--method", "dare", "--density", 2), "--density 2"),
    "density nan": (combine("--method", "dare", "--density", "nan"), "--density nan"),
    "ties of a negative weight": (
        combine("--method", "ties", "--weights", "1,-1"),
        "TIES needs non-negative weights",
    ),
    "weights too few": (combine("--weights", "1"), "expected one for each of 2 adapters, got 1"),
    "weights too many": (combine("--weights", "1,2,3"), "expected one for each of 2 adapters, got 3"),
    "weights NaN": (combine("--weights", "1,nan"), "expected finite numbers, found nan"),
    "weights infinite": (combine("--weights", "1,inf"), "expected finite numbers, found inf"),
    "weights in words": (combine("--weights", "half,half"), "expected numbers separated by commas"),
    "weights empty": (combine("--weights", ""), "expected numbers separated by commas"),
    "weights zero": (combine("--weights", "0,0"), "all weights are 0; the result would be empty"),
    "merge weights too few": (merge("--weights", "1"), "expected one for each of 2 adapters, got 1"),
    "merge weights NaN": (merge("--weights", "nan,1"), "expected finite numbers"),
    "merge weights in words": (merge("--weights", "a,b"), "expected numbers separated by commas"),
    "merge weights zero": (merge("--weights", "0,0"), "all weights are 0; the result would be empty"),
    "combine of two models": (
        lambda p: ["combine", p / "a", for_unet(p), "-o", p.out],
        "another kind of model",
    ),
    "combine, no adapter": (lambda p: ["combine", "-o", p.out], "expected ADAPTERS"),
    "combine, no out": (lambda p: ["combine", p / "a", p / "b"], "expected --output"),
    "merge, base missing": (lambda p: ["merge", p / "no", p / "a", "-o", p.out], "no`: .*no such file"),
    "merge, base of another model": (
        lambda p: ["merge", other_base(p), p / "a", "-o", p.out],
        f"{DOWN}`: the base has no {DOWN}.weight. Pass the base",
    ),
    "merge, other shapes": (
        lambda p: ["merge", other_shape(p), p / "a", "-o", p.out],
        "its factors make 16 x 24, but the base holds 9 x 9",
    ),
    "merge, dry, other shapes": (
        lambda p: ["merge", other_shape(p), p / "a", "-o", p.out, "--dry-run"],
        "its factors make 16 x 24, but the base holds 9 x 9",
    ),
    "merge, base quantised": (
        lambda p: ["merge", quantised(p), p / "a", "-o", p.out],
        "quantised checkpoints are not supported",
    ),
    "merge, base tied": (
        lambda p: ["merge", tied_base(p), with_head(p), "-o", p.out],
        "ties to the input embedding",
    ),
    "merge, base of NaN": (
        lambda p: ["merge", nan_base(p), p / "a", "-o", p.out, "--workers", 1],
        f"{DOWN}.weight`: .*not finite.*Check the base for NaN",
    ),
    "merge, overflow": (half_base, "not finite in float16"),
    "merge, a pipeline's": (lambda p: ["merge", p / "base", for_unet(p), "-o", p.out], "unet.*has no"),
    "merge, base is an adapter": (
        lambda p: ["merge", p / "b", p / "a", "-o", p.out],
        "found an adapter .*Check the order of the arguments",
    ),
    "merge, base is a pickle": (
        lambda p: ["merge", pickle_named("m.bin")(p), p / "a", "-o", p.out],
        "found a pickle",
    ),
    "check, nothing to check": (lambda p: ["check", p / "a"], "expected --for, --base or --against"),
    "check, for foo": (lambda p: ["check", p / "a", "--for", "vllm,foo"], "`--for foo`: expected some of"),
    "check, base missing": (lambda p: ["check", p / "a", "--base", p / "no"], "no such file"),
    "check, base a pickle": (lambda p: ["check", p / "a", "--base", pickle_named("m.bin")(p)], "a pickle"),
    "check, against missing": (lambda p: ["check", p / "a", "--against", p / "no"], "no such file"),
    "a folder without adapters": (
        lambda p: ["resize", p / "base", "-o", p.out, "--rank", 2],
        "base.*: expected LoRA factors",
    ),
}


def many(place: Place) -> Path:
    (place / "many").mkdir()
    place.adapter("many/first")
    place.adapter("many/second", r=3)
    return place / "many"


@pytest.mark.parametrize("name", LINES)
def test_a_bad_command_line_is_refused(name, place):
    argv, message = LINES[name]
    given = argv(place)
    before = tree(place.at)
    refused(run(*given), message)
    assert tree(place.at) == before
    assert not (place / "ran").exists(), "a pickle was run"


# --- hostile names ---


HOSTILE = ["../../../evil", "/tmp/evil", "..", "a/b", "unet/../../evil", "\x00", "[bold]x[/bold]"]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_component_names_write_nothing_elsewhere(name, place):
    tensors = {
        f"{name}.mid.proj.lora_A.weight": ones((2, 5), np.float32),
        f"{name}.mid.proj.lora_B.weight": ones((3, 2), np.float32),
    }
    bad = place.one_file(tensors, {"eckart.components": json.dumps([name])})
    before, siblings = tree(place.at), set(os.listdir(place.at.parent))
    done = run("convert", bad, "-o", place.out, "--to", "peft")
    refused(done, "`")
    assert tree(place.at) == before and set(os.listdir(place.at.parent)) == siblings


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_module_names_create_no_files(name, place):
    tensors = {
        f"{PREFIX}{name}.lora_A.weight": ones((4, 5), np.float32),
        f"{PREFIX}{name}.lora_B.weight": ones((3, 4), np.float32),
    }
    bad = place.adapter("bad", tensors)
    done = run("resize", bad, "-o", place.out, "--rank", 1)
    assert done.code == 0, done.err
    assert {p.name for p in place.out.iterdir()} == {"adapter_config.json", WEIGHTS, "eckart.json"}
    again = run("check", place.out, "--against", bad)
    assert again.code == 0 and "\x1b" not in again.out
    shown = run("check", place.out, "--base", place / "base")
    assert shown.code == 1 and shown.err.count("\n") == 1
    assert "Traceback" not in shown.err


@pytest.mark.parametrize("name", ["con\nfig", "\x1b[2Jgone", "back\rspace"])
def test_control_characters_in_names_do_not_reach_the_terminal(name, place):
    """The name of a tensor may hold line ends and escape codes; the message about it must not."""
    bad = place.one_file({f"{name}.w": ones((2, 2), np.float32)})
    done = run("convert", bad, "-o", place.out, "--to", "peft")
    assert done.code == 2
    assert done.err.count("\n") == 1 and "\x1b" not in done.err and "\r" not in done.err


def test_control_characters_in_names_do_not_reach_the_terminal_through_check(place):
    name = "\x1b]0;gone\x07"
    pair = {f"{PREFIX}{name}.lora_{x}.weight": ones((4, 4), np.float32) for x in "AB"}
    done = run("check", place.adapter("bad", factors() | pair), "--base", place / "base")
    assert done.code == 1 and "\x1b" not in done.out + done.err


def test_a_hostile_index_is_refused(place):
    place.file(
        "sharded/model.safetensors.index.json",
        json.dumps({"weight_map": {f"{Q}.weight": "../../../../etc/passwd"}}).encode(),
    )
    before = tree(place.at)
    refused(run("merge", place / "sharded", place / "a", "-o", place.out), "etc/passwd")
    assert tree(place.at) == before


def test_a_damaged_statement_is_refused(place):
    bad = place.adapter("bad")
    (bad / "eckart.json").write_text("[" * 200_000)
    refused(
        run("resize", bad, "-o", place.out, "--rank", 2), "eckart.json`: the statement is nested too deeply"
    )
    for error, message in {
        '"none"': 'json: error`: expected a number or null, found "none"',
        "true": "json: error`: expected a number or null, found true",
        "NaN": r"the statement is not valid JSON \(NaN is not a number",
        "1" + "0" * 400: "json: error`: the number is too large: float64 cannot hold it",
    }.items():
        (bad / "eckart.json").write_text(f'{{"error": {error}}}')
        refused(run("check", bad, "--against", place / "a"), message)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads everything")
@pytest.mark.parametrize("name", ["adapter_config.json", WEIGHTS])
def test_a_file_without_read_permission_is_refused(place, name):
    (place / "a" / name).chmod(0)
    refused(run("resize", place / "a", "-o", place.out, "--rank", 2), "permi")


def test_resizing_updates_of_zeros_is_refused(place):
    zeros = {k: np.zeros_like(v) for k, v in factors().items()}
    bad = place.adapter("bad", zeros)
    before = tree(place.at)
    refused(run("resize", bad, "-o", place.out, "--rank", 2), "bad`: the adapter holds no update")
    assert tree(place.at) == before
    assert run("check", bad, "--for", "peft").code == 0


def test_an_adapter_minus_itself_is_refused(place):
    done = run("combine", place / "a", place / "b", "-o", place.out, "--weights", "1,-1")
    refused(done, "every B A is zero")


def test_an_output_inside_an_input_leaves_the_input_unchanged(place):
    before = {name: tree(place / name) for name in ("a", "base")}
    assert run("resize", place / "a", "-o", place / "a" / "small", "--rank", 2).code == 0
    assert run("merge", place / "base", place / "a", "-o", place / "base" / "merged").code == 0
    for name, files in before.items():
        after = tree(place / name)
        assert {file: after[file] for file in files} == files


def test_factors_that_overflow_are_refused_and_nothing_is_written(place):
    big = {k: v * np.float32(1e5) for k, v in factors().items()}
    bad = place.adapter("bad", big)
    before = tree(place.at)
    for argv in (
        ["resize", bad, "-o", place.out, "--rank", 4, "--dtype", "F16"],
        ["resize", bad, "-o", place / "out.safetensors", "--rank", 4, "--dtype", "F16", "--format", "kohya"],
    ):
        refused(run(*argv), "overflow.*--dtype bfloat16 or --dtype float32")
        assert tree(place.at) == before


def test_nothing_is_written_if_the_second_adapter_of_a_folder_is_damaged(place):
    source = many(place)
    before = tree(place.at)
    refused(run("resize", source, "-o", place.out, "--rank", 2), r"many/second.*: has rank 4")
    assert tree(place.at) == before


def test_good_command_lines_succeed(place):
    for argv in (resize("--rank", 2), combine("--rank", 2, "--overwrite"), merge("--dry-run")):
        done = run(*argv(place))
        assert done.code == 0 and done.err == "" and done.out
    assert {p.name for p in place.at.iterdir()} == {"a", "b", "base", "out"}
