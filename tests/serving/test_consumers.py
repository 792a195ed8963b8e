"""What each program makes of an adapter: `check` foresees it, and `--for` makes it right.

The judge is `consumers_emulated`, which was written from the programs' sources and reads the files alone.
"""

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from eckart.adapter import load_adapter
from eckart.checkpoint import Checkpoint
from eckart.errors import AdapterError, InputError, UsageError
from eckart.operations.combine import combine_to
from eckart.operations.compare import compare
from eckart.operations.resize import resize_to
from eckart.serving.check import Problem, Verdict, check_adapter
from eckart.serving.consumers import CONSUMERS, consumers_named
from support.consumers_emulated import (
    PREFIX,
    VLLM_RANKS,
    Refused,
    Unknown,
    computed,
    error,
    intended,
    product,
    split_names,
)

LLM = ["peft", "vllm", "vllm-0.30", "sglang", "llama.cpp", "tgi", "tensorrt-llm"]
IMAGE = ["diffusers", "comfyui"]
EXACT = 1e-6  # factors in float32 carry 6e-8 each, and an update of rank 20 adds up a few tens of them

SHAPES = {
    "self_attn.q_proj": (32, 24),
    "self_attn.k_proj": (24, 24),
    "self_attn.v_proj": (24, 24),
    "self_attn.o_proj": (24, 32),
    "mlp.gate_proj": (40, 24),
    "mlp.up_proj": (40, 24),
    "mlp.down_proj": (24, 40),
}
LAYERS = [f"model.layers.{i}.{part}" for i in range(2) for part in SHAPES]
Q0, K1 = "model.layers.0.self_attn.q_proj", "model.layers.1.self_attn.k_proj"
EXPERTS = "model.layers.0.mlp.experts"
EMBEDDING = "model.embed_tokens"


def random_factors(name: str, m: int, n: int, r: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(list(name.encode()))
    B, A = random.standard_normal((m, r)), random.standard_normal((r, n))
    return B.astype(np.float32), A.astype(np.float32)


def shape_of(name: str) -> tuple[int, int]:
    return SHAPES[name.split(".", 3)[3]]


def write(folder: Path, tensors: dict[str, np.ndarray], **config: object) -> Path:
    folder.mkdir(parents=True)
    save_file({PREFIX + k: np.ascontiguousarray(v) for k, v in tensors.items()},
              folder / "adapter_model.safetensors")  # fmt: skip
    whole = {"peft_type": "LORA", "r": 4, "lora_alpha": 4, "target_modules": "all-linear", "bias": "none"}
    (folder / "adapter_config.json").write_text(json.dumps(whole | config))
    return folder


def llm(folder: Path, ranks: dict[str, int] | int = 4, without: str = "^$", more=None, **config) -> Path:
    """An adapter of two layers; ``ranks`` for some modules, ``without`` those that match."""
    given = ranks if isinstance(ranks, dict) else {}
    default = 4 if isinstance(ranks, dict) else ranks
    tensors = dict(more or {})
    for name in LAYERS:
        if not re.search(without, name):
            B, A = random_factors(name, *shape_of(name), given.get(name, default))
            tensors |= {f"{name}.lora_A.weight": A, f"{name}.lora_B.weight": B}
    pattern = {k: v for k, v in given.items() if v != 4}
    return write(folder, tensors, **({"r": default, "lora_alpha": default, "rank_pattern": pattern} | config))


VARIED, UNDER_R = {Q0: 6, K1: 2}, {Q0: 3, K1: 2}
BIAS = {f"{Q0}.lora_B.bias": np.ones(32, np.float32)}
HEAD = {"lm_head.weight": np.ones((50, 24), np.float32)}
NORM = {"model.norm.weight": np.ones(24, np.float32)}
LAYER_NORM = {"model.layers.0.input_layernorm.weight": np.ones(24, np.float32)}
ROWS = {f"{EMBEDDING}.token_adapter.trainable_tokens_delta": np.ones((2, 24), np.float32)}
TABLE = dict(
    zip(
        (f"{EMBEDDING}.lora_embedding_B", f"{EMBEDDING}.lora_embedding_A"),
        random_factors("table", 24, 50, 4),
        strict=True,
    )
)
HEAD_FACTORS = dict(
    zip(("lm_head.lora_B.weight", "lm_head.lora_A.weight"), random_factors("h", 50, 24, 4), strict=True)
)


def conv(folder: Path) -> Path:
    B, A = random_factors("conv", 8, 27, 4)
    more = {
        "stem.conv.lora_A.weight": A.reshape(4, 3, 3, 3),
        "stem.conv.lora_B.weight": B.reshape(8, 4, 1, 1),
    }
    return llm(folder, more=more)


def fused_experts(folder: Path, **config: object) -> Path:
    """Four experts, gate_up_proj (48, 24) and down_proj (24, 24), of rank 4, beside the attention."""
    more = {}
    for suffix, (m, n) in ((".base_layer", (48, 24)), ("", (24, 24))):
        B, A = random_factors(f"experts{suffix}", m, n, 4 * 4)
        more |= {f"{EXPERTS}{suffix}.lora_A.weight": A, f"{EXPERTS}{suffix}.lora_B.weight": B}
    parameters = [f"{EXPERTS}.gate_up_proj", f"{EXPERTS}.down_proj"]
    return llm(folder, without="mlp", more=more, target_parameters=parameters, **config)


def split_experts(folder: Path, gap: bool = False) -> Path:
    more = {}
    for number in range(4):
        for leaf, (m, n) in (("gate_proj", (24, 24)), ("up_proj", (24, 24)), ("down_proj", (24, 24))):
            if gap and (number, leaf) == (2, "up_proj"):
                continue
            name = f"{EXPERTS}.{number}.{leaf}"
            B, A = random_factors(name, m, n, 4)
            more |= {f"{name}.lora_A.weight": A, f"{name}.lora_B.weight": B}
    return llm(folder, without="mlp", more=more)


def of_rank_520(folder: Path) -> Path:
    B, A = random_factors("wide", 530, 540, 520)
    keys = ("lm_head.lora_B.weight", "lm_head.lora_A.weight")
    return write(folder, dict(zip(keys, (B, A), strict=True)), r=520, lora_alpha=1040)


# Image models


UNET = {
    "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q": (16, 16),
    "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_k": (16, 16),
    "mid_block.attentions.0.transformer_blocks.0.attn2.to_v": (16, 20),
}


def kohya(folder: Path, alphas: list[float | None], ranks=(4, 4, 4)) -> Path:
    folder.mkdir(parents=True)
    tensors = {}
    for (name, (m, n)), alpha, r in zip(UNET.items(), alphas, ranks, strict=True):
        stem = "lora_unet_" + name.replace(".", "_")
        B, A = random_factors(name, m, n, r)
        tensors |= {f"{stem}.lora_down.weight": A, f"{stem}.lora_up.weight": B}
        if alpha is not None:
            tensors[f"{stem}.alpha"] = np.array(alpha, np.float32)
    save_file(tensors, folder / "k.safetensors")
    return folder / "k.safetensors"


def diffusers(folder: Path, bias: bool = False, ranks=(4, 4, 4), **fields: object) -> Path:
    folder.mkdir(parents=True)
    tensors = {}
    for (name, (m, n)), r in zip(UNET.items(), ranks, strict=True):
        B, A = random_factors(name, m, n, r)
        tensors |= {f"unet.{name}.lora_A.weight": A, f"unet.{name}.lora_B.weight": B}
        if bias:
            tensors[f"unet.{name}.lora_B.bias"] = np.ones(m, np.float32)
    metadata = {"lora_adapter_metadata": json.dumps({f"unet.{k}": v for k, v in fields.items()})}
    save_file(tensors, folder / "d.safetensors", metadata if fields else {"format": "pt"})
    return folder / "d.safetensors"


# Every program with adapters that it takes amiss


@dataclass(frozen=True)
class Case:
    """An adapter that a program gets wrong, drops a part of, or refuses, and the words that say so."""

    consumer: str
    make: Callable[[Path], Path]
    severity: str
    words: str


def case(name: str, consumer: str, make, severity: str, words: str):
    return pytest.param(Case(consumer, make, severity, words), id=f"{consumer}: {name}")


def by_words(folder: Path, **how: object) -> Path:
    return llm(folder, **how)  # type: ignore[arg-type]


def making(**how: object) -> Callable[[Path], Path]:
    return lambda folder: by_words(folder, **how)


RS = {"use_rslora": True, "lora_alpha": 3}
EXPRESSION = {"target_modules": r".*\.(self_attn|mlp)\..*"}
ALPHAS = {"lora_alpha": 8, "alpha_pattern": {Q0: 3}}

BEFORE = [
    case("kohya's file", "peft", lambda f: kohya(f, [4, 2, 1]), "refused", "does not read this format"),
    case("ranks and alphas", "vllm-0.30", making(ranks=UNDER_R, **ALPHAS), "wrong", "times what is meant"),
    case("rank 6 where r is 4", "vllm-0.30", making(ranks=VARIED), "wrong", "times what is meant"),
    case("rsLoRA of several ranks", "vllm-0.30", making(ranks=UNDER_R, **RS), "wrong", "times"),
    case("a whole head", "vllm", making(more=HEAD, modules_to_save=["lm_head"]), "refused", "whole"),
    case("biases", "vllm", making(more=BIAS, lora_bias=True), "refused", "lora_bias"),
    case("a rank over r", "vllm-0.30", making(ranks={Q0: 20}), "refused", "has rank 20, and r, .* is 4"),
    case("fused experts", "vllm", fused_experts, "refused", "refuses experts"),
    case("rows of a table", "vllm", making(more=ROWS, trainable_token_indices=[1, 3]), "refused", "rows"),
    case("a whole head", "vllm-0.30", making(more=HEAD, modules_to_save=["lm_head"]), "refused", "whole"),
    case("biases", "vllm-0.30", making(more=BIAS, lora_bias=True), "refused", "lora_bias"),
    case("rank 520", "vllm", of_rank_520, "refused", "takes 512 at most"),
    case("fused experts", "vllm-0.30", fused_experts, "dropped", "drops experts"),
    case("a convolution", "vllm", conv, "refused", "refuses conv"),
    case("kohya's file", "vllm", lambda f: kohya(f, [4, 2, 1]), "refused", "does not read this format"),
    case("rsLoRA", "sglang", making(**RS), "wrong", "times what is meant"),
    case("no v_proj in a layer", "sglang", making(without="1.self_attn.v"), "refused", "needs these"),
    case("up without gate", "sglang", making(without="gate_proj"), "refused", "needs these together"),
    case("an expression", "sglang", making(**EXPRESSION), "refused", "takes a list"),
    case("a whole norm", "sglang", making(more=NORM, modules_to_save=["norm"]), "dropped", "whole tensors"),
    case("a norm of a layer", "sglang", making(more=LAYER_NORM, modules_to_save=["input_layernorm"]),
         "refused", "whole tensors"),
    case("biases", "sglang", making(more=BIAS, lora_bias=True), "dropped", "lora_bias"),
    case("fused experts", "sglang", fused_experts, "refused", "refuses experts"),
    case("a convolution", "sglang", conv, "refused", "refuses conv"),
    case("ranks", "sglang", making(ranks=UNDER_R), "refused", "one rank"),
    case("ranks, alpha = r", "llama.cpp", making(ranks=VARIED, alpha_pattern=VARIED), "wrong", "times"),
    case("rsLoRA", "llama.cpp", making(**RS), "wrong", "times what is meant"),
    case("a whole head", "llama.cpp", making(more=HEAD, modules_to_save=["lm_head"]), "refused", "whole"),
    case("a whole norm", "llama.cpp", making(more=NORM, modules_to_save=["norm"]), "dropped", "whole"),
    case("biases", "llama.cpp", making(more=BIAS, lora_bias=True), "refused", "lora_bias"),
    case("a convolution", "llama.cpp", conv, "refused", "refuses conv"),
    case("fused experts", "llama.cpp", fused_experts, "refused", "experts"),
    case("an expert lacks its up", "llama.cpp", lambda f: split_experts(f, gap=True), "refused", "experts"),
    case("a layer lacks a type", "tgi", making(ranks=8, without="1.self_attn.k"), "dropped", "a layer lacks"),
    case("rank 20", "tgi", making(ranks=20), "wrong", "pads it and rescales"),
    case("rank 4", "tgi", making(ranks=4), "wrong", "pads it and rescales"),
    case("ranks in a type", "tgi", making(ranks={Q0: 16}), "refused", "one rank"),
    case("an embedding", "tgi", making(ranks=8, more=TABLE, rank_pattern={"embed_tokens": 4}), "dropped",
         "drops embedding"),
    case("an embedding of rank 4", "tgi", making(ranks=8, more=TABLE, rank_pattern={"embed_tokens": 4},
         alpha_pattern={"embed_tokens": 4}), "dropped", "drops embedding"),
    case("a whole norm", "tgi", making(ranks=8, more=NORM, modules_to_save=["norm"]), "dropped", "whole"),
    case("biases", "tgi", making(ranks=8, more=BIAS, lora_bias=True), "dropped", "lora_bias"),
    case("split experts", "tgi", split_experts, "dropped", "drops experts"),
    case("ranks", "tensorrt-llm", making(ranks=UNDER_R, alpha_pattern=UNDER_R), "wrong", "times"),
    case("an embedding", "tensorrt-llm", making(more=TABLE), "dropped", "drops embedding"),
    case("a whole head", "tensorrt-llm", making(more=HEAD, modules_to_save=["lm_head"]), "dropped", "whole"),
    case("a whole norm", "tensorrt-llm", making(more=NORM, modules_to_save=["norm"]), "refused", "whole"),
    case("factors of the head", "tensorrt-llm", making(more=HEAD_FACTORS), "dropped", "lm_head"),
    case("biases", "tensorrt-llm", making(more=BIAS, lora_bias=True), "refused", "lora_bias"),
    case("fused experts", "tensorrt-llm", fused_experts, "refused", "experts"),
    case("kohya's alphas", "diffusers", lambda f: kohya(f, [4, 2, 1]), "wrong", "mixes up the alphas"),
    case("a PEFT folder", "diffusers", making(), "refused", "does not read this format"),
    case("an alpha in metadata", "comfyui", lambda f: diffusers(f, r=4, lora_alpha=10), "wrong", "2.5|0.4"),
    case("rsLoRA in metadata", "comfyui", lambda f: diffusers(f, r=4, lora_alpha=10, use_rslora=True),
         "wrong", "times what is meant"),
    case("biases", "comfyui", lambda f: diffusers(f, bias=True), "dropped", "lora_bias"),
    case("a PEFT folder", "comfyui", making(), "refused", "does not read this format"),
]  # fmt: skip


def verdict_of(consumer: str, path: Path) -> Verdict:
    (verdict,) = check_adapter(load_adapter(path), consumer).verdicts
    return verdict


@pytest.mark.parametrize("case", BEFORE)
def test_check_foresees_what_the_program_does(case, tmp_path):
    path = case.make(tmp_path / "a")
    verdict = verdict_of(case.consumer, path)
    try:
        made = computed(case.consumer, path)
    except Refused as reason:
        assert verdict.refused, reason
        assert verdict.error is None
    except Unknown:
        assert verdict.error is None and not verdict.refused and not verdict.right
    else:
        assert not verdict.refused, verdict.problems
        assert verdict.error == pytest.approx(error(intended(path), made), rel=1e-5, abs=1e-7)
    said = [p for p in verdict.problems if p.severity == case.severity]
    assert any(re.search(case.words, f"{p.where} {p.what}") for p in said), verdict.problems
    assert all(p.where and p.what and p.cure for p in verdict.problems)


# After `resize --for` (kinds that no setting makes loadable are left out, and stated)


def arranged(consumer: str, make, name: str, lost: str = "^$"):
    return pytest.param(consumer, make, lost, id=f"{consumer}: {name}")


AFTER = [
    *(arranged(c, making(ranks=VARIED, **ALPHAS), "ranks and alphas") for c in LLM),
    *(arranged(c, making(ranks=VARIED, **RS), "rsLoRA of several ranks") for c in LLM),
    *(arranged(c, making(more=HEAD, modules_to_save=["lm_head"]), "a whole head") for c in LLM),
    *(arranged(c, making(more=BIAS, lora_bias=True), "biases") for c in LLM),
    *(arranged(c, making(without="1.self_attn.k|0.mlp.up"), "gaps") for c in LLM),
    *(arranged(c, making(ranks=20, lora_alpha=10), "rank 20") for c in LLM),
    *(arranged(c, making(more=ROWS, trainable_token_indices=[1, 3]), "rows of a table") for c in LLM),
    *(arranged(c, making(**EXPRESSION), "an expression") for c in LLM),
    *(arranged(c, making(without="o_proj|k_proj|up_proj"), "what some stack") for c in LLM),
    *(arranged(c, making(more=TABLE), "an embedding", "embed" if c in ("tgi", "tensorrt-llm")
               else "^$") for c in LLM),
    *(arranged(c, making(more=HEAD_FACTORS), "factors of the head",
               "lm_head" if c == "tensorrt-llm" else "^$") for c in LLM),
    *(arranged(c, fused_experts, "fused experts", "experts" if c in ("tgi", "tensorrt-llm")
               else "^$") for c in LLM),
    *(arranged(c, split_experts, "split experts", "experts" if c in ("tgi", "tensorrt-llm")
               else "^$") for c in LLM),
    arranged("llama.cpp", lambda f: split_experts(f, gap=True), "an expert without its up"),
    *(arranged(c, conv, "a convolution", "^$" if c == "peft" else "conv") for c in LLM),
    *(arranged(c, lambda f: kohya(f, [4, 2, 1]), "kohya's alphas") for c in IMAGE),
    *(arranged(c, lambda f: kohya(f, [4, None, 1], (4, 6, 2)), "kohya without an alpha") for c in IMAGE),
    *(arranged(c, lambda f: diffusers(f, r=4, lora_alpha=10), "an alpha in metadata") for c in IMAGE),
    *(arranged(c, lambda f: diffusers(f, ranks=(4, 6, 2)), "ranks in a diffusers file") for c in IMAGE),
    *(arranged(c, lambda f: diffusers(f, bias=True), "biases") for c in IMAGE),
]  # fmt: skip


def out_for(folder: Path, consumer: str) -> Path:
    return folder / ("out" if CONSUMERS[consumer].formats[0] == "peft" else "out.safetensors")


def zeros_in(path: Path) -> int:
    """Bytes of components that are zero on both sides, or of modules that are all zeros."""
    file = path / "adapter_model.safetensors" if path.is_dir() else path
    tensors, total = load_file(file), 0
    for key, A in tensors.items():
        for down, up in (("lora_A", "lora_B"), ("lora_down", "lora_up")):
            if key.endswith(f".{down}.weight"):
                B = tensors[key.replace(down, up)]
                empty = ~(A.reshape(len(A), -1).any(axis=1) | B.reshape(len(B), -1).any(axis=0))
                total += int(empty.sum()) * (A[0].size + len(B)) * A.itemsize
        if key.endswith(".lora_embedding_A"):
            B = tensors[key.replace("lora_embedding_A", "lora_embedding_B")]
            total += int((~A.any(axis=1)).sum()) * (A.shape[1] + len(B)) * A.itemsize
    return total


@pytest.mark.parametrize("consumer, make, lost", AFTER)
def test_for_makes_it_right(consumer, make, lost, tmp_path):
    path = make(tmp_path / "a")
    meant = intended(path)
    out = out_for(tmp_path, consumer)
    done = resize_to(path, out, rank=64, consumers=[consumer])
    made = computed(consumer, out)
    kept = {name: update for name, update in meant.items() if not re.search(lost, name)}
    assert error(kept, made) < EXACT
    layout = done.statement.layout
    assert layout.modules_left_out == tuple(sorted(set(meant) - set(kept)))
    assert done.statement.error == pytest.approx(error(meant, made), rel=1e-5, abs=EXACT)
    assert layout.bytes_of_zeros == zeros_in(out)
    assert layout.modules_added == len(set(split_names(made)) - set(split_names(meant)))
    verdict = verdict_of(consumer, out)
    assert verdict.right and verdict.error == 0, verdict.problems
    assert not (bool(layout.modules_left_out) ^ (lost != "^$"))


def test_rank_520_is_cut_to_what_vllm_takes(tmp_path):
    path = of_rank_520(tmp_path / "a")
    done = resize_to(path, tmp_path / "out", rank=999, consumers="vllm")
    made = computed("vllm", tmp_path / "out")
    (update,) = intended(path).values()
    sigma = np.linalg.svd(update, compute_uv=False)
    best = math.sqrt((sigma[512:] ** 2).sum() / (sigma**2).sum())
    assert error(intended(path), made) == pytest.approx(best, rel=1e-4)
    assert done.statement.error == pytest.approx(best, rel=1e-4)
    assert done.statement.layout.options == {"vllm": "--max-lora-rank 512"}
    assert verdict_of("vllm", tmp_path / "out").right


@pytest.mark.parametrize("rank, padded", [(1, 8), (7, 8), (8, 8), (9, 16), (20, 32), (24, 32)])
def test_tgi_gets_a_rank_that_it_computes_right(rank, padded, tmp_path):
    path = making(ranks=rank, lora_alpha=5)(tmp_path / "a")
    resize_to(path, tmp_path / "out", rank=64, consumers="tgi")
    tensors = load_file(tmp_path / "out" / "adapter_model.safetensors")
    assert {len(A) for key, A in tensors.items() if "lora_A" in key} == {padded}
    assert error(intended(path), computed("tgi", tmp_path / "out")) < EXACT


def test_for_all_servers_at_once(tmp_path):
    path = making(ranks=VARIED, without="1.self_attn.k|0.mlp.up", **ALPHAS)(tmp_path / "a")
    done = resize_to(path, tmp_path / "out", rank=64, consumers=",".join(LLM))
    for consumer in LLM:
        assert error(intended(path), computed(consumer, tmp_path / "out")) < EXACT, consumer
    report = check_adapter(load_adapter(tmp_path / "out"), LLM)
    assert report.right and [v.consumer.name for v in report.verdicts] == LLM
    assert done.statement.layout.consumers == tuple(LLM)
    assert done.statement.layout.bytes_of_zeros == zeros_in(tmp_path / "out")


def test_for_both_image_programs_at_once(tmp_path):
    path = diffusers(tmp_path / "a", r=4, lora_alpha=10)
    resize_to(path, tmp_path / "out.safetensors", rank=64, consumers=IMAGE)
    for consumer in IMAGE:
        assert error(intended(path), computed(consumer, tmp_path / "out.safetensors")) < EXACT


def test_check_has_nothing_against_a_right_one(tmp_path):
    path = making(ranks=8, lora_alpha=20)(tmp_path / "a")
    for verdict in check_adapter(load_adapter(path), LLM).verdicts:
        assert verdict.right and verdict.error == 0, verdict.problems
        assert error(intended(path), computed(verdict.consumer.name, path)) < 1e-7
    path = making(ranks=8, use_rslora=True, lora_alpha=20)(tmp_path / "rs")
    for consumer in ("peft", "vllm", "tgi"):
        assert verdict_of(consumer, path).right
        assert error(intended(path), computed(consumer, path)) < 1e-7
    path = diffusers(tmp_path / "d", r=4, lora_alpha=10)
    assert verdict_of("diffusers", path).right and computed("diffusers", path).keys() == intended(path).keys()
    path = kohya(tmp_path / "k", [4, None, 1], (4, 6, 2))
    assert verdict_of("comfyui", path).right
    assert error(intended(path), computed("comfyui", path)) < 1e-7


def test_left_over_tensors_are_dropped_by_peft(tmp_path):
    path = making(more={"model.strange.weight": np.ones((2, 2), np.float32)})(tmp_path / "a")
    (problem,) = verdict_of("peft", path).problems
    assert problem.severity == "dropped" and "strange" in problem.where and problem.cure


# Rules that are not met


@pytest.mark.parametrize("names", ["vllm,comfyui", "diffusers,peft", "llama.cpp,diffusers"])
def test_programs_without_a_common_format(names, tmp_path):
    path = making()(tmp_path / "a")
    with pytest.raises(UsageError, match=r"no format is read by all: .* reads peft"):
        resize_to(path, tmp_path / "out", rank=4, consumers=names)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("names", ["ollama", "vllm,ollama", "v l l m"])
def test_a_program_that_is_not_known(names, tmp_path):
    with pytest.raises(UsageError, match=r"expected some of peft, vllm, .*comfyui"):
        consumers_named(names)
    with pytest.raises(UsageError, match="--for "):
        resize_to(making()(tmp_path / "a"), tmp_path / "out", rank=4, consumers=names)
    assert not (tmp_path / "out").exists()


def test_peft_and_vllm_read_experts_in_two_ways(tmp_path):
    with pytest.raises(UsageError, match="experts fused and some by name"):
        resize_to(fused_experts(tmp_path / "a"), tmp_path / "out", rank=4, consumers="peft,vllm")


def test_nothing_is_left_for_tgi(tmp_path):
    tensors = dict(TABLE)
    path = write(tmp_path / "a", tensors)
    with pytest.raises(AdapterError, match=r"leaves no module: model\.embed_tokens"):
        resize_to(path, tmp_path / "out", rank=4, consumers="tgi")


def test_a_missing_projection_without_any_like_it_needs_the_base(tmp_path):
    path = making(without="v_proj")(tmp_path / "a")
    with pytest.raises(AdapterError, match=r"its shape is not known. Give --base"):
        resize_to(path, tmp_path / "out", rank=4, consumers="sglang")
    base = write_base(tmp_path / "base")
    done = resize_to(path, tmp_path / "out", rank=4, consumers="sglang", base=base)
    assert done.statement.layout.modules_added == 2
    assert error(intended(path), computed("sglang", tmp_path / "out")) < EXACT


# The table of consumers


@pytest.mark.parametrize("name", CONSUMERS)
def test_every_consumer_cites_its_source(name):
    consumer = CONSUMERS[name]
    assert re.match(r"[\w-]+/[\w.-]+[ :]", consumer.source), "begins with owner/project"
    assert re.search(r"\w+\.(py|h|cpp)\b", consumer.source), "names a file"
    assert consumer.name == name and consumer.title and consumer.formats


def test_the_limits_of_vllm():
    vllm, older = CONSUMERS["vllm"], CONSUMERS["vllm-0.30"]
    assert vllm.limits == VLLM_RANKS and vllm.max_rank == VLLM_RANKS[-1]
    for limit, above in zip(VLLM_RANKS, [*VLLM_RANKS[1:], None], strict=True):
        assert vllm.limit_for(limit) == limit
        assert vllm.limit_for(limit + 1) == above
    assert older.limits == vllm.limits
    assert all(c.limits == () for c in CONSUMERS.values() if c not in (vllm, older))


@pytest.mark.parametrize("rank", [*VLLM_RANKS[:4], 5, 17])
def test_the_limit_that_is_advised_admits_the_adapter(rank, tmp_path):
    path = making(ranks=min(rank, 24))(tmp_path / "a")
    option, _, value = verdict_of("vllm", path).options.partition(" ")
    assert option == "--max-lora-rank" and int(value) in VLLM_RANKS
    assert int(value) >= min(rank, 24) and all(v < min(rank, 24) for v in VLLM_RANKS if v < int(value))


# Extract and combine


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    pairs = pytest.importorskip("adapter.pairs")
    return pairs.make_pair(tmp_path_factory.mktemp("pair"), pairs.llama)


WISHES = [{}, {"include": ["q_proj"]}, {"include": [r"layers\.0\."]}]


@pytest.mark.parametrize("wish", WISHES, ids=["all", "q_proj only", "one layer only"])
@pytest.mark.parametrize("consumer", LLM)
def test_extract_for(tuned, consumer, wish, tmp_path):
    import eckart

    how = {"energy": 0.8, "dtype": "F32", **wish}
    if consumer == "tensorrt-llm":
        how["exclude"] = ["lm_head"]  # it skips factors of the head, which are then left out
    eckart.extract(tuned.base, tuned.tuned, tmp_path / "plain", **how)
    done = eckart.extract(tuned.base, tuned.tuned, tmp_path / "out", consumers=[consumer], **how)
    made = computed(consumer, tmp_path / "out")
    meant = intended(tmp_path / "plain")
    assert error(meant, made) < EXACT
    assert len({round(float(np.linalg.norm(u)), 9) for u in meant.values()}) > 1
    change = {n: tuned_update(tuned, n) for n in meant}
    assert done.statement.error == pytest.approx(error(change, made), rel=1e-4)
    layout = done.statement.layout
    assert layout.consumers == (consumer,) and layout.bytes_of_zeros == zeros_in(tmp_path / "out")
    assert layout.modules_added == len(set(made) - set(meant))
    assert verdict_of(consumer, tmp_path / "out").right


def tuned_update(tuned, name: str) -> np.ndarray:
    before, after = (load_file(f / "model.safetensors") for f in (tuned.base, tuned.tuned))
    return after[f"{name}.weight"].astype(np.float64) - before[f"{name}.weight"]


@pytest.mark.parametrize("consumer", LLM)
def test_combine_for(consumer, tmp_path):
    first = making(ranks=VARIED, **ALPHAS)(tmp_path / "a")
    second = making(ranks=3, without="o_proj|0.mlp.down", **RS)(tmp_path / "b")
    done = combine_to([first, second], tmp_path / "out", [0.5, -2.0], consumers=consumer)
    one, two = intended(first), intended(second)
    meant = {n: 0.5 * one[n] - 2.0 * two.get(n, np.zeros_like(one[n])) for n in one}
    made = computed(consumer, tmp_path / "out")
    assert error(meant, made) < EXACT
    assert done.statement.error < EXACT
    assert done.statement.layout.bytes_of_zeros == zeros_in(tmp_path / "out")
    assert verdict_of(consumer, tmp_path / "out").right


def test_combine_states_what_a_program_makes_it_leave_out(tmp_path):
    """The energy left out is that of the sum, not the sum of the two adapters' own."""
    first, second = making(more=TABLE)(tmp_path / "a"), making(more=TABLE)(tmp_path / "b")
    done = combine_to([first, second], tmp_path / "out", [0.5, 0.25], consumers="tgi")
    one = intended(first)
    meant = {n: 0.75 * update for n, update in one.items()}
    expected = error(meant, computed("tgi", tmp_path / "out"))
    assert expected > 0.1
    assert done.statement.error == pytest.approx(expected, rel=1e-5)


# check --base


def write_base(folder: Path, vocabulary: int = 50, tied: bool = False, renamed: str = "") -> Path:
    folder.mkdir()
    tensors = {f"{renamed}{name}.weight": np.zeros(shape_of(name), np.float32) for name in LAYERS}
    tensors[f"{renamed}{EMBEDDING}.weight"] = np.zeros((vocabulary, 24), np.float32)
    if not tied:
        tensors["lm_head.weight"] = np.zeros((vocabulary, 24), np.float32)
    save_file(tensors, folder / "model.safetensors")
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "tie_word_embeddings": tied}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def base_problems(path: Path, base: Path) -> tuple[Problem, ...]:
    report = check_adapter(load_adapter(path), "", Checkpoint.open(base))
    assert report.verdicts == ()
    assert report.right is not bool(report.base_problems)
    return report.base_problems


def test_its_own_base(tmp_path):
    path = making(more=TABLE)(tmp_path / "a")
    assert base_problems(path, write_base(tmp_path / "base")) == ()


def test_a_base_with_other_names(tmp_path):
    B, A = random_factors("x", 4, 5, 4)
    more = {"model.layers.9.mlp.up_proj.lora_A.weight": A, "model.layers.9.mlp.up_proj.lora_B.weight": B}
    path = making(more=more)(tmp_path / "a")
    (problem,) = base_problems(path, write_base(tmp_path / "base"))
    assert problem.severity == "refused" and problem.where == "model.layers.9.mlp.up_proj"
    assert "the base has no model.layers.9.mlp.up_proj.weight" in problem.what


def test_a_base_of_other_shapes(tmp_path):
    tensors = {}
    for name in LAYERS:
        m, n = shape_of(name)
        B, A = random_factors(name, m + (name == Q0), n, 4)
        tensors |= {f"{name}.lora_A.weight": A, f"{name}.lora_B.weight": B}
    (problem,) = base_problems(write(tmp_path / "a", tensors), write_base(tmp_path / "base"))
    assert problem.where == Q0 and "its factors make 33 x 24, the base holds 32 x 24" in problem.what


def test_a_base_with_another_vocabulary(tmp_path):
    path = making(more=TABLE)(tmp_path / "a")
    (problem,) = base_problems(path, write_base(tmp_path / "base", vocabulary=53))
    assert problem.where == EMBEDDING and "another vocabulary" in problem.what
    path = making(more=HEAD, modules_to_save=["lm_head"])(tmp_path / "b")
    (problem,) = base_problems(path, tmp_path / "base")
    assert problem.where == "lm_head.weight" and "(50, 24), the base holds (53, 24)" in problem.what
    path = making(more=HEAD_FACTORS)(tmp_path / "c")
    (problem,) = base_problems(path, tmp_path / "base")
    assert problem.where == "lm_head" and "50 x 24, the base holds 53 x 24" in problem.what


def test_a_base_of_another_architecture(tmp_path):
    folder = tmp_path / "base"
    folder.mkdir()
    save_file({"transformer.h.0.attn.c_attn.weight": np.zeros((24, 72), np.float32)},
              folder / "model.safetensors")  # fmt: skip
    (problem,) = base_problems(making()(tmp_path / "a"), folder)
    assert problem.severity == "refused" and "no module fits this base" in problem.what


def test_a_base_that_ties_its_head(tmp_path):
    path = making(more=HEAD_FACTORS)(tmp_path / "a")
    (problem,) = base_problems(path, write_base(tmp_path / "base", tied=True))
    assert problem.where == "lm_head" and problem.severity == "wrong" and "ties" in problem.what


def test_a_base_under_a_prefix(tmp_path):
    assert base_problems(making()(tmp_path / "a"), write_base(tmp_path / "base", renamed="language.")) == ()


def test_check_needs_something_to_check_against(tmp_path):
    with pytest.raises(UsageError, match="expected --for or --base"):
        check_adapter(load_adapter(making()(tmp_path / "a")), "")


# check --against


def test_against_is_what_numpy_measures_and_what_is_stated(tmp_path):
    path = making(ranks=VARIED, **ALPHAS)(tmp_path / "a")
    resize_to(path, tmp_path / "small", rank=2)
    found = compare(load_adapter(tmp_path / "small"), load_adapter(path))
    meant, made = intended(path), intended(tmp_path / "small")
    assert found.error == pytest.approx(error(meant, made), rel=1e-9)
    assert found.stated == pytest.approx(found.error, rel=1e-4) and found.holds
    for name, update in meant.items():
        apart = np.linalg.norm(update - made[name]) / np.linalg.norm(update)
        assert found.modules[name] == pytest.approx(apart, rel=1e-6, abs=1e-7)
        sigma = np.linalg.svd(update, compute_uv=False)
        assert apart == pytest.approx(np.linalg.norm(sigma[2:]) / np.linalg.norm(sigma), rel=1e-5, abs=EXACT)


def test_against_finds_a_statement_that_is_false(tmp_path):
    path = making(ranks=VARIED)(tmp_path / "a")
    resize_to(path, tmp_path / "small", rank=2)
    statement = json.loads((tmp_path / "small/eckart.json").read_text())
    statement["error"] *= 0.99
    (tmp_path / "small/eckart.json").write_text(json.dumps(statement))
    found = compare(load_adapter(tmp_path / "small"), load_adapter(path))
    assert not found.holds


def test_against_counts_what_either_lacks(tmp_path):
    whole, part = making()(tmp_path / "a"), making(without="k_proj")(tmp_path / "b")
    there, back = (
        compare(load_adapter(part), load_adapter(whole)),
        compare(load_adapter(whole), load_adapter(part)),
    )
    energy = {n: float((u**2).sum()) for n, u in intended(whole).items()}
    gone = sum(e for n, e in energy.items() if "k_proj" in n)
    assert there.error == pytest.approx(math.sqrt(gone / sum(energy.values())), rel=1e-9)
    assert back.error == pytest.approx(math.sqrt(gone / (sum(energy.values()) - gone)), rel=1e-9)
    assert there.modules[K1] == 1.0 and back.modules[K1] == 1.0
    assert compare(load_adapter(whole), load_adapter(whole)).error < 1e-12


def test_against_what_it_was_made_of_in_spite_of_what_a_program_cannot_read(tmp_path):
    """What a layout left out is in the statement's error, and in the measured one."""
    path = making(more=TABLE)(tmp_path / "a")
    resize_to(path, tmp_path / "out", rank=64, consumers="tgi")
    found = compare(load_adapter(tmp_path / "out"), load_adapter(path))
    assert found.error == pytest.approx(error(intended(path), intended(tmp_path / "out")), rel=1e-9)
    assert found.holds and found.error > 0.1


def test_against_another_shape(tmp_path):
    B, A = random_factors("x", 7, 7, 4)
    other = write(tmp_path / "b", {f"{Q0}.lora_A.weight": A, f"{Q0}.lora_B.weight": B})
    with pytest.raises(InputError, match=r"updates a weight of shape"):
        compare(load_adapter(making()(tmp_path / "a")), load_adapter(other))


# The emulations themselves, by hand


def test_a_rank_of_two_by_hand(tmp_path):
    """B A = [[1]] with alpha 6 and r 2, beside a module of rank 1 and alpha 5."""
    one = np.ones((1, 1), np.float32)
    two = {"lora_A.weight": np.full((2, 1), 0.5, np.float32), "lora_B.weight": np.ones((1, 2), np.float32)}
    tensors = {f"model.layers.0.self_attn.q_proj.{k}": v for k, v in two.items()}
    tensors |= {f"model.layers.0.mlp.down_proj.{k}": one for k in two}
    path = write(tmp_path / "a", tensors, r=2, lora_alpha=6, rank_pattern={"down_proj": 1},
                 alpha_pattern={"down_proj": 5})  # fmt: skip
    q, down = "model.layers.0.self_attn.q_proj", "model.layers.0.mlp.down_proj"
    assert product(two["lora_B.weight"], two["lora_A.weight"]) == 1
    for consumer, expected in {
        "peft": (3, 5), "vllm": (3, 5), "vllm-0.30": (3, 3), "llama.cpp": (3, 6), "tensorrt-llm": (3, 6),
        "tgi": (3, 0.75),
    }.items():  # fmt: skip
        made = computed(consumer, path)
        assert (float(made[q][0, 0]), float(made[down][0, 0])) == pytest.approx(expected)
    assert verdict_of("vllm-0.30", path).error == pytest.approx(2 / math.sqrt(34))
    assert verdict_of("vllm", path).error == 0
    assert verdict_of("llama.cpp", path).error == pytest.approx(1 / math.sqrt(34))
