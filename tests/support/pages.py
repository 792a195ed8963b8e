"""A page of the guide as its tests see it: fenced blocks, run from top to bottom in one folder.

console
    Every `$ eckart ...` is run, and each line shown under it must be printed, in that order. With
    `# exits 1` after it, it must exit so. Remarks (`REMARKS`) are looked for on stderr, all others on
    stdout. A line that ends in `...` is the beginning of one.
pycon, or `>>>` in python
    A doctest. Names live on to the end of the page.
python
    A script, run by itself.
output
    What the script just above prints, to the letter.
text, and any other language
    An illustration, in which no command and no prompt may stand.

A page says in comments how it wants to be read. `<!-- lines: exact -->`: lines of consoles are compared
to the letter. `<!-- lines: within 3 %, whole numbers within 1 -->`: so far may their numbers be off (2 %
without a comment). `<!-- needs: torch -->`: the page is skipped where this library is missing.
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
SHELLS = ("bash", "sh", "shell", "zsh", "py", "python3", "shell-session")  # would look run, and are not


@dataclass(frozen=True)
class Block:
    """A fenced block; ``line`` is that of its fence, from 1."""

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
    """A command of a console, the lines shown under it, and the code it must exit with."""

    command: str
    line: int
    code: int = 0
    shown: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Likeness:
    """When a shown line and a printed one are the same: the last digits depend on the LAPACK."""

    share: float | None = 0.02  # by which numbers may differ; None: to the letter
    whole: float = 0.0  # by which whole numbers may differ

    @classmethod
    def of(cls, text: str) -> Likeness:
        """Read what a page's comment asks for."""
        found = re.search(r"<!-- lines: (.*?) -->", text)
        if found is None:
            return cls()
        if found[1] == "exact":
            return cls(None)
        words = re.fullmatch(r"within (\d+) %(?:, whole numbers within (\d+))?", found[1])
        assert words, f"not understood: {found[0]}"
        return cls(int(words[1]) / 100, float(words[2] or 0))

    def __call__(self, shown: str, printed: str) -> bool:
        if self.share is None:
            return shown == printed
        ours, theirs = re.findall(NUMBER, shown), re.findall(NUMBER, printed)
        words, others = (re.sub(NUMBER, "#", line).split() for line in (shown, printed))
        if words[-1:] == ["..."] and words != others:
            words, others = words[:-1], others[: len(words) - 1]
            theirs = theirs[: len(ours)]
        return words == others and len(ours) == len(theirs) and all(map(self.near, ours, theirs))

    def near(self, shown: str, printed: str) -> bool:
        a, b = (float(text.replace(",", "")) for text in (shown, printed))
        whole = self.whole if "." not in shown + printed else 0.0
        return abs(a - b) <= max(self.share * abs(b), whole)


@dataclass(frozen=True)
class Counts:
    """What was run."""

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
        """Libraries without which it cannot run."""
        found = re.search(r"<!-- needs: (.*?) -->", self.text)
        return re.findall(r"\w+", found[1]) if found else []

    @property
    def prose(self) -> str:
        """The text without its blocks, line for line."""
        lines = self.text.splitlines()
        for block in self.blocks:
            n = block.text.count("\n")
            lines[block.line - 1 : block.line + n + 1] = [""] * (n + 2)
        return "\n".join(lines)


def pages() -> list[Page]:
    """Return the README and every page of the guide."""
    return [Page(ROOT / "README.md"), *map(Page, sorted(DOCS.rglob("*.md")))]


def blocks(text: str) -> Iterator[Block]:
    """Yield the fenced blocks of a text, indented ones as well."""
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
    assert not fence, f"the fence of line {start} is not closed"


def sessions(block: Block) -> list[Session]:
    """Return the commands of a console."""
    found: list[Session] = []
    for i, line in enumerate(block.text.splitlines(), block.line + 1):
        if line.startswith("$ "):
            command, _, remark = line[2:].partition("  # exits ")
            found.append(Session(command, i, int(remark or 0)))
        else:
            assert found, f"line {i}: a console begins with a command"
            found[-1].shown.append(line)
    return found


def play(page: Page, run: Callable[..., Ran]) -> Counts:
    """Run a page in the current folder; an `AssertionError` says what is not as shown, and in which line."""
    names: dict[str, object] = {"__name__": "__main__"}
    alike = Likeness.of(page.text)
    commands = examples = scripts = 0
    printed = None  # by the script just above
    for block in page.blocks:
        where = f"{page.name}:{block.line}"
        if block.language == "output":
            assert printed is not None, f"{where}: no script stands above"
            assert printed == block.text, f"{where}: the script prints\n{printed}"
        printed = None
        if block.language == "console":
            for session in sessions(block):
                check(session, run, alike, page.name)
                commands += 1
        elif block.is_doctest:
            examples += check_examples(block, names, page)
        elif block.is_script:
            printed = printed_by(block, where)
            scripts += 1
    return Counts(commands, examples, scripts)


def check(session: Session, run: Callable[..., Ran], alike: Likeness, name: str) -> None:
    """Run a command, and look for the lines that are shown."""
    where = f"{name}:{session.line}: {session.command!r}"
    program, *words = shlex.split(session.command)
    assert program == "eckart", f"{where}: only eckart is run"
    assert session.shown, f"{where}: not a line of what it prints is shown"
    done = run(*words)
    assert done.code == session.code, f"{where} exits {done.code}: {done.err}"
    streams = {remark: iter(lines.splitlines()) for remark, lines in ((False, done.out), (True, done.err))}
    for line in session.shown:
        rest = streams[line.startswith(REMARKS)]
        assert any(alike(line, one) for one in rest), f"{where} does not print, from here on, {line!r}"


def check_examples(block: Block, names: dict[str, object], page: Page) -> int:
    """Run a block as a doctest, and return how many examples it has."""
    where = f"{page.name}:{block.line}"  # of its own: a function of another block may be in a traceback
    test = doctest.DocTestParser().get_doctest(block.text, names, where, page.name, block.line)
    test.globs = names  # not the copy that was made
    report: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    result = runner.run(test, out=report.append, clear_globs=False)
    assert not result.failed, "".join(report)
    return len(test.examples)


def printed_by(block: Block, where: str) -> str:
    """Run a script with names of its own, and return what it prints."""
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(compile(block.text, f"<{Path(where).name}>", "exec"), {"__name__": "__main__"})
    return out.getvalue()
