"""Arguments in messages: every error shows them as Python or as the command line, never as a mixture."""

from __future__ import annotations

import ast
import pickle
import re
from pathlib import Path

import pytest

import eckart
from eckart.arguments import OTHER_NAMES, argument, in_python, in_terminal
from eckart.errors import EckartError, UsageError

SRC = Path(eckart.__file__).parent
FILES = sorted(p for p in SRC.rglob("*.py") if p.relative_to(SRC).parts[0] not in ("cli", "autodiff"))
# Options of other programs, and of commands that a message spells out from their name on.
NOT_OURS = re.compile(r"eckart [a-z]+ |hf download|--max-lora-rank|^ --revision |^ --include '|--local-dir")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SRC)))
def test_no_error_of_the_library_spells_an_option(path):
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if not (isinstance(node, ast.Call) and ast.unparse(node.func).endswith("Error")):
            continue
        for given in node.args:
            for part in ast.walk(given):
                if isinstance(part, ast.Constant) and isinstance(part.value, str):
                    is_option = re.search(r"(?<![\w-])--[a-z]", part.value)
                    assert not is_option or NOT_OURS.search(ast.unparse(given)), f"line {part.lineno}"


@pytest.mark.parametrize(
    "keyword, value, python, terminal",
    [
        ("rank", 4, "rank=4", "--rank 4"),
        ("ratio", 100.0, "ratio=100.0", "--ratio 100"),
        ("energy", 0.9, "energy=0.9", "--energy 0.9"),
        ("knee", True, "knee=True", "--knee"),
        ("dtype", "I8", "dtype='I8'", "--dtype I8"),
        ("format", "my format", "format='my format'", "--format 'my format'"),
        ("out", "a", "out='a'", "--output a"),
        ("consumers", "vllm", "consumers='vllm'", "--for vllm"),
        ("weights", [0.5, 0.5], "weights=[0.5, 0.5]", "--weights 0.5,0.5"),
        ("max_rank", None, "max_rank=None", "--max-rank None"),
    ],
)
def test_an_argument_has_two_forms(keyword, value, python, terminal):
    text = f"Use {argument(keyword, value)} or another {argument(keyword)}"
    assert in_python(text) == f"Use {python} or another {keyword}"
    assert in_terminal(text).startswith(f"Use {terminal} or another --")


def test_an_error_shows_both_forms_and_survives_pickling():
    error = pickle.loads(pickle.dumps(UsageError("rank=0", "too small", f"Use {argument('rank', 1)}")))
    assert str(error) == "`rank=0`: too small. Use rank=1."
    assert (error.where, error.fix) == ("rank=0", "Use rank=1")
    assert error.for_terminal() == "`--rank 0`: too small. Use --rank 1."


@pytest.mark.parametrize(
    "where", ["runs/rank=4", "rank=4/model", "rank=", "a=b", "rank=__import__('os')", "x y=1"]
)
def test_what_is_no_argument_stays_as_it_is(where):
    assert UsageError(where, "what").for_terminal() == f"`{where}`: what."


def test_a_path_with_an_equals_sign_is_no_argument():
    assert EckartError("rank=4", "there is no such file").for_terminal().startswith("`rank=4`")


def test_text_of_other_people_cannot_forge_an_argument():
    text = argument("dtype", f"x{argument('rank', 4)}")
    assert in_terminal(text).startswith("--dtype ") and "--rank" not in in_terminal(text)


def test_names_of_other_tools_lead_to_keywords_of_ours():
    """Each target is a keyword of the library, or a parameter of a command."""
    known = """
        rank max_rank min_rank energy error ratio budget size include exclude out to format dtype weights
        workers device overwrite consumers quiet base base_name
    """
    assert {keyword for keywords in OTHER_NAMES.values() for keyword in keywords} == set(known.split())
