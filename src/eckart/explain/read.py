"""Reading of a small matrix of exact numbers from text, a CSV file, an npy file or an array."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path
from tokenize import TokenError
from typing import IO, Any, TypeAlias

import numpy as np
import sympy
from numpy.typing import ArrayLike

from eckart.errors import MatrixError
from eckart.explain.entry import read_entry
from eckart.explain.exact import Matrix, surd_terms
from eckart.paths import user_path
from eckart.strictjson import cannot_read, check_regular, read_bytes
from eckart.text import clip, count

LIMIT = 5  # rows and columns
SAMPLES = 12  # rows of a table of data
ROOTS = 2  # different square roots in one matrix: every number has up to 2^ROOTS terms
BYTES = 1 << 16  # size of a text file
SUFFIXES = (".csv", ".npy", ".txt", ".tsv")
FIX = 'Separate rows by semicolons, as in "4 0; 3 5", or use a .csv or .npy file'

MatrixSource: TypeAlias = str | Path | ArrayLike | Matrix


def read_matrix(source: MatrixSource, rows: int = LIMIT) -> Matrix:
    """Read a matrix of at most ``rows`` x 5 exact numbers.

    Parameters
    ----------
    source : str, Path or array_like
        Text such as ``"4 0; 3 5"``, with rows separated by semicolons or line ends and entries by spaces or
        commas; the path of a .csv, .txt, .tsv or .npy file; or an array. A float is read as the shortest
        decimal that rounds to it: 0.1 is 1/10.
    rows : int
        The maximum number of rows.

    Raises
    ------
    MatrixError
        The source is not a matrix of real numbers, or is too large to be followed on paper.

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
        path = user_path(source)
        cells = _npy(path, rows) if path.suffix.lower() == ".npy" else _csv(path)
        where = path.name
    elif isinstance(source, str):
        where = "MATRIX"
        cells = [_split(line) for line in re.split(r"[;\n]", source) if line.strip()]
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
    """Refuse too many independent square roots; next to sqrt(2) and sqrt(3), sqrt(6) is not a new one."""
    radicands = sorted({d for x in matrix if x != 0 for d in surd_terms(x)} - {1})
    span = {1}  # the radicands of all products of the roots so far; each independent root doubles it
    for d in radicands:
        if d not in span:
            span |= {d * other // math.gcd(d, other) ** 2 for other in span}
    if len(span) > 2**ROOTS:
        names = ", ".join(f"sqrt({d})" for d in radicands)
        what = f"expected at most {ROOTS} different square roots, found {names}"
        raise MatrixError(where, what, "Replace the others with decimals, such as 1.732 for sqrt(3)")


def _check_shape(cells: list[list[str]], rows: int, where: str) -> None:
    if not cells or not cells[0]:
        raise MatrixError(where, "expected a matrix, found no number", FIX)
    widths = [len(row) for row in cells]
    if len(set(widths)) > 1:
        odd = next(i for i, width in enumerate(widths) if width != widths[0])
        raise MatrixError(
            where,
            f"row {odd + 1} has {count(widths[odd], 'entry', 'entries')} and row 1 has {widths[0]}",
            "Use rows of equal length",
        )
    if len(cells) > rows or widths[0] > LIMIT:
        raise _too_large(where, len(cells), widths[0], rows)


def _too_large(where: str, m: int, n: int, rows: int) -> MatrixError:
    return MatrixError(
        where,
        f"the matrix is {clip(str(m))} x {clip(str(n))}; the limit for exact steps is {rows} x {LIMIT}",
        "Use eckart.svd or eckart.spectrum for larger matrices, and `eckart inspect` for checkpoints",
    )


def _split(line: str) -> list[str]:
    """Split a row into its entries; spaces in parentheses and around * and / do not separate entries.

    Each expression takes linear time: first every run of spaces becomes one, so that no match backtracks.
    """
    line = re.sub(r" ?([*/]) ?", r"\1", " ".join(line.split()))
    line = re.sub(r"\([^()]*\)", lambda match: match[0].replace(" ", ""), line)
    parts = line.removesuffix(",").split(",")
    return [word for part in parts for word in (part.split() or [""])]


def _csv(path: Path) -> list[list[str]]:
    text = _bytes(path).decode("utf-8-sig", errors="replace")
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    for number, line in enumerate(lines, 1):
        if ";" in line and "," in line:
            raise MatrixError(
                path.name, f"line {number} has both commas and semicolons", "Use a point for decimals"
            )
    return [_split(line.replace(";", ",").replace("\t", ",")) for line in lines]


def _bytes(path: Path) -> bytes:
    try:
        size = path.stat().st_size
    except OSError as error:
        raise cannot_read(path, error, MatrixError) from None
    if size > BYTES:
        raise MatrixError(
            path.name,
            f"the file has {size:,} bytes, too many for a matrix of {SAMPLES} x {LIMIT}",
            "Use eckart.svd for larger matrices",
        )
    return read_bytes(path, MatrixError, BYTES)


def _npy(path: Path, rows: int) -> list[list[str]]:
    """Read an .npy file. What its header promises is checked before any of the data is read."""
    check_regular(path, MatrixError)
    try:
        with path.open("rb") as file:
            shape, is_transposed, dtype = _npy_header(file, path.name)
            if dtype.kind not in "biufcUS" or not dtype.itemsize:
                raise _not_npy(path.name, f"its numbers are of type {clip(str(dtype))}")
            size = math.prod(shape) * dtype.itemsize
            present = os.fstat(file.fileno()).st_size - file.tell()
            if size > present:
                raise _not_npy(path.name, f"its header promises {size:,} bytes of numbers, found {present:,}")
            if len(shape) != 2:
                raise MatrixError(path.name, f"expected a matrix, got an array of shape {clip(str(shape))}")
            if math.prod(shape) > SAMPLES * LIMIT:
                raise _too_large(path.name, *shape, rows)
            data = file.read(size)
    except OSError as error:
        raise cannot_read(path, error, MatrixError) from None
    array = np.frombuffer(data, dtype).reshape(shape, order="F" if is_transposed else "C")
    return _cells(array, path.name, rows)


def _npy_header(file: IO[bytes], where: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Return shape, order and dtype. NumPy evaluates at most 10,000 characters, which may hold anything."""
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    try:
        version = np.lib.format.read_magic(file)
        if version not in readers:
            raise _not_npy(where, f"its version is {version[0]}.{version[1]}")
        shape, is_transposed, dtype = readers[version](file)
    except OSError:
        raise
    except (ValueError, EOFError, SyntaxError, TokenError, TypeError) as error:
        raise _not_npy(where, clip(str(error).splitlines()[0].rstrip("."))) from None
    except (RecursionError, MemoryError, OverflowError):
        raise _not_npy(where, "its header cannot be evaluated") from None
    if any(length < 0 for length in shape):
        raise _not_npy(where, "its shape is negative")
    return shape, is_transposed, dtype


def _not_npy(where: str, reason: str) -> MatrixError:
    return MatrixError(where, f"this is not an .npy file of numbers ({reason})")


def _cells(source: ArrayLike, where: str, rows: int) -> list[list[str]]:
    try:
        array = np.asarray(source)
    except ValueError:
        raise MatrixError(where, "the rows have different lengths", "Use rows of equal length") from None
    if array.ndim != 2:
        raise MatrixError(where, f"expected a matrix, got an array of shape {array.shape}")
    if np.iscomplexobj(array):
        raise MatrixError(where, "expected real numbers, got complex numbers", "Use its real part")
    if array.size > SAMPLES * LIMIT:
        raise _too_large(where, int(array.shape[0]), int(array.shape[1]), rows)
    return [[str(x) for x in row] for row in array]
