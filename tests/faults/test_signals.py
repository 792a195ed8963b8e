"""Ctrl-C and requests to stop, at several moments of every command: one line, the exit code, nothing left."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from support import stuck
from support.fine_tune import FineTune, make_fine_tune
from support.terminal import ENVIRONMENT, start, tree

if sys.platform == "win32":
    pytest.skip("signals are sent as on Unix", allow_module_level=True)

import fcntl
import pty
import termios

DRIVER = Path(stuck.__file__)
# The program promises one second. A test machine may be busy; work that is waited for takes a minute.
LIMIT = 15.0


@pytest.fixture(scope="module")
def fine_tune(tmp_path_factory) -> FineTune:
    made = make_fine_tune(tmp_path_factory.mktemp("fine_tune"))
    lines = [f"{user},{item},{(user * item) % 5 + 1}" for user in range(9) for item in range(9)]
    (made.folder / "ratings.csv").write_text("\n".join(["user,item,rating", *lines]) + "\n")
    return made


@dataclass(frozen=True)
class Ended:
    """How an interrupted program ended."""

    code: int
    out: str
    err: str


def own_terminal() -> None:
    """Make the terminal at stdin that of a new session, so that it turns ^C into a signal."""
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


class Program:
    """The program, started so that it gets stuck. Its temporary folders are in ``folder/tmp``."""

    def __init__(
        self, folder: Path, where: str, *arguments: object, terminal: bool = False, **options
    ) -> None:
        self.marker, self.scratch = folder / "stuck", folder / "tmp"
        self.scratch.mkdir(exist_ok=True)
        command = [sys.executable, str(DRIVER), str(self.marker), where, *map(str, arguments)]
        environment = {**ENVIRONMENT, "TMPDIR": str(self.scratch), "TERM": "xterm"}
        environment["PYTHONPATH"] += os.pathsep + str(DRIVER.parents[1])
        self.terminal = None
        if terminal:
            self.terminal, side = pty.openpty()
            streams = {"stdin": side, "stdout": side, "stderr": side, "preexec_fn": own_terminal}
        else:
            streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        self.process = subprocess.Popen(command, env=environment, **streams, **options)
        if terminal:
            os.close(side)

    def wait_until_stuck(self) -> None:
        deadline = time.monotonic() + 60
        while not self.marker.exists():
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        self.marker.unlink()

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    def end(self) -> Ended:
        """Wait for the end, and check that nothing was waited for and no temporary folder is left."""
        began = time.monotonic()
        out, err = self.process.communicate(timeout=50)
        assert time.monotonic() - began < LIMIT
        assert list(self.scratch.iterdir()) == []
        return Ended(self.process.returncode, (out or b"").decode(), (err or b"").decode())


# Every command that works in threads: its command line, what is done after one item, and whether it resumes.
COMMANDS = {
    "factor": ("factor BASE TUNED -o OUT", "1 of 5 tensors done", True),
    "factor --overwrite": ("factor BASE TUNED -o OUT --overwrite", "1 of 5 tensors done", True),
    "inspect": ("inspect BASE TUNED", "1 of 5 tensors done", False),
    "inspect --store": ("inspect BASE TUNED --store OUT", "1 of 5 tensors done", True),
    "inspect, adapter": ("inspect ADAPTER", "1 of 2 modules done", False),
    "extract": ("extract BASE TUNED -o OUT --rank 2", "1 of 5 tensors done", False),
    "extract --store": ("extract BASE TUNED -o OUT/a --rank 2 --store OUT/s", "1 of 5 tensors done", True),
    "resize": ("resize ADAPTER -o OUT --rank 1", "1 of 4 steps done", False),
    "combine": ("combine ADAPTER ADAPTER -o OUT --rank 1", "1 of 4 steps done", False),
    "merge": ("merge BASE ADAPTER -o OUT", "1 of 6 tensors done", False),
}


def arguments_of(line: str, fine_tune: FineTune, out: Path) -> list[str]:
    names = {
        "BASE": fine_tune.pair.base,
        "TUNED": fine_tune.pair.tuned,
        "ADAPTER": fine_tune.adapter,
        "STORE": fine_tune.store,
        "RATINGS": fine_tune.folder / "ratings.csv",
        "OUT": out,
    }
    return [re.sub(r"^[A-Z]+", lambda word: str(names[word[0]]), word) for word in line.split()]


@pytest.mark.parametrize("name", COMMANDS)
def test_an_interrupted_command_reports_how_far_it_was_and_leaves_nothing(fine_tune, tmp_path, name):
    line, done, resumes = COMMANDS[name]
    out = tmp_path / "new" / "out"
    program = Program(tmp_path, "items:1", *arguments_of(line, fine_tune, out))
    program.wait_until_stuck()
    program.send(signal.SIGINT)
    ended = program.end()
    end = "; the same command resumes.\n" if resumes else ".\n"
    assert ended.err.splitlines(keepends=True)[-1] == f"Interrupted: {done}{end}"
    assert (ended.code, ended.out) == (130, "")
    left = tree(tmp_path / "new") if (tmp_path / "new").exists() else {}
    if resumes:  # the store alone
        assert {path.name for path in tmp_path.rglob("*.jsonl")} == {"journal.jsonl"}
        assert not [path for path in left if ".tmp-" in path or ".lock" in path or path.startswith("out/a")]
    else:
        assert left == {}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=["SIGTERM", "SIGHUP"])
def test_every_signal_has_its_exit_code(fine_tune, tmp_path, number):
    program = Program(tmp_path, "items:1", "factor", *fine_tune.pair.paths, "-o", tmp_path / "store")
    program.wait_until_stuck()
    program.send(number)
    ended = program.end()
    assert ended.err == "Interrupted: 1 of 5 tensors done; the same command resumes.\n"
    assert ended.code == 128 + number


def test_an_ignored_hang_up_stays_ignored(fine_tune, tmp_path):
    def ignore() -> None:  # as nohup does
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    line = ["factor", *fine_tune.pair.paths, "-o", tmp_path / "store"]
    program = Program(tmp_path, "items:0", *line, preexec_fn=ignore)
    program.wait_until_stuck()
    program.send(signal.SIGHUP)
    time.sleep(0.5)
    assert program.process.poll() is None
    program.send(signal.SIGTERM)
    assert program.end().code == 143


@pytest.mark.parametrize("free", [0, 2, 4])
def test_the_same_command_resumes_to_the_same_bytes(fine_tune, tmp_path, free):
    store = tmp_path / "store"
    line = ["factor", *fine_tune.pair.paths, "-o", store]
    program = Program(tmp_path, f"items:{free}", *line)
    program.wait_until_stuck()
    program.send(signal.SIGINT)
    done = f"{free} of 5 tensors" if free else "0 tensors"
    assert program.end().err == f"Interrupted: {done} done; the same command resumes.\n"
    assert (
        len((store / "journal.jsonl").read_bytes().splitlines()) == 1 + free
    )  # a header, and a line for each
    assert start(*line).returncode == 0
    assert tree(store) == tree(fine_tune.store)


def test_a_resumed_pass_counts_what_is_already_done(fine_tune, tmp_path):
    line = ["factor", *fine_tune.pair.paths, "-o", tmp_path / "store"]
    for done in (2, 4):
        program = Program(tmp_path, f"items:2:{done}", *line)
        program.wait_until_stuck()
        program.send(signal.SIGINT)
        assert program.end().err == f"Interrupted: {done} of 5 tensors done; the same command resumes.\n"


# In a terminal


def read_all(terminal: int) -> str:
    """Read what was printed until the program has closed its side of the terminal."""
    text = b""
    while True:
        try:
            part = os.read(terminal, 65536)
        except OSError:
            break
        if not part:
            break
        text += part
    os.close(terminal)
    return text.decode()


@pytest.mark.parametrize("quiet", [[], ["-q"]], ids=["bar", "quiet"])
def test_control_c_in_a_terminal_restores_the_cursor(fine_tune, tmp_path, quiet):
    line = ["factor", *fine_tune.pair.paths, "-o", tmp_path / "store", *quiet]
    program = Program(tmp_path, "items:1", *line, terminal=True)
    program.wait_until_stuck()
    began = time.monotonic()
    os.write(program.terminal, b"\x03")
    text = read_all(program.terminal)
    assert program.process.wait(timeout=50) == 130
    assert time.monotonic() - began < LIMIT
    hide, show = "\x1b[?25l", "\x1b[?25h"
    assert (hide in text) == (quiet == [])
    assert text.rfind(show) > text.rfind(hide) or hide not in text
    last = text.rsplit("\n", 2)[-2].rsplit("\r", 1)[0].rsplit("\x1b[2K", 1)[-1].removeprefix(show)
    assert last == "Interrupted: 1 of 5 tensors done; the same command resumes."


# The main thread inside a call that no signal interrupts

CALLS = {
    "verify": ("verify BASE TUNED ADAPTER", "eckart.cli.verify:verify_adapter"),
    "check": ("check ADAPTER --for vllm", "eckart.cli.check:check_adapter"),
    "convert": ("convert ADAPTER -o OUT.safetensors --to kohya", "eckart.cli.convert:convert_adapter"),
    "plan": ("plan STORE --rank 2 -o OUT", "eckart.cli.plan:decide"),
    "explain": ("explain svd 1,2;3,4 -o OUT.md", "eckart.explain:explain"),
    "recommend": ("recommend RATINGS", "eckart.cli.recommend:read_ratings"),
    "extract": ("extract BASE TUNED -o OUT/inner --rank 2", "eckart.extraction.extract:cut"),
    "merge": ("merge BASE ADAPTER -o OUT/inner", "eckart.operations.merge:_copy_other_files"),
    "demo": ("demo -o OUT", "eckart.cli.demo:summarise_layers"),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_call_that_cannot_be_interrupted_does_not_keep_the_program(fine_tune, tmp_path, name):
    line, function = CALLS[name]
    program = Program(tmp_path, f"call:{function}", *arguments_of(line, fine_tune, tmp_path / "new"))
    program.wait_until_stuck()
    before = tree(tmp_path)
    program.send(signal.SIGINT)
    ended = program.end()
    assert re.fullmatch(
        r"Interrupted(: \d+ .* done)?(; the same command resumes)?\.", ended.err.splitlines()[-1]
    )
    assert (ended.code, ended.out) == (130, "")
    assert tree(tmp_path) == {"tmp": None}
    if name in ("extract", "merge", "demo"):  # the call was made while unfinished files existed
        assert len(before) > 1


# Twice


@pytest.mark.parametrize("where", ["cleanup:1"])
def test_a_second_signal_ends_the_clean_up_at_once(fine_tune, tmp_path, where):
    program = Program(tmp_path, where, "factor", *fine_tune.pair.paths, "-o", tmp_path / "store")
    program.wait_until_stuck()
    program.send(signal.SIGINT)
    line = program.process.stderr.readline()
    assert line == b"Interrupted: 1 of 5 tensors done; the same command resumes.\n"
    time.sleep(0.5)  # it would not be taken for a second signal before
    assert program.process.poll() is None
    program.send(signal.SIGINT)
    ended = program.end()
    assert (ended.code, ended.out, ended.err) == (130, "", "")


def test_a_signal_that_is_sent_twice_at_once_counts_once(fine_tune, tmp_path):
    """As some programs do, which pass on to their child what the terminal has already sent to it."""
    line = ["extract", *fine_tune.pair.paths, "-o", tmp_path / "out", "--rank", "2"]
    program = Program(tmp_path, "items:1", *line)
    program.wait_until_stuck()
    program.send(signal.SIGINT)
    program.send(signal.SIGINT)
    ended = program.end()
    assert (ended.code, ended.out, ended.err) == (130, "", "Interrupted: 1 of 5 tensors done.\n")
    assert tree(tmp_path) == {"tmp": None}


# While the program is being imported


@pytest.mark.parametrize(
    ("module", "launcher"),
    [("threadpoolctl", "python -m eckart"), ("typer", "python -m eckart"), ("threadpoolctl", "eckart")],
)
def test_an_interrupted_import_prints_no_stack_trace(tmp_path, module, launcher):
    marker, script = tmp_path / "stuck", tmp_path / "bin" / "eckart"
    (tmp_path / f"{module}.py").write_text(
        f"import pathlib, time\npathlib.Path({str(marker)!r}).touch()\ntime.sleep(60)\n"
    )
    script.parent.mkdir()
    script.write_text("from eckart.cli.app import main\nmain()\n")  # as pip writes it
    program = [str(script)] if launcher == "eckart" else ["-m", "eckart"]
    process = subprocess.Popen(
        [sys.executable, *program, "--version"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**ENVIRONMENT, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ENVIRONMENT['PYTHONPATH']}"},
    )
    while not marker.exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=50)
    assert (process.returncode, out, err) == (130, b"", b"Interrupted.\n")


def test_importing_the_library_leaves_signals_alone():
    code = "import signal, eckart; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=ENVIRONMENT)
    assert (done.stdout, done.stderr) == ("True\n", "")
