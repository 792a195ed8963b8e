"""A small matrix from the command line, a CSV file or an npy file, as exact numbers."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import sympy

from eckart.errors import MatrixError
from eckart.explain.entry import read_entry
from eckart.explain.exact import Matrix, surd_terms

LIMIT = 5  # rows and columns
SAMPLES = 12  # rows of a table of data
ROOTS = 2  # different square roots in one matrix: the working has up to 2^ROOTS terms in every number
BYTES = 1 << 16  # of a text file
SUFFIXES = (".csv", ".npy", ".txt", ".tsv")
CURE = 'Write rows parted by semicolons, as "4 0; 3 5", or name a .csv or .npy file'


def read_matrix(source: str | Path | Any, rows: int = LIMIT) -> Matrix:
    """Read a matrix of at most ``rows`` x 5 exact numbers.

    Parameters
    ----------
    source : str, Path or array_like
        ``"4 0; 3 5"`` (rows parted by semicolons or line ends, entries by spaces or commas), the path
        of a .csv, .txt, .tsv or .npy file, or an array. A float is taken for the shortest decimal
        that rounds to it: 0.1 is 1/10.
    rows : int
        The most rows allowed.

    Raises
    ------
    MatrixError
        Not a matrix of real numbers, or too large to be worked on paper.

    Examples
    --------
    >>> read_matrix("4 0; 3 5")
    Matrix([
    [4, 0],
    [3, 5]])
    >>> read_matrix("1/2, sqrt(2)")
    Matrix([[1/2, sqrt(2)]])
    """
    if isinstance(source, sympy.MatrixBase):
        source = [[str(source[i, j]) for j in range(source.cols)] for i in range(source.rows)]
    if isinstance(source, Path) or (isinstance(source, str) and source.lower().endswith(SUFFIXES)):
        path = Path(source)
        cells = _npy(path, rows) if path.suffix.lower() == ".npy" else _csv(path)
        where = path.name
    elif isinstance(source, str):
        where = "MATRIX"
        cells = [_words(line) for line in re.split(r"[;\n]", source) if line.strip()]
    else:
        where = "W"
        cells = _cells(source, where, rows)
    _check_shape(cells, rows, where)
    matrix = sympy.Matrix(
        [
            [read_entry(word, f"{where}, row {i}, column {j}") for j, word in enumerate(row, 1)]
            for i, row in enumerate(cells, 1)
        ]
    )
    _check_roots(matrix, where)
    return matrix


def _check_roots(matrix: Matrix, where: str) -> None:
    """Refuse more square roots than the working can carry; sqrt(6) is none beside sqrt(2) and sqrt(3)."""
    found = sorted({d for x in matrix if x != 0 for d in surd_terms(x)} - {1})
    span = {1}  # what products of the roots so far have under their root: twice as many for each new one
    for d in found:
        if d not in span:
            span |= {d * known // math.gcd(d, known) ** 2 for known in span}
    if len(span) > 2**ROOTS:
        names = ", ".join(f"sqrt({d})" for d in found)
        raise MatrixError(where, f"at most {ROOTS} different square roots are worked with, found {names}")


def _check_shape(cells: list[list[str]], rows: int, where: str) -> None:
    if not cells or not cells[0]:
        raise MatrixError(where, "there is no number in it", CURE)
    widths = [len(row) for row in cells]
    if len(set(widths)) > 1:
        odd = next(i for i, width in enumerate(widths) if width != widths[0])
        raise MatrixError(
            where, f"row {odd + 1} has {widths[odd]} entries and row 1 has {widths[0]}", "Make them alike"
        )
    if len(cells) > rows or widths[0] > LIMIT:
        raise _too_large(where, len(cells), widths[0], rows)


def _too_large(where: str, m: int, n: int, rows: int) -> MatrixError:
    return MatrixError(
        where,
        f"{m} x {n} is too large to work on paper: the limit is {rows} x {LIMIT}",
        "Use eckart.svd or eckart.spectrum for larger matrices, and `eckart inspect` for checkpoints",
    )


def _words(line: str) -> list[str]:
    """Split a row into its entries. A space inside brackets or around * and / parts nothing."""
    line = re.sub(r"\s*([*/])\s*", r"\1", line.strip())
    while (closer := re.sub(r"(\([^()\s]*)\s+([^()]*\))", r"\1\2", line)) != line:
        line = closer
    parts = line.removesuffix(",").split(",")
    return [word for part in parts for word in (part.split() or [""])]


def _csv(path: Path) -> list[list[str]]:
    text = _bytes(path).decode("utf-8-sig", errors="replace")
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    for number, line in enumerate(lines, 1):
        if ";" in line and "," in line:
            raise MatrixError(
                path.name, f"line {number} has both commas and semicolons", "Write decimals with a point"
            )
    return [_words(line.replace(";", ",").replace("\t", ",")) for line in lines]


def _bytes(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > BYTES:
            raise MatrixError(
                path.name,
                f"a file of {size:,} bytes holds no matrix of {SAMPLES} x {LIMIT}",
                "Use eckart.svd for larger matrices",
            )
        return path.read_bytes()
    except OSError as error:
        raise MatrixError(str(path), f"it cannot be read ({error.strerror})", CURE) from None


def _npy(path: Path, rows: int) -> list[list[str]]:
    try:
        # Mapped, not read: the shape is known before a byte of the data is.
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        raise MatrixError(str(path), f"it cannot be read ({error.strerror or error})", CURE) from None
    except (ValueError, EOFError) as error:
        words = str(error).splitlines()[0].rstrip(".")
        raise MatrixError(path.name, f"it is no .npy file of plain numbers ({words})") from None
    return _cells(array, path.name, rows)


def _cells(source: Any, where: str, rows: int) -> list[list[str]]:
    try:
        array = np.asarray(source)
    except ValueError:
        raise MatrixError(where, "the rows have different lengths", "Make them alike") from None
    if array.ndim != 2:
        raise MatrixError(where, f"expected a matrix, got an array of shape {array.shape}")
    if np.iscomplexobj(array):
        raise MatrixError(where, "expected real numbers, got complex ones", "Take its real part")
    if array.size > SAMPLES * LIMIT:
        raise _too_large(where, int(array.shape[0]), int(array.shape[1]), rows)
    return [[str(x) for x in row] for row in array]
