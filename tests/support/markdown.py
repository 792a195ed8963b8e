"""Accidents of Markdown: text that a renderer takes for a quotation, a list, a heading, a tag or code."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

FENCE = re.compile(r"^( *)(```+|~~~+)")
MARKER = re.compile(r"(?:>|[-+*] |\d{1,9}[.)] |#{1,6} |={2,}\s*$|-{2,}\s*$)")
ITEM = re.compile(r" *(?:[-+*]|\d{1,9}[.)]) +")
TAG = re.compile(r"<(?![!]--)(?:/?[A-Za-z][^>\s]*[^>]*>|[A-Za-z/])")
CODE = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)", re.DOTALL)
FORMULA = re.compile(r"(?<![\\$])\$\$(?!\$).+?\$\$|(?<![\\$\w])\$(?=\S)[^$\n]+?(?<=\S)\$(?![\w$])", re.DOTALL)
ALLOWED_TAGS = ("<div", "</div", "<br", "<http", "<mailto")


@dataclass(frozen=True)
class Accident:
    """Where a page has an accident, counted from line 1, and which."""

    line: int
    what: str


def blocks(text: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the number of the first line, and the lines, of every block of text between empty lines.

    Fenced code and comments are left out.
    """
    block: list[str] = []
    start, fence = 0, ""
    text = re.sub(r"<!--.*?-->", lambda match: re.sub(r"[^\n]", "", match[0]), text, flags=re.DOTALL)
    for number, line in enumerate([*text.splitlines(), ""], 1):
        mark = FENCE.match(line)
        if fence:
            if mark and mark[2].startswith(fence):
                fence = ""
            continue
        if mark or not line.strip():
            if block:
                yield start, block
            block = []
            fence = mark[2] if mark else ""
            continue
        if not block:
            start = number
        block.append(line)


def accidents(text: str) -> list[Accident]:
    """Find the accidents of a page."""
    return [accident for start, lines in blocks(text) for accident in _of_block(start, lines)]


def _of_block(start: int, lines: list[str]) -> Iterator[Accident]:
    if lines[0].startswith(":::"):  # a block of mkdocstrings, with its options
        return
    if lines[0].lstrip().startswith("|"):
        yield from _of_table(start, lines)
    else:
        yield from _of_lines(start, lines)
    joined = CODE.sub(lambda match: "x" * match[0].count("\n") or "x", "\n".join(lines))
    if "`" in joined:
        yield Accident(start, "a backtick without its pair")
    joined = FORMULA.sub("x", joined)
    if "$" in joined.replace("\\$", ""):
        yield Accident(start, "a dollar sign without its pair")
    if joined.count("**") % 2:
        yield Accident(start, "bold without its end")
    for tag in TAG.finditer(joined):
        if not tag[0].startswith(ALLOWED_TAGS):
            yield Accident(start, f"the tag {tag[0]}")


def _of_lines(start: int, lines: list[str]) -> Iterator[Accident]:
    in_list = bool(ITEM.match(lines[0]))
    if lines[0].startswith(">"):
        yield Accident(start, "a quotation")
    if lines[0].startswith("    ") and not in_list and not lines[0].startswith("    $$"):
        yield Accident(start, "indented text, which is rendered as code")
    for number, (before, line) in enumerate(pairwise(lines), start + 1):
        plain = line.lstrip()
        is_item = in_list and bool(ITEM.match(line))
        if MARKER.match(plain) and not is_item:
            yield Accident(number, f"a line that begins with {plain.split()[0]!r}")
        if re.match(r"#{1,6} ", before):
            yield Accident(number, "text directly under a heading")


def _of_table(start: int, lines: list[str]) -> Iterator[Accident]:
    """Check that all rows have as many cells as the header. GitHub also splits at a bar within code."""
    cells = [len(re.findall(r"(?<!\\)\|", line.strip())) for line in lines]
    if len(lines) < 2 or not re.fullmatch(r"[|:\- ]+", lines[1].strip()):
        yield Accident(start, "a table without a line under its header")
    for number, (line, count) in enumerate(zip(lines, cells, strict=True), start):
        if count != cells[0] or not line.strip().endswith("|"):
            yield Accident(number, "a row with another number of cells than its header")
