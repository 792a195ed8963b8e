"""Run a page of the guide: its fenced blocks, from top to bottom, in one folder.

console
    Every `$ eckart ...` is run, and it must print the lines shown under it, in that order; other lines may be
    printed in between. `# exits 1` after a command states its exit code. Lines that begin with one of
    `REMARKS` must be on stderr, all others on stdout. A line that ends in `...` is the beginning of a line.
pycon, or python with `>>>`
    A doctest. Names stay defined until the end of the page.
python
    A script, run with names of its own.
output
    The exact output of the script just above.
text, and any other language
    An illustration. It must not contain commands or prompts.

Comments in a page change how it is compared. `<!-- lines: exact -->`: console lines must match exactly.
`<!-- lines: within 3 %, whole numbers within 1 -->`: numbers may differ by this much (2 % without a comment).
`<!-- needs: torch -->`: the page is skipped if this library is missing.
"""

from __future__ import annotations

import contextlib
import doctest
import io
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from textwrap import dedent

from support.terminal import Ran

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
NUMBER = r"-?\d[\d,]*\.?\d*"
REMARKS = ("note:", "eckart:", "Next:", "factoring ")
RUN = ("console", "pycon", "python", "output")
NOT_RUN = ("bash", "sh", "shell", "zsh", "py", "python3", "shell-session")  # they look as if they were run


@dataclass(frozen=True)
class Block:
    """A fenced block; ``line`` is the line of its opening fence, counted from 1."""

    language: str
    text: str
    line: int

    @property
    def is_doctest(self) -> bool:
        return self.language == "pycon" or (self.language == "python" and ">>> " in self.text)

    @property
    def is_script(self) -> bool:
        return self.language == "python" and not self.is_doctest


@dataclass(frozen=True)
class Session:
    """A command in a console block, the lines shown under it, and its expected exit code."""

    command: str
    line: int
    code: int = 0
    expected: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class LineComparison:
    """Whether an expected line and a printed one agree. The last digits depend on the LAPACK."""

    relative: float | None = 0.02  # tolerance for numbers; None: lines must be identical
    whole: float = 0.0  # absolute tolerance for whole numbers

    @classmethod
    def of(cls, text: str) -> LineComparison:
        """Read the comment of a page."""
        comment = re.search(r"<!-- lines: (.*?) -->", text)
        if comment is None:
            return cls()
        if comment[1] == "exact":
            return cls(None)
        tolerances = re.fullmatch(r"within (\d+) %(?:, whole numbers within (\d+))?", comment[1])
        assert tolerances, f"invalid comment: {comment[0]}"
        return cls(int(tolerances[1]) / 100, float(tolerances[2] or 0))

    def __call__(self, expected: str, printed: str) -> bool:
        if self.relative is None:
            return expected == printed
        numbers, printed_numbers = re.findall(NUMBER, expected), re.findall(NUMBER, printed)
        words, printed_words = (re.sub(NUMBER, "#", line).split() for line in (expected, printed))
        if words[-1:] == ["..."] and words != printed_words:
            words, printed_words = words[:-1], printed_words[: len(words) - 1]
            printed_numbers = printed_numbers[: len(numbers)]
        same_count = len(numbers) == len(printed_numbers)
        return words == printed_words and same_count and all(map(self.is_close, numbers, printed_numbers))

    def is_close(self, expected: str, printed: str) -> bool:
        a, b = (float(text.replace(",", "")) for text in (expected, printed))
        whole = self.whole if "." not in expected + printed else 0.0
        return abs(a - b) <= max(self.relative * abs(b), whole)


@dataclass(frozen=True)
class Counts:
    """How many commands, doctest examples and scripts were run."""

    commands: int = 0
    examples: int = 0
    scripts: int = 0


@dataclass(frozen=True)
class Page:
    """A Markdown file."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.relative_to(ROOT).as_posix()

    @cached_property
    def text(self) -> str:
        return self.path.read_text("utf-8")

    @cached_property
    def blocks(self) -> list[Block]:
        return list(blocks(self.text))

    @property
    def needs(self) -> list[str]:
        """Libraries that the page needs."""
        comment = re.search(r"<!-- needs: (.*?) -->", self.text)
        return re.findall(r"\w+", comment[1]) if comment else []

    @property
    def prose(self) -> str:
        """The text with its blocks replaced by empty lines."""
        lines = self.text.splitlines()
        for block in self.blocks:
            n = block.text.count("\n")
            lines[block.line - 1 : block.line + n + 1] = [""] * (n + 2)
        return "\n".join(lines)


def pages() -> list[Page]:
    """Return the README and every page of the guide."""
    return [Page(ROOT / "README.md"), *map(Page, sorted(DOCS.rglob("*.md")))]


def blocks(text: str) -> Iterator[Block]:
    """Yield the fenced blocks of a text, including indented ones."""
    fence, inside, start, language = "", [], 0, ""
    for i, line in enumerate(text.splitlines(), 1):
        bare = line.strip()
        if not fence and (opened := re.match(r"(`{3,}|~{3,})\s*(\S*)", bare)):
            fence, inside, start, language = opened[1], [], i, opened[2]
        elif fence and bare == fence:
            yield Block(language, dedent("".join(f"{one}\n" for one in inside)), start)
            fence = ""
        elif fence:
            inside.append(line)
    assert not fence, f"the fence in line {start} is not closed"


def sessions(block: Block) -> list[Session]:
    """Return the commands of a console block."""
    commands: list[Session] = []
    for i, line in enumerate(block.text.splitlines(), block.line + 1):
        if line.startswith("$ "):
            command, _, remark = line[2:].partition("  # exits ")
            commands.append(Session(command, i, int(remark or 0)))
        else:
            assert commands, f"line {i}: a console block must begin with a command"
            commands[-1].expected.append(line)
    return commands


def play(page: Page, run: Callable[..., Ran]) -> Counts:
    """Run a page in the current folder. An `AssertionError` states the line that does not agree."""
    names: dict[str, object] = {"__name__": "__main__"}
    compare = LineComparison.of(page.text)
    commands = examples = scripts = 0
    printed = None  # the output of the script just above
    for block in page.blocks:
        where = f"{page.name}:{block.line}"
        if block.language == "output":
            assert printed is not None, f"{where}: expected a script just above"
            assert printed == block.text, f"{where}: the script prints\n{printed}"
        printed = None
        if block.language == "console":
            for session in sessions(block):
                check_session(session, run, compare, page.name)
                commands += 1
        elif block.is_doctest:
            examples += check_examples(block, names, page)
        elif block.is_script:
            printed = printed_by(block, where)
            scripts += 1
    return Counts(commands, examples, scripts)


def check_session(session: Session, run: Callable[..., Ran], compare: LineComparison, name: str) -> None:
    """Run a command, and check that it prints the expected lines."""
    where = f"{name}:{session.line}: {session.command!r}"
    program, *words = shlex.split(session.command)
    assert program == "eckart", f"{where}: only eckart can be run"
    assert session.expected, f"{where}: show at least one line of its output"
    result = run(*words)
    assert result.code == session.code, f"{where} exits {result.code}: {result.err}"
    out, err = iter(result.out.splitlines()), iter(result.err.splitlines())
    for line in session.expected:
        rest = err if line.startswith(REMARKS) else out
        assert any(compare(line, printed) for printed in rest), f"{where} does not print next: {line!r}"


def check_examples(block: Block, names: dict[str, object], page: Page) -> int:
    """Run a block as a doctest, and return how many examples it has."""
    where = f"{page.name}:{block.line}"  # unique, because a traceback may pass through another block
    test = doctest.DocTestParser().get_doctest(block.text, names, where, page.name, block.line)
    test.globs = names  # get_doctest copied them
    report: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    result = runner.run(test, out=report.append, clear_globs=False)
    assert not result.failed, "".join(report)
    return len(test.examples)


def printed_by(block: Block, where: str) -> str:
    """Run a script with names of its own, and return its output."""
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(compile(block.text, f"<{Path(where).name}>", "exec"), {"__name__": "__main__"})
    return out.getvalue()
