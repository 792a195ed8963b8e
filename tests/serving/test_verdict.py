"""`check` predicts what each program does with an adapter.

The judge is `support.consumers_emulated`, written from the programs' sources: it reads the files alone.
"""

import math
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from eckart.adapter import load_adapter
from eckart.adapter.experts import ExpertsLayout
from eckart.checkpoint import Checkpoint
from eckart.errors import UsageError
from eckart.serving import CONSUMERS, Consumer, Scaling, Severity, Treatment, Verdict, check
from support.adapter_files import (
    ALPHAS,
    HEAD_FACTORS,
    PEFT_READERS,
    Q0,
    Q0_BIAS,
    RANKS_UNDER_R,
    REPLACED_ROWS,
    RSLORA,
    TABLE_FACTORS,
    TARGETS_EXPRESSION,
    VARIED_RANKS,
    WHOLE_HEAD,
    WHOLE_LAYER_NORM,
    WHOLE_NORM,
    adapter_of_rank_520,
    adapter_with,
    adapter_with_convolution,
    adapter_with_fused_experts,
    adapter_with_split_experts,
    diffusers_file,
    kohya_file,
    write_base,
    write_peft,
)
from support.consumers_emulated import (
    VLLM_RANKS,
    Refused,
    Unknown,
    computed,
    error,
    intended,
    product,
)


def verdict_of(consumer: str, path: Path) -> Verdict:
    (verdict,) = check(path, consumer).verdicts
    return verdict


# Every program, with adapters that it does not load correctly


@dataclass(frozen=True)
class Case:
    """An adapter that a program does not load correctly, and the message that reports it."""

    consumer: str
    make: Callable[[Path], Path]
    severity: str
    message: str


def case(name: str, consumer: str, make: Callable[[Path], Path], severity: str, message: str):
    return pytest.param(Case(consumer, make, severity, message), id=f"{consumer}: {name}")


def saves(module: str, tensors: dict[str, np.ndarray], **settings: object) -> Callable[[Path], Path]:
    return adapter_with(more=tensors, modules_to_save=[module], **settings)


def kohya(folder: Path) -> Path:
    return kohya_file(folder, [4, 2, 1])


HEAD, NORM = saves("lm_head", WHOLE_HEAD), saves("norm", WHOLE_NORM)
BIASES = adapter_with(more=Q0_BIAS, lora_bias=True)
TABLE_OF_RANK_4 = {"ranks": 8, "more": TABLE_FACTORS, "rank_pattern": {"embed_tokens": 4}}

INCORRECT = [
    case("kohya's file", "peft", kohya, "refused", "format is not read"),
    case("kohya's file", "vllm", kohya, "refused", "format is not read"),
    case("a whole head", "vllm", HEAD, "refused", "whole"),
    case("biases", "vllm", BIASES, "refused", "lora_bias"),
    case("fused experts", "vllm", adapter_with_fused_experts, "refused", "experts are refused"),
    case(
        "rows of a table",
        "vllm",
        adapter_with(more=REPLACED_ROWS, trainable_token_indices=[1, 3]),
        "refused",
        "rows",
    ),
    case("rank 520", "vllm", adapter_of_rank_520, "refused", "largest accepted rank is 512"),
    case("a convolution", "vllm", adapter_with_convolution, "refused", "convolutions are refused"),
    case(
        "ranks and alphas",
        "vllm-0.30",
        adapter_with(ranks=RANKS_UNDER_R, **ALPHAS),
        "wrong",
        "times as large as intended",
    ),
    case(
        "rank 6 where r is 4",
        "vllm-0.30",
        adapter_with(ranks=VARIED_RANKS),
        "wrong",
        "times as large as intended",
    ),
    case(
        "rsLoRA of several ranks", "vllm-0.30", adapter_with(ranks=RANKS_UNDER_R, **RSLORA), "wrong", "times"
    ),
    case(
        "a rank over r",
        "vllm-0.30",
        adapter_with(ranks={Q0: 20}),
        "refused",
        "rank 20 does not fit, because the program reserves memory for r, which is 4",
    ),
    case("a whole head", "vllm-0.30", HEAD, "refused", "whole"),
    case("biases", "vllm-0.30", BIASES, "refused", "lora_bias"),
    case("fused experts", "vllm-0.30", adapter_with_fused_experts, "dropped", "experts are dropped"),
    case("rsLoRA", "sglang", adapter_with(**RSLORA), "wrong", "times as large as intended"),
    case(
        "no v_proj in a layer",
        "sglang",
        adapter_with(without="1.self_attn.v"),
        "refused",
        "this module is required",
    ),
    case(
        "up without gate",
        "sglang",
        adapter_with(without="gate_proj"),
        "refused",
        "next to others of its layer",
    ),
    case(
        "an expression",
        "sglang",
        adapter_with(**TARGETS_EXPRESSION),
        "refused",
        "the program needs a list of modules",
    ),
    case("a whole norm", "sglang", NORM, "dropped", "whole tensors"),
    case(
        "a norm of a layer", "sglang", saves("input_layernorm", WHOLE_LAYER_NORM), "refused", "whole tensors"
    ),
    case("biases", "sglang", BIASES, "dropped", "lora_bias"),
    case("fused experts", "sglang", adapter_with_fused_experts, "refused", "experts are refused"),
    case("a convolution", "sglang", adapter_with_convolution, "refused", "convolutions are refused"),
    case("ranks", "sglang", adapter_with(ranks=RANKS_UNDER_R), "refused", "one rank"),
    case(
        "ranks, alpha = r",
        "llama.cpp",
        adapter_with(ranks=VARIED_RANKS, alpha_pattern=VARIED_RANKS),
        "wrong",
        "times",
    ),
    case("rsLoRA", "llama.cpp", adapter_with(**RSLORA), "wrong", "times as large as intended"),
    case("a whole head", "llama.cpp", HEAD, "refused", "whole"),
    case("a whole norm", "llama.cpp", NORM, "dropped", "whole"),
    case("biases", "llama.cpp", BIASES, "refused", "lora_bias"),
    case("a convolution", "llama.cpp", adapter_with_convolution, "refused", "convolutions are refused"),
    case("fused experts", "llama.cpp", adapter_with_fused_experts, "refused", "experts"),
    case(
        "an expert lacks its up",
        "llama.cpp",
        lambda f: adapter_with_split_experts(f, gap=True),
        "refused",
        "experts",
    ),
    case(
        "a layer lacks a type",
        "tgi",
        adapter_with(ranks=8, without="1.self_attn.k"),
        "dropped",
        "that one layer lacks",
    ),
    case(
        "rank 20",
        "tgi",
        adapter_with(ranks=20),
        "wrong",
        "rank 20 would be padded, and then scaled",
    ),
    case("rank 4", "tgi", adapter_with(ranks=4), "wrong", "rank 4 would be padded, and then scaled"),
    case("ranks in a type", "tgi", adapter_with(ranks={Q0: 16}), "refused", "one rank"),
    case("an embedding", "tgi", adapter_with(**TABLE_OF_RANK_4), "dropped", "tables are dropped"),
    case(
        "an embedding of rank 4",
        "tgi",
        adapter_with(**TABLE_OF_RANK_4, alpha_pattern={"embed_tokens": 4}),
        "dropped",
        "tables are dropped",
    ),
    case("a whole norm", "tgi", saves("norm", WHOLE_NORM, ranks=8), "dropped", "whole"),
    case("biases", "tgi", adapter_with(ranks=8, more=Q0_BIAS, lora_bias=True), "dropped", "lora_bias"),
    case("split experts", "tgi", adapter_with_split_experts, "dropped", "experts are dropped"),
    case(
        "ranks",
        "tensorrt-llm",
        adapter_with(ranks=RANKS_UNDER_R, alpha_pattern=RANKS_UNDER_R),
        "wrong",
        "times",
    ),
    case(
        "an embedding",
        "tensorrt-llm",
        adapter_with(more=TABLE_FACTORS),
        "dropped",
        "tables are dropped",
    ),
    case("a whole head", "tensorrt-llm", HEAD, "dropped", "whole"),
    case("a whole norm", "tensorrt-llm", NORM, "refused", "whole"),
    case("factors of the head", "tensorrt-llm", adapter_with(more=HEAD_FACTORS), "dropped", "lm_head"),
    case("biases", "tensorrt-llm", BIASES, "refused", "lora_bias"),
    case("fused experts", "tensorrt-llm", adapter_with_fused_experts, "refused", "experts"),
    case("kohya's alphas", "diffusers", kohya, "wrong", "mixes up alphas that differ within a kohya file"),
    case("a PEFT folder", "diffusers", adapter_with(), "refused", "format is not read"),
    case(
        "an alpha in metadata",
        "comfyui",
        lambda f: diffusers_file(f, r=4, lora_alpha=10),
        "wrong",
        r"be 0\.4 times",
    ),
    case(
        "rsLoRA in metadata",
        "comfyui",
        lambda f: diffusers_file(f, r=4, lora_alpha=10, use_rslora=True),
        "wrong",
        "times as large as intended",
    ),
    case("biases", "comfyui", lambda f: diffusers_file(f, bias=True), "dropped", "lora_bias"),
    case("a PEFT folder", "comfyui", adapter_with(), "refused", "format is not read"),
]


@pytest.mark.parametrize("case", INCORRECT)
def test_check_predicts_what_the_program_does(case, tmp_path):
    path = case.make(tmp_path / "a")
    verdict = verdict_of(case.consumer, path)
    try:
        update = computed(case.consumer, path)
    except Refused as reason:
        assert verdict.is_refused, reason
        assert verdict.error is None
    except Unknown:
        assert verdict.error is None and not verdict.is_refused and not verdict.holds
    else:
        assert not verdict.is_refused, verdict.problems
        assert verdict.error == pytest.approx(error(intended(path), update), rel=1e-5, abs=1e-7)
    expected = [p for p in verdict.problems if p.severity is Severity(case.severity)]
    assert any(re.search(case.message, f"{p.where} {p.what}") for p in expected), verdict.problems
    assert all(p.where and p.what and p.fix for p in verdict.problems)


@pytest.mark.parametrize("consumer", PEFT_READERS)
@pytest.mark.parametrize("alpha", [8, 20])
def test_check_finds_no_problem_in_an_adapter_of_one_rank_and_one_alpha(consumer, alpha, tmp_path):
    path = adapter_with(ranks=8, lora_alpha=alpha)(tmp_path / "a")
    verdict = verdict_of(consumer, path)
    assert verdict.holds and verdict.error == 0, verdict.problems
    assert error(intended(path), computed(consumer, path)) < 1e-7


@pytest.mark.parametrize("consumer", ["peft", "vllm", "tgi"])
def test_check_finds_no_problem_where_rslora_is_respected(consumer, tmp_path):
    path = adapter_with(ranks=8, use_rslora=True, lora_alpha=20)(tmp_path / "a")
    assert verdict_of(consumer, path).holds
    assert error(intended(path), computed(consumer, path)) < 1e-7


def test_check_finds_no_problem_in_files_of_image_models(tmp_path):
    path = diffusers_file(tmp_path / "d", r=4, lora_alpha=10)
    assert verdict_of("diffusers", path).holds
    assert error(intended(path), computed("diffusers", path)) < 1e-7
    path = kohya_file(tmp_path / "k", [4, None, 1], (4, 6, 2))
    assert verdict_of("comfyui", path).holds
    assert error(intended(path), computed("comfyui", path)) < 1e-7


def test_peft_drops_tensors_that_belong_to_no_module(tmp_path):
    path = adapter_with(more={"model.strange.weight": np.ones((2, 2), np.float32)})(tmp_path / "a")
    (problem,) = verdict_of("peft", path).problems
    assert problem.severity is Severity.DROPPED and "strange" in problem.where
    assert problem.what == "tensors that belong to no module are dropped (1)" and problem.fix


@pytest.mark.parametrize("rank", [*VLLM_RANKS[:4], 5, 17])
def test_the_option_that_is_advised_admits_the_adapter(rank, tmp_path):
    rank = min(rank, 24)
    path = adapter_with(ranks=rank)(tmp_path / "a")
    option, _, value = verdict_of("vllm", path).options.partition(" ")
    assert option == "--max-lora-rank" and int(value) in VLLM_RANKS
    assert int(value) >= rank and all(v < rank for v in VLLM_RANKS if v < int(value))


def test_a_fix_is_a_command_that_can_be_typed(tmp_path):
    folder = tmp_path / "my adapter; (1)"
    problems = verdict_of("sglang", adapter_with(**RSLORA)(folder)).problems
    command = ["eckart", "resize", str(folder), "-o", "OUT", "--rank", "4", "--for", "sglang"]
    assert [shlex.split(problem.fix) for problem in problems] == [command]
    in_memory = replace(load_adapter(folder), path=None)
    (problem,) = check(in_memory, "sglang").verdicts[0].problems
    assert problem.fix == "eckart resize ADAPTER -o OUT --rank 4 --for sglang"


# A new program


def test_a_new_consumer_is_one_entry_of_data(tmp_path, monkeypatch):
    """`check` predicts a program that it has never heard of from nothing but its entry."""
    halving = Consumer(
        name="halving",
        title="Halving",
        source="example/halving 1.0: loader.py",
        scale=Scaling.TENSOR,
        rslora=False,
        whole=Treatment.DROPS,
        bias=Treatment.LOADS,
        embeddings=Treatment.LOADS,
        conv=Treatment.LOADS,
        heads=Treatment.LOADS,
        experts=ExpertsLayout.FUSED,
        other_experts=Treatment.DROPS,
        max_rank=16,
        option="--rank",
    )
    monkeypatch.setitem(CONSUMERS, "halving", halving)
    path = adapter_with(ranks={Q0: 8}, alpha_pattern={Q0: 16})(tmp_path / "a")
    verdict = verdict_of("halving", path)
    assert verdict.consumer is halving and verdict.options == "--rank 8"
    (problem,) = verdict.problems  # it takes alpha 4 over rank 8 for q_proj, where 16 over 8 is intended
    assert problem.severity is Severity.WRONG and problem.where == Q0
    assert problem.what == "this update would be 0.25 times as large as intended (1 module)"
    update = intended(path)
    assert verdict.error == pytest.approx(error(update, update | {Q0: 0.25 * update[Q0]}), rel=1e-6)
    verdict = verdict_of("halving", saves("norm", WHOLE_NORM, ranks=20)(tmp_path / "b"))
    assert [p.severity for p in verdict.problems] == [Severity.DROPPED, Severity.REFUSED]
    assert verdict.problems[1].what == "the largest accepted rank is 16"


def test_the_rule_of_one_rank_per_stack_belongs_to_no_name(tmp_path, monkeypatch):
    """An entry with another name and PEFT's rules gives PEFT's verdict."""
    twin = replace(CONSUMERS["peft"], name="twin", title="Twin")
    monkeypatch.setitem(CONSUMERS, "twin", twin)
    adapter = load_adapter(adapter_with_fused_experts(tmp_path / "a"))
    name = next(n for n, m in adapter.modules.items() if m.expert is not None)
    adapter.modules[name] = adapter.modules[name].padded(7)
    peft, other = check(adapter, "peft,twin").verdicts
    assert [p.severity for p in peft.problems] == [Severity.REFUSED]
    assert peft.problems[0].what == "all experts of this parameter must have one rank"
    assert [(p.severity, p.where) for p in other.problems] == [(p.severity, p.where) for p in peft.problems]


# The function itself


def test_check_takes_a_path_or_an_adapter_and_a_path_or_a_checkpoint(tmp_path):
    path, base = adapter_with(ranks=VARIED_RANKS)(tmp_path / "a"), write_base(tmp_path / "base")
    by_paths = check(path, ["vllm-0.30", "peft"], base)
    by_objects = check(load_adapter(str(path)), "vllm-0.30,peft", Checkpoint.open(base))
    assert by_paths == by_objects and not by_paths.holds
    assert by_paths.rows == [
        ("vLLM 0.30", False, by_paths.verdicts[0].error, "--max-lora-rank 8"),
        ("PEFT", True, 0.0, ""),
    ]


def test_the_result_has_a_short_repr(tmp_path):
    path = adapter_with(ranks=8)(tmp_path / "a")
    assert repr(check(path, "vllm,peft")) == "CheckResult(vLLM: correct, PEFT: correct)"
    path = adapter_with(ranks=VARIED_RANKS, alpha_pattern=VARIED_RANKS)(tmp_path / "b")
    result = check(path, "sglang,llama.cpp")
    outcome = f"error {result.verdicts[1].error:.3g}"
    assert repr(result) == f"CheckResult(SGLang: does not load, llama.cpp: {outcome})"


def test_check_needs_a_consumer_or_a_base(tmp_path):
    with pytest.raises(UsageError, match="expected consumers or base"):
        check(adapter_with()(tmp_path / "a"))


# The emulations, by hand


def test_the_emulations_agree_with_a_small_case_by_hand(tmp_path):
    """B A = [[1]] with alpha 6 and r 2, next to a module of rank 1 and alpha 5."""
    one = np.ones((1, 1), np.float32)
    two = {"lora_A.weight": np.full((2, 1), 0.5, np.float32), "lora_B.weight": np.ones((1, 2), np.float32)}
    q, down = "model.layers.0.self_attn.q_proj", "model.layers.0.mlp.down_proj"
    tensors = {f"{q}.{key}": factor for key, factor in two.items()}
    tensors |= {f"{down}.{key}": one for key in two}
    patterns = {"rank_pattern": {"down_proj": 1}, "alpha_pattern": {"down_proj": 5}}
    path = write_peft(tmp_path / "a", tensors, r=2, lora_alpha=6, **patterns)
    assert product(two["lora_B.weight"], two["lora_A.weight"]) == 1
    expected = {
        "peft": (3, 5),
        "vllm": (3, 5),
        "vllm-0.30": (3, 3),
        "llama.cpp": (3, 6),
        "tensorrt-llm": (3, 6),
        "tgi": (3, 0.75),
    }
    for consumer, scales in expected.items():
        update = computed(consumer, path)
        assert (float(update[q][0, 0]), float(update[down][0, 0])) == pytest.approx(scales)
    assert verdict_of("vllm-0.30", path).error == pytest.approx(2 / math.sqrt(34))
    assert verdict_of("vllm", path).error == 0
    assert verdict_of("llama.cpp", path).error == pytest.approx(1 / math.sqrt(34))
