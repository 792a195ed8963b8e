"""`--dtype` of the commands that write adapters: every common spelling is accepted, torch's name is shown."""

from __future__ import annotations

import json
import shlex

import pytest
from safetensors import safe_open

from support.terminal import run

COMMANDS = ["extract", "resize", "combine"]
SPELLINGS = {
    "bf16": "bfloat16",
    "BF16": "bfloat16",
    "bfloat16": "bfloat16",
    "torch.bfloat16": "bfloat16",
    "fp16": "float16",
    "F16": "float16",
    "float16": "float16",
    "half": "float16",
    "fp32": "float32",
    "F32": "float32",
    "float32": "float32",
    "FP64": "float64",
    "double": "float64",
}
STORED = {"bfloat16": "BF16", "float16": "F16", "float32": "F32", "float64": "F64"}


@pytest.fixture
def command_line(request, fine_tune, tmp_path):
    """A command line that writes ``tmp_path / "out"``, without its ``--dtype``."""
    base, tuned = fine_tune.pair.paths
    options = ["-o", tmp_path / "out", "--rank", 2]
    return {
        "extract": ["extract", base, tuned, *options],
        "resize": ["resize", fine_tune.adapter, *options],
        "combine": ["combine", fine_tune.adapter, fine_tune.adapter, *options],
    }[request.param]


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("command_line", COMMANDS, indirect=True)
def test_every_spelling_of_a_dtype_is_accepted(command_line, tmp_path, spelling):
    done = run(*command_line, "--dtype", spelling)
    assert done.code == 0, done.err
    name = SPELLINGS[spelling]
    assert done.out.splitlines()[0].endswith(f", {name}")
    with safe_open(tmp_path / "out" / "adapter_model.safetensors", "np") as file:
        dtypes = {file.get_slice(tensor).get_dtype() for tensor in file.keys()}  # noqa: SIM118  not a dict
    assert dtypes == {STORED[name]}


@pytest.mark.parametrize("command_line", COMMANDS, indirect=True)
def test_json_shows_the_name_of_torch(command_line):
    done = run(*command_line, "--dtype", "BF16", "--json")
    assert json.loads(done.out)["dtype"] == "bfloat16"


@pytest.mark.parametrize("command_line", COMMANDS, indirect=True)
@pytest.mark.parametrize("dtype", ["INT4", "int8", "fp8", "", "bf17"])
def test_other_dtypes_are_refused_with_the_list(command_line, tmp_path, dtype):
    done = run(*command_line, "--dtype", dtype)
    assert (done.code, done.out) == (2, "")
    assert done.err == (
        f"eckart: `--dtype {shlex.quote(dtype)}`: expected one of float32, float16, bfloat16, float64. "
        "Use a name from this list or a common abbreviation, such as bf16 for bfloat16.\n"
    )
    assert not (tmp_path / "out").exists()
