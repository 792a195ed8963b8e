"""Rendering in four formats and three languages: no sentence is missing, and every page is well formed."""

from __future__ import annotations

import re
from string import Formatter
from xml.etree import ElementTree

import pytest

from eckart.errors import UsageError
from eckart.explain import FORMATS, LANGUAGES, TOPICS, explain, render
from eckart.explain.formula import Grid, Num, Op, Row, Sym, plain
from eckart.explain.render.box import WIDTH, draw
from eckart.explain.words import TABLES
from support.explain_cases import CASES

PAGES = [(topic, "3 2; 2 3") for topic in TOPICS] + [("svd", CASES["quartic"]), ("svd", CASES["ones"])]


def every_explanation():
    """Yield explanations that together use every sentence."""
    for matrix in CASES.values():
        for topic in TOPICS:
            if topic == "pca" and ";" not in matrix:
                continue
            yield explain(topic, matrix)
    yield explain("pca", "1 2; 1 2")
    yield explain("lora", CASES["rank 1"], rank=1, alpha=16, given="4; 2; 3; 5")
    yield explain("lora", CASES["tall"], rank=2)


@pytest.fixture(scope="module")
def explanations():
    return list(every_explanation())


def gaps(text):
    return sorted(gap for _, gap, _, _ in Formatter().parse(text) if gap is not None)


def test_the_tables_contain_the_same_sentences():
    assert set(TABLES) == set(LANGUAGES) == {"en", "ja", "zh"}
    for lang, table in TABLES.items():
        assert table.keys() == TABLES["en"].keys(), lang
        for key, text in table.items():
            assert text.strip() and gaps(text) == gaps(TABLES["en"][key]), (lang, key)
    for lang in ("ja", "zh"):
        same = [key for key, text in TABLES[lang].items() if text == TABLES["en"][key]]
        assert not same, f"{lang} is not translated: {same}"


def test_every_sentence_is_used_and_none_is_missing(explanations):
    used = set().union(*(done.keys() for done in explanations))
    assert used <= TABLES["en"].keys()
    assert TABLES["en"].keys() - used == {"done.exact", "done.decimals", "done.wrong"}


def test_pages_render_in_every_format_and_language(explanations):
    some = explanations[::7] + explanations[-3:]
    for done in some:
        for format in FORMATS:
            for lang in LANGUAGES:
                text = render(done, format, lang)
                assert TABLES[lang][f"topic.{done.topic}"].split()[0] in text
                assert "None" not in text and "Formula" not in text
                assert TABLES[lang]["done.wrong"] not in text


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize(("topic", "matrix"), PAGES)
def test_html_is_well_formed_and_loads_no_other_files(topic, matrix, lang):
    options = {"given": "1; 2"} if topic == "lora" else {}
    text = render(explain(topic, matrix, **options), "html", lang)
    # The body of the page is XML.
    body = text[text.index("<body>") : text.index("</body>") + len("</body>")]
    tree = ElementTree.fromstring(body)
    assert f'<html lang="{lang}">' in text
    assert not re.search(r"https?:|src=|href=|@import|url\(|<script|<link", text)
    mathml = {"math", "mrow", "mi", "mn", "mo", "msub", "msup", "msubsup", "mfrac", "msqrt", "mroot"}
    mathml |= {"mtable", "mtr", "mtd"}
    html = {"body", "h1", "h2", "p", "div", "span", "figure", "figcaption"}
    html |= {"table", "thead", "tbody", "tr", "th", "td"}
    svg = {"svg", "path", "line", "circle", "text"}
    assert {e.tag for e in tree.iter()} <= mathml | html | svg
    children = {"mfrac": 2, "msub": 2, "msup": 2, "mroot": 2, "msubsup": 3}
    for element in tree.iter():
        if element.tag in children:
            assert len(element) == children[element.tag]
        if element.tag == "mtable":
            assert len({len(row) for row in element}) == 1


@pytest.mark.parametrize(("topic", "matrix"), PAGES)
def test_latex_is_balanced(topic, matrix):
    for lang in LANGUAGES:
        text = render(explain(topic, matrix), "latex", lang)
        open_environments: list[str] = []
        for kind, name in re.findall(r"\\(begin|end)\{(\w+)\}", text):
            if kind == "begin":
                open_environments.append(name)
            else:
                assert open_environments.pop() == name
        assert not open_environments
        bare = re.sub(r"\\[{}]", "", text)
        depth = 0
        for sign in bare:
            depth += {"{": 1, "}": -1}.get(sign, 0)
            assert depth >= 0
        assert depth == 0
        assert re.sub(r"\\\$", "", text).count("$") % 2 == 0
        assert text.count(r"\left") - text.count(r"\leftarrow") - text.count(
            r"\leftrightarrow"
        ) == text.count(r"\right")
        if lang == "en":
            assert text.isascii(), sorted({c for c in text if not c.isascii()})
        formulas = re.findall(r"\\fitting\{(.*)\}\n\\\]", text)
        assert formulas and all(formula.isascii() for formula in formulas)


@pytest.mark.parametrize(("topic", "matrix"), PAGES)
def test_markdown_has_ascii_formulas(topic, matrix):
    text = render(explain(topic, matrix), "markdown", "ja")
    formulas = re.findall(r"\$\$\n(.*?)\n\$\$", text, re.DOTALL)
    assert len(formulas) > 3
    assert all(formula.isascii() and "$" not in formula for formula in formulas)
    for line in text.splitlines():
        if line.startswith("|"):
            assert line.count("|") == next(x for x in text.splitlines() if x.startswith("|")).count("|")


def test_terminal_lines_have_a_limited_width(explanations):
    for explanation in explanations:
        for line in render(explanation).splitlines():
            # A single term may be wider than the limit, because lines break only between terms.
            assert len(line) <= WIDTH + 60, line


def test_a_long_chain_continues_on_the_next_line():
    sum_of_many = Row(tuple(x for i in range(40) for x in (Op("+"), Num(str(1000 + i))))[1:])
    lines = draw(sum_of_many).splitlines()
    assert len(lines) > 1 and all(len(line) <= WIDTH for line in lines)
    assert lines[1].startswith("     + ")
    assert " ".join(" ".join(lines).split()) == plain(sum_of_many)


def test_matrices_are_vertically_centred():
    two, three = (Grid(tuple((Num("1"), Num("10")) for _ in range(n))) for n in (2, 3))
    lines = draw(Row((Sym("W"), Op("="), two, three))).splitlines()
    assert len(lines) == 3 and lines[1].startswith("W = ")
    assert {len(line) for line in lines} == {len(lines[1])}


def test_unknown_formats_and_languages_are_refused():
    explanation = explain("rank", "1")
    with pytest.raises(UsageError, match="expected one of terminal, markdown, latex, html"):
        render(explanation, "pdf")
    with pytest.raises(UsageError, match="expected one of en, ja, zh"):
        render(explanation, "html", "fr")


def test_special_characters_are_escaped():
    from eckart.explain.render.html import Html
    from eckart.explain.render.latex import Latex
    from eckart.explain.render.markdown import Markdown

    assert Html().escape("a<b&c") == "a&lt;b&amp;c"
    assert Latex().escape("50 % of {x}_1 & λ₁") == r"50 \% of \{x\}\_1 \& $\lambda$$_{1}$"
    assert Markdown().escape("2*3_4 | $5") == r"2\*3\_4 \| \$5"
