"""`check --base` finds every part of an adapter that does not fit its base."""

from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from eckart.serving import Problem, Severity, check
from support.adapter_files import (
    EMBEDDING,
    HEAD_FACTORS,
    LAYERS,
    Q0,
    REPLACED_ROWS,
    TABLE_FACTORS,
    WHOLE_HEAD,
    adapter_with,
    random_factors,
    shape_of,
    write_base,
    write_peft,
)


def base_problems(path: Path, base: Path) -> tuple[Problem, ...]:
    result = check(path, base=base)
    assert result.verdicts == ()
    assert result.holds is not bool(result.base_problems)
    return result.base_problems


def test_an_adapter_fits_its_own_base(tmp_path):
    path = adapter_with(more=TABLE_FACTORS)(tmp_path / "a")
    assert base_problems(path, write_base(tmp_path / "base")) == ()


def test_an_adapter_fits_a_base_under_a_prefix(tmp_path):
    base = write_base(tmp_path / "base", prefix="language.")
    assert base_problems(adapter_with()(tmp_path / "a"), base) == ()


def test_a_module_that_the_base_lacks_is_found(tmp_path):
    name = "model.layers.9.mlp.up_proj"
    B, A = random_factors("x", 4, 5, 4)
    path = adapter_with(more={f"{name}.lora_A.weight": A, f"{name}.lora_B.weight": B})(tmp_path / "a")
    (problem,) = base_problems(path, write_base(tmp_path / "base"))
    assert problem.severity is Severity.REFUSED and problem.where == name
    assert f"the base has no {name}.weight" in problem.what


def test_a_module_of_another_shape_is_found(tmp_path):
    tensors = {}
    for name in LAYERS:
        m, n = shape_of(name)
        B, A = random_factors(name, m + (name == Q0), n, 4)
        tensors |= {f"{name}.lora_A.weight": A, f"{name}.lora_B.weight": B}
    (problem,) = base_problems(write_peft(tmp_path / "a", tensors), write_base(tmp_path / "base"))
    assert problem.where == Q0 and "its factors make 33 x 24, but the base holds 32 x 24" in problem.what


def test_factors_of_an_embedding_with_another_vocabulary_are_found(tmp_path):
    path = adapter_with(more=TABLE_FACTORS)(tmp_path / "a")
    (problem,) = base_problems(path, write_base(tmp_path / "base", vocabulary=53))
    assert problem.where == EMBEDDING and "another vocabulary" in problem.what


def test_a_whole_head_with_another_vocabulary_is_found(tmp_path):
    path = adapter_with(more=WHOLE_HEAD, modules_to_save=["lm_head"])(tmp_path / "a")
    (problem,) = base_problems(path, write_base(tmp_path / "base", vocabulary=53))
    assert problem.where == "lm_head.weight"
    assert "shape (50, 24), but the base holds (53, 24)" in problem.what


def test_factors_of_a_head_with_another_vocabulary_are_found(tmp_path):
    path = adapter_with(more=HEAD_FACTORS)(tmp_path / "a")
    (problem,) = base_problems(path, write_base(tmp_path / "base", vocabulary=53))
    assert problem.where == "lm_head" and "50 x 24, but the base holds 53 x 24" in problem.what


def test_a_replaced_row_that_the_table_lacks_is_found(tmp_path):
    path = adapter_with(more=REPLACED_ROWS, trainable_token_indices=[1, 53])(tmp_path / "a")
    (problem,) = base_problems(path, write_base(tmp_path / "base", vocabulary=53))
    assert problem.severity is Severity.REFUSED and problem.where == f"{EMBEDDING}.weight"
    assert "replaces row 53 of length 24, but the base holds (53, 24)" in problem.what
    assert base_problems(path, write_base(tmp_path / "larger", vocabulary=54)) == ()


def test_a_base_of_another_architecture_is_reported_once(tmp_path):
    folder = tmp_path / "base"
    folder.mkdir()
    weight = {"transformer.h.0.attn.c_attn.weight": np.zeros((24, 72), np.float32)}
    save_file(weight, folder / "model.safetensors")
    (problem,) = base_problems(adapter_with()(tmp_path / "a"), folder)
    assert problem.severity is Severity.REFUSED and "no module fits this base" in problem.what


def test_factors_of_a_tied_head_are_found(tmp_path):
    path = adapter_with(more=HEAD_FACTORS)(tmp_path / "a")
    (problem,) = base_problems(path, write_base(tmp_path / "base", tied=True))
    assert problem.where == "lm_head" and problem.severity is Severity.WRONG
    assert "ties this weight to its embedding table" in problem.what
    assert f"eckart resize {path} -o OUT" in problem.fix and problem.fix.endswith("--exclude lm_head")
