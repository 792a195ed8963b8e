"""The table of rules: keyword arguments and command-line options, and a rule that is added to it."""

import dataclasses
import json
import math
from dataclasses import dataclass

import pytest
import typer
from typer.testing import CliRunner

import eckart
from eckart.cli import plan as plan_command
from eckart.cli.options import rank_options
from eckart.errors import UsageError
from eckart.linalg import Goal
from eckart.rank import Bounds, Budget, Energy, Error, Knee, NoiseFloor, Rank, RankRule, Ratio, options
from eckart.rank.options import BOUNDS, RULES, RuleOptions, rule_from
from eckart.rank.rule import Choice, RuleOption
from support.pairs import make_pair


@pytest.mark.parametrize(
    ("keywords", "rule"),
    [
        ({"rank": 16}, Rank(16)),
        ({"energy": 0.9}, Energy(0.9)),
        ({"error": 0.05}, Error(0.05)),
        ({"error": 0.0}, Error(0.0)),
        ({"ratio": 100}, Ratio(100)),
        ({"knee": True}, Knee()),
        ({"noise_floor": True}, NoiseFloor()),
        ({"budget": "1%"}, Budget("1%")),
        ({"energy": 0.9, "rank": None, "knee": False, "max_rank": None}, Energy(0.9)),
        (
            {"knee": True, "min_rank": 2, "max_rank": 9, "multiple_of": 3, "uniform": True, "include": "a"},
            Knee(min_rank=2, max_rank=9, multiple_of=3, uniform=True, include="a"),
        ),
        ({"rank": 1, "include": [], "exclude": ["a", "b"]}, Rank(1, exclude=("a", "b"))),
    ],
    ids=str,
)
def test_keywords_make_a_rule(keywords, rule):
    assert rule_from(None, keywords) == rule


def test_a_rule_object_is_returned_unchanged():
    rule = Energy(0.9, max_rank=64)
    assert rule_from(rule, {}) is rule
    assert rule_from(rule, {"rank": None, "knee": False}) is rule


@pytest.mark.parametrize(
    ("keywords", "parts"),
    [
        ({}, ["exactly one rule, got none", "energy=0.9", "knee=True,", "budget='2M'"]),
        ({"rank": None, "knee": False}, ["got none"]),
        ({"min_rank": 1}, ["got only min_rank, which bounds the ranks of a rule", "rank=16"]),
        ({"max_rank": 1, "uniform": True}, ["got only max_rank and uniform, which bound"]),
        ({"rank": 1, "energy": 0.9}, ["got rank and energy"]),
        ({"knee": True, "budget": "1%"}, ["got knee and budget"]),
        ({"rank": 0}, ["rank=0"]),
        ({"rank": True}, ["rank=True"]),
        ({"energy": 0}, ["energy=0"]),
        ({"budget": "lots"}, ["budget='lots'"]),
        ({"energy": 0.9, "min_rank": -1}, ["min_rank=-1"]),
    ],
    ids=str,
)
def test_keywords_that_make_no_rule_are_refused(keywords, parts):
    with pytest.raises(UsageError) as caught:
        rule_from(None, keywords)
    for part in parts:
        assert part in str(caught.value)


@pytest.mark.parametrize(
    "keywords", [{"rank": 2}, {"energy": 0.9}, {"min_rank": 0}, {"include": "a"}], ids=str
)
def test_a_rule_together_with_keywords_is_refused(keywords):
    with pytest.raises(UsageError) as caught:
        rule_from(Energy(0.9), keywords)
    assert f"got Energy(0.9) together with keywords: {next(iter(keywords))}." in str(caught.value)


def test_an_unknown_keyword_is_a_type_error_as_in_any_python_call():
    with pytest.raises(TypeError, match=r"`enrgy=0\.9`: unknown keyword\. Use energy\."):
        rule_from(None, {"enrgy": 0.9})


def test_the_keywords_are_the_same_in_the_table_the_classes_and_the_types():
    rules = [rule_type.option.keyword for rule_type in RULES]
    bounds = [option.keyword for option in BOUNDS]
    assert bounds == [field.name for field in dataclasses.fields(Bounds)]
    assert [*rules, *bounds] == list(RuleOptions.__annotations__)
    for rule_type in RULES:
        own = [f.name for f in dataclasses.fields(rule_type) if f.name not in bounds]
        assert own == ([] if rule_type.option.type is bool else [rule_type.option.keyword])
        assert rule_type.__dataclass_params__.frozen and rule_type.__final__


def test_every_function_refuses_a_rule_together_with_keywords(tmp_path):
    pair = make_pair(tmp_path)
    store = eckart.factor(*pair.paths, tmp_path / "store")
    adapter = eckart.extract(*pair.paths, tmp_path / "adapter", rank=2).adapter
    for call in (
        lambda: eckart.plan(store, Rank(1), energy=0.9),
        lambda: eckart.extract(*pair.paths, tmp_path / "new", rule=Rank(1), energy=0.9),
        lambda: adapter.resize(rule=Rank(1), energy=0.9),
        lambda: eckart.combine([adapter], rule=Rank(1), energy=0.9),
    ):
        with pytest.raises(UsageError, match=r"got Rank\(1\) together with keywords: energy"):
            call()
    assert not (tmp_path / "new").exists()


def command_with(rule_annotation, **kwargs):
    """Return a function that runs a command with rule options and returns the rule it was passed."""
    passed = []

    def command(name: str, rule, plan: str = typer.Option(None)) -> None:
        passed.append(rule)

    command.__annotations__["rule"] = rule_annotation
    app = typer.Typer()
    app.command()(rank_options(command, **kwargs))

    def run(*arguments):
        result = CliRunner().invoke(app, ["name", *arguments])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == 0, result.output
        return passed.pop()

    return run


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        (["--rank", "16"], Rank(16)),
        (["--energy", "0.9", "--max-rank", "64"], Energy(0.9, max_rank=64)),
        (["--error", "0"], Error(0.0)),
        (["--ratio", "100", "--multiple-of", "8"], Ratio(100, multiple_of=8)),
        (["--knee", "--uniform"], Knee(uniform=True)),
        (["--noise-floor", "--min-rank", "2"], NoiseFloor(min_rank=2)),
        (["--budget", "1%", "--include", "a", "--include", "b"], Budget("1%", include=("a", "b"))),
    ],
    ids=str,
)
def test_command_line_options_make_a_rule(arguments, rule):
    assert command_with(RankRule)(*arguments) == rule
    assert command_with(RankRule | None)(*arguments) == rule


def test_a_command_whose_rule_may_be_none_runs_without_one():
    assert command_with(RankRule | None)() is None
    with pytest.raises(UsageError, match="exactly one rule, got none"):
        command_with(RankRule)()
    with pytest.raises(UsageError, match="got only min_rank"):
        command_with(RankRule | None)("--min-rank", "2")


@pytest.mark.parametrize(
    "option", [["--rank", "0"], ["--rank", "4"], ["--max-rank", "4"], ["--knee"]], ids=str
)
def test_rule_options_are_refused_together_with_the_alternative(option):
    run = command_with(RankRule | None, alternative="plan")
    assert run("--plan", "p.json") is None
    with pytest.raises(UsageError, match=f"got --plan together with {option[0]}"):
        run("--plan", "p.json", *option)


@dataclass(frozen=True, repr=False)
class StableRank(RankRule):
    """The stable rank ||A||_F^2 / sigma_1^2, rounded up: the rule that a reader might add."""

    option = RuleOption("stable", bool, "Use the stable rank of each tensor, rounded up.")

    @property
    def target(self):
        return "stable rank"

    def goal(self, size, noise_floor=None):
        return Goal("rank", 1)

    def choose(self, candidate):
        stable = candidate.spectrum.stable_rank
        return Choice(math.ceil(stable), f"stable rank {stable:.2f}")


@pytest.fixture
def with_stable_rank(monkeypatch):
    """Make the two edits that a new class needs: its entry in the table, and its keyword argument."""
    rules = (*options.RULES, StableRank)
    monkeypatch.setattr("eckart.rank.options.RULES", rules)
    monkeypatch.setattr("eckart.cli.options.RULES", rules)
    monkeypatch.setitem(RuleOptions.__annotations__, "stable", bool)


def test_a_new_rule_needs_only_a_class_a_table_entry_and_a_keyword(with_stable_rank, tmp_path):
    pair = make_pair(tmp_path)
    store = eckart.factor(*pair.paths, tmp_path / "store")
    ranks = eckart.plan(store, stable=True, max_rank=20).ranks
    assert ranks == {name: min(math.ceil(store.spectrum(name).stable_rank), 20) for name in ranks}
    assert len(set(ranks.values())) > 1 or next(iter(ranks.values())) > 1
    assert eckart.plan(store, StableRank(max_rank=20)).ranks == ranks

    app = typer.Typer()
    app.command()(rank_options(plan_command.plan.__wrapped__))
    result = CliRunner().invoke(app, [str(store.path), "--stable", "--max-rank", "20", "--json", "--quiet"])
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["ranks"] == ranks
    assert document["rule"] == "stable rank, at most rank 20"
    assert "Use the stable rank of each tensor" in CliRunner().invoke(app, ["--help"]).output
