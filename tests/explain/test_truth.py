"""Every formula shown is evaluated by an independent reader, and both sides of every sign agree."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eckart.explain import TOPICS, explain
from eckart.explain.formula import Frac, Num, Op, Row, Sym
from eckart.explain.read import read_matrix
from eckart.explain.steps import Explanation, Show, Step
from support.evaluate import untrue
from support.explain_cases import CASES

LARGE = {
    "whole numbers of six digits": "179746 342469 -612338; -629790 690383 666944; 523531 746874 -515687",
    "fractions of five": "1/99999 1 1e-5 1e-5; 0.00001 1/99999 1/99999 1",
    "wide and long": "141476 -906925 -362015 -371758 -952021; -440619 92348 860241 -815597 -654594",
    "long means": "1e-5 1/99999 1e-5; 1/99999 1e-5 1/99999; 1 1 0; 1/99999 1e-5 1/99999",
    "long rows": "-217280 723798 934273 170645; -949459 487717 -96298 -674271; -217280 723798 934273 170645",
    "a row of roots": "sqrt(2)/2 sqrt(2) 1 2 sqrt(2)/2",
    "five columns alike": "1 1 1 1 1",
    "decimals in a long column": "8/1 8/5; -4/9 -6/9; -4/7 -7/1; -9/8 4/6; -5/3 2/2",
}


@pytest.mark.parametrize("topic", TOPICS)
@pytest.mark.parametrize("name", [*CASES, *LARGE])
def test_all_formulas_shown_are_true(topic, name):
    text = {**CASES, **LARGE}[name]
    W = read_matrix(text)
    if topic == "pca" and W.rows < 2:
        return
    wrong, compared = untrue(explain(topic, text), W)
    assert not wrong and compared >= 2


@pytest.mark.parametrize("options", [{"rank": 2}, {"alpha": 16}, {"rank": 2, "alpha": "1/2"}])
@pytest.mark.parametrize("name", ["tall", "wide", "quadratic roots", "quartic"])
def test_all_formulas_for_lora_options_are_true(name, options):
    W = read_matrix(CASES[name])
    assert untrue(explain("lora", CASES[name], **options), W)[0] == []
    B = "; ".join(str(i + 1) for i in range(W.rows))
    assert untrue(explain("lora", CASES[name], given=B, **options), W, read_matrix(B))[0] == []


ENTRIES = st.one_of(
    st.integers(-3, 3).map(str),
    st.sampled_from(["1/2", "-2/3", "0.7", "sqrt(2)", "-sqrt(2)/2", "1+sqrt(2)", "123456", "-1/99999"]),
)


@settings(max_examples=60, derandomize=True)
@given(
    topic=st.sampled_from(TOPICS),
    rows=st.tuples(st.integers(1, 4), st.integers(1, 4)).flatmap(
        lambda s: st.lists(st.lists(ENTRIES, min_size=s[1], max_size=s[1]), min_size=s[0], max_size=s[0])
    ),
)
def test_all_formulas_for_random_matrices_are_true(topic, rows):
    rows = [*rows, rows[0]] if len(rows) == 1 and topic == "pca" else rows
    text = "; ".join(" ".join(row) for row in rows)
    assert untrue(explain(topic, text), read_matrix(text))[0] == []


def test_a_wrong_formula_is_detected():
    half = Row((Sym("σ", "1"), Op("="), Frac(Num("1"), Num("2"))))
    for formula in (
        half,
        Row((Sym("W"), Op("≈"), Num("2.0001"))),
        Row((Sym("W"), Op("="), Num("2.0000001"))),
    ):
        wrong = Explanation("svd", (Step("title.matrix", (Show(formula),)),), {})
        assert untrue(wrong, read_matrix("2"))[0]
    right = Explanation("svd", (Step("title.matrix", (Show(Row((Sym("W"), Op("="), Num("2")))),)),), {})
    assert untrue(right, read_matrix("2")) == ([], 1)
