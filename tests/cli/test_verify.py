"""`eckart verify`: its exit codes, for statements and weights that are correct, wrong, missing or damaged."""

from __future__ import annotations

import json

import numpy as np
import pytest
from safetensors.numpy import load_file

from eckart.checkpoint import write_safetensors
from support.fine_tune import MODULES
from support.terminal import run, table_rows


def test_a_wrong_error_of_one_module_exits_with_1(fine_tune, tmp_path):
    pair, adapter = fine_tune.pair, fine_tune.copy_adapter(tmp_path)
    assert run("verify", *pair.paths, adapter).code == 0
    statement = json.loads((adapter / "eckart.json").read_text())
    statement["modules"][MODULES[0]]["error"] *= 0.9
    (adapter / "eckart.json").write_text(json.dumps(statement))
    done = run("verify", *pair.paths, adapter)
    assert done.code == 1
    assert table_rows(done.out)[MODULES[0]][-1] == "NO"
    assert done.err == (
        f"eckart: `{adapter}`: its statement does not hold: it is false about 1 of 2 modules. "
        "Extract it again, or check that these are the checkpoints it was made from, base first.\n"
    )
    as_json = run("verify", *pair.paths, adapter, "--json")
    assert as_json.code == 1 and json.loads(as_json.out)["holds"] is False


def test_wrong_weights_exit_with_1(fine_tune, tmp_path):
    adapter = fine_tune.copy_adapter(tmp_path)
    arrays = load_file(adapter / "adapter_model.safetensors")
    name = next(n for n in arrays if "lora_B" in n)
    arrays[name] = arrays[name] * np.float32(1.01)
    write_safetensors(adapter / "adapter_model.safetensors", arrays)
    done = run("verify", *fine_tune.pair.paths, adapter)
    assert done.code == 1 and "Traceback" not in done.err


def test_a_wrong_total_alone_exits_with_1(fine_tune, tmp_path):
    adapter = fine_tune.copy_adapter(tmp_path)
    statement = json.loads((adapter / "eckart.json").read_text())
    statement["error"] /= 2
    (adapter / "eckart.json").write_text(json.dumps(statement))
    done = run("verify", *fine_tune.pair.paths, adapter)
    assert done.code == 1
    assert "its statement does not hold: 1 entry is false. " in done.err


def test_an_adapter_that_states_nothing_is_measured(fine_tune, tmp_path):
    adapter = fine_tune.copy_adapter(tmp_path)
    (adapter / "eckart.json").unlink()
    done = run("verify", *fine_tune.pair.paths, adapter)
    assert done.code == 0 and "nothing stated" in done.out
    assert [cells[-1] for name, cells in table_rows(done.out).items() if "proj" in name] == ["-", "-"]


@pytest.mark.parametrize(
    ("text", "place", "problem"),
    [
        (
            "{",
            "",
            "the statement is not valid JSON (Expecting property name enclosed in double quotes: "
            "line 1 column 2 (char 1))",
        ),
        ("[]", "", "the statement: expected an object, found an empty list"),
        ('{"modules": 3}', ": modules", "expected an object of objects, found 3"),
        ('{"modules": {"a": 3}}', ": modules.a", "expected an object, found 3"),
        ('{"error": "small"}', ": error", 'expected a number or null, found "small"'),
        ('{"error": NaN}', "", "the statement is not valid JSON (NaN is not a number in JSON)"),
        ('{"error": 1e999}', ": error", "the number is too large: float64 cannot hold it"),
        ('{"errors": 1}', ": errors", "this entry is unknown"),
        ('{"layout": {"consumers": 3}}', ": layout.consumers", "expected a list of strings, found 3"),
    ],
)
def test_a_damaged_statement_exits_with_2_and_one_line(fine_tune, tmp_path, text, place, problem):
    adapter = fine_tune.copy_adapter(tmp_path)
    (adapter / "eckart.json").write_text(text)
    done = run("verify", *fine_tune.pair.paths, adapter)
    assert (done.code, done.out) == (2, "")
    fix = "Extract again, or remove the file"
    assert done.err == f"eckart: `{adapter / 'eckart.json'}{place}`: {problem}. {fix}.\n"
