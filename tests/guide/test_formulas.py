"""The formulas of the guide become MathML, and what cannot be typeset stops the build."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest

from support.markdown import CODE, FORMULA, blocks

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").rglob("*.md"))


@pytest.fixture(scope="module")
def typeset() -> ModuleType:
    pytest.importorskip("latex2mathml")
    spec = importlib.util.spec_from_file_location("typeset", ROOT / "scripts" / "typeset.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def formulas(page: Path) -> list[str]:
    """Return the formulas of a page with their dollar signs."""
    texts = (CODE.sub("x", "\n".join(lines)) for _, lines in blocks(page.read_text("utf-8")))
    return [match[0] for text in texts for match in FORMULA.finditer(text)]


WITH_FORMULAS = [page for page in PAGES if formulas(page)]


def test_the_pages_on_mathematics_have_formulas():
    named = {page.relative_to(ROOT / "docs").as_posix() for page in WITH_FORMULAS}
    assert {"mathematics/svd.md", "mathematics/approximation.md", "calculus/lora.md", "ranks.md"} <= named


@pytest.mark.parametrize("page", WITH_FORMULAS, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_every_formula_is_typeset(typeset, page):
    for formula in formulas(page):
        opening, closing = (r"\[", r"\]") if formula.startswith("$$") else (r"\(", r"\)")
        root = ElementTree.fromstring(typeset.mathml(opening + formula.strip("$") + closing))
        assert root.tag.endswith("}math")
        assert root.get("display") == ("block" if formula.startswith("$$") else "inline")


def test_only_marked_formulas_are_replaced(typeset):
    page = (
        '<p>Cost: <code>$x$</code>, <span class="arithmatex">\\(a &lt; b\\)</span></p>\n'
        '<div class="arithmatex">\\[\\frac{1}{2}\\]</div>'
    )
    typeset_page = typeset.on_page_content(page, page=None)
    assert typeset_page.count("<math") == 2 and "<mfrac>" in typeset_page
    assert "<code>$x$</code>" in typeset_page and "arithmatex" not in typeset_page


@pytest.mark.parametrize("formula", [r"\(\unknown x\)", r"\[\begin{aligned} a & = b \end{aligned}\]"])
def test_what_is_not_known_stops_the_build(typeset, formula):
    with pytest.raises(ValueError, match="this formula cannot be typeset"):
        typeset.mathml(formula)
