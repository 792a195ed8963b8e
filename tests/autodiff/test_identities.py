"""The table of formulas of matrix calculus, and the command that verifies it."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import eckart
from eckart.autodiff import identities, jvp
from eckart.autodiff.identities import symmetric, verify
from eckart.autodiff.identities.__main__ import main


@pytest.mark.parametrize("row", identities(), ids=lambda row: row.name)
def test_identity_holds(row):
    verified = verify(row)
    assert verified.holds, verified
    assert row.latex.startswith(r"\partial")


def test_command_verifies_all_identities():
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "eckart.autodiff.identities"],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(Path(eckart.__file__).parents[1]), "PYTHONIOENCODING": "utf-8"},
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr
    assert len(identities()) == 38 and "38 identities, none wrong" in done.stdout


def test_command_reports_a_wrong_identity(monkeypatch, capsys):
    """It reports an error by either method, and NaN, which is not within any bound."""
    row = identities()[1]._replace(gradient=lambda x, A: 2 * A @ x)
    assert verify(row).autodiff > 0.01 and verify(row).differences > 0.01
    for wrong in (row, row._replace(gradient=lambda x, A: np.nan * x)):
        assert not verify(wrong).holds
        monkeypatch.setattr(
            sys.modules[main.__module__], "identities", lambda wrong=wrong: [wrong, *identities()]
        )
        assert main() == 1
        assert f"{len(identities()) + 1} identities, 1 wrong" in capsys.readouterr().out


def test_table_begins_with_the_fifteen_formulas_of_the_course_notes():
    names = [row.name for row in identities()]
    assert len(names) == len(set(names))
    assert names[:15] == [
        "linear form",
        "quadratic form",
        "symmetric quadratic form",
        "trace of a product",
        "inner product",
        "trace of three",
        "trace of a quadratic",
        "squared Frobenius norm",
        "log determinant",
        "determinant",
        "squared norm",
        "least squares",
        "trace of an inverse",
        "sigmoid",
        "softmax",
    ]


def test_gradient_over_symmetric_matrices_is_symmetric():
    """It gives the derivative along symmetric directions, which the often quoted formula does not."""
    S = np.array([[2.0, 0.5], [0.5, 1.0]])
    T = np.array([[0.3, -1.0], [-1.0, 0.7]])
    G = symmetric(np.linalg.inv(S).T)
    along = jvp(lambda X: np.linalg.slogdet(X)[1], (S,), (T,))[1]
    assert np.sum(G * T) == pytest.approx(along)
    cookbook = G + G.T - np.diag(np.diag(G))  # often quoted, but not a gradient
    assert abs(np.sum(cookbook * T) - along) > 0.1
