"""Reading of matrices: what is accepted, and the messages for what is refused."""

from __future__ import annotations

import pickle
import struct
import time
from itertools import product

import numpy as np
import pytest
import sympy
from hypothesis import given
from hypothesis import strategies as st
from sympy import Rational, sqrt

from eckart.errors import InputError, MatrixError
from eckart.explain import explain
from eckart.explain.entry import read_entry
from eckart.explain.read import read_matrix


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("4 0; 3 5", [[4, 0], [3, 5]]),
        ("4,0\n3,5\n", [[4, 0], [3, 5]]),
        (" 4 , 0 ; 3 , 5 ;", [[4, 0], [3, 5]]),
        ("-1 +2; .5 1.", [[-1, 2], [Rational(1, 2), 1]]),
        ("1/2 1 / 3", [[Rational(1, 2), Rational(1, 3)]]),
        ("2e2 25e-2", [[200, Rational(1, 4)]]),
        ("sqrt(2) sqrt( 8 ) 2√3 -3*sqrt(2)/4", [[sqrt(2), 2 * sqrt(2), 2 * sqrt(3), -3 * sqrt(2) / 4]]),
        ("(1+sqrt(5))/2", [[Rational(1, 2) + sqrt(5) / 2]]),
        ("1/sqrt(2) 1/(1-sqrt(2))", [[sqrt(2) / 2, -1 - sqrt(2)]]),
        ("7", [[7]]),
    ],
)
def test_text_is_read_exactly(text, rows):
    assert read_matrix(text) == sympy.Matrix(rows)


@given(st.lists(st.tuples(st.integers(-999, 999), st.integers(1, 999)), min_size=1, max_size=5))
def test_fractions_are_read_exactly(pairs):
    text = " ".join(f"{p}/{q}" for p, q in pairs)
    assert list(read_matrix(text)) == [Rational(p, q) for p, q in pairs]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "found no number"),
        (" ; ;", "found no number"),
        ("1 x; 2 3", "row 1, column 2`: expected a number, got 'x'"),
        ("1 2; 3", "row 2 has 1 entry and row 1 has 2"),
        ("1,,2", "expected a number, got ''"),
        ("1 2 3 4 5 6", "the matrix is 1 x 6; the limit for exact steps is 5 x 5. Use eckart.svd"),
        ("1;2;3;4;5;6", "the matrix is 6 x 1; the limit"),
        ("nan", "expected a finite number, got 'nan'"),
        ("1 -inf", "expected a finite number, got '-inf'"),
        ("1+2j 0; 0 1", "expected a real number, got the complex number '1+2j'"),
        ("2i", "got the complex number '2i'"),
        ("sqrt(-2)", "is not real"),
        ("1/0", "divides by zero"),
        ("1/(1-1)", "divides by zero"),
        ("sqrt(1+sqrt(2))", "a root under a root"),
        (
            "sqrt(2) sqrt(3) sqrt(5)",
            "expected at most 2 different square roots, found sqrt(2), sqrt(3), sqrt(5). Replace the others",
        ),
        ("1.2345678", "needs more than 6 digits as a fraction. Round it"),
        ("1e20", "needs more than 6 digits"),
        ("1e999999999", "expected a number"),
        ("9**9", "expected a number"),
        ("__import__('os')", "expected a number"),
        ("(" * 39, "expected a number"),
        ("1" * 50, "expected at most 40 characters, got 50"),
        ("sqrt", "expected a number"),
        ("1 2)", "expected a number"),
        ("(1", "expected a number"),
        ("-", "expected a number"),
        ("²", "expected a number"),
    ],
)
def test_invalid_text_is_refused(text, message):
    with pytest.raises(MatrixError) as caught:
        read_matrix(text)
    assert message in str(caught.value)


@given(st.text(alphabet="0123456789+-*/().,; sqrt√e", max_size=12))
def test_any_text_gives_a_matrix_or_an_input_error(text):
    try:
        M = read_matrix(text)
    except InputError:
        return
    assert all(x.is_real for x in M)


def test_operators_are_left_associative():
    for a, b, c in product((1, 2, 3), repeat=3):
        assert read_entry(f"{a}-{b}-{c}", "x") == a - b - c
        assert read_entry(f"{a}/{b}*{c}", "x") == Rational(a, b) * c
        assert read_entry(f"-{a}+{b}*{c}", "x") == -a + b * c


@pytest.mark.parametrize(
    "text", ["sqrt(30)", "sqrt(6) sqrt(10) sqrt(15)", "sqrt(2) sqrt(3) sqrt(6) sqrt(12)"]
)
def test_products_of_other_roots_do_not_count_as_new_roots(text):
    assert all(check.holds and check.exact for check in explain("svd", text).checks)


def test_text_files_are_read_with_any_separator(tmp_path):
    files = {
        "comma.csv": "4,0\n3,5\n",
        "semicolon.csv": "4;0\r\n3;5\r\n",
        "tab.tsv": "4\t0\n3\t5",
        "space.txt": "# a remark\n4 0\n\n3 5\n",
        "mark.csv": "\ufeff4,0\n3,5\n",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text, "utf-8")
        assert read_matrix(tmp_path / name) == sympy.Matrix([[4, 0], [3, 5]])
        assert read_matrix(str(tmp_path / name)).shape == (2, 2)


def test_npy_files_are_read_as_shortest_decimals(tmp_path):
    np.save(tmp_path / "a.npy", np.array([[0.1, 2], [3, -4]], np.float32))
    assert read_matrix(tmp_path / "a.npy") == sympy.Matrix([[Rational(1, 10), 2], [3, -4]])
    np.save(tmp_path / "b.npy", np.array([[1, 2]]))
    assert read_matrix(tmp_path / "b.npy") == sympy.Matrix([[1, 2]])


class Boom:
    def __reduce__(self):
        return (pytest.fail, ("it was unpickled",))


def test_invalid_files_are_refused(tmp_path):
    np.save(tmp_path / "object.npy", np.array([[Boom()]], object), allow_pickle=True)
    (tmp_path / "pickle.npy").write_bytes(pickle.dumps(Boom()))
    np.save(tmp_path / "line.npy", np.ones(3))
    np.save(tmp_path / "complex.npy", np.ones((2, 2), complex))
    np.save(tmp_path / "large.npy", np.ones((600, 600)))
    np.save(tmp_path / "nan.npy", np.array([[1, np.nan]]))
    np.save(tmp_path / "none.npy", np.ones((0, 3)))
    np.save(tmp_path / "words.npy", np.array([["a", "b"]]))
    np.save(tmp_path / "long.npy", np.array([[1 / 3]]))
    (tmp_path / "empty.npy").write_bytes(b"")
    (tmp_path / "cut.npy").write_bytes((tmp_path / "large.npy").read_bytes()[:5000])
    (tmp_path / "text.csv").write_text("name,value\na,1\n")
    (tmp_path / "big.csv").write_text("1\n" * 100_000)
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "continent.csv").write_text("1,5;2,5\n3,0;4,5\n")  # decimal commas, or four columns?
    expected = {
        "object.npy": "this is not an .npy file of numbers",
        "pickle.npy": "this is not an .npy file of numbers",
        "line.npy": "expected a matrix, got an array of shape (3,)",
        "complex.npy": "expected real numbers",
        "large.npy": "the matrix is 600 x 600; the limit",
        "nan.npy": "column 2`: expected a finite number, got 'nan'",
        "none.npy": "found no number",
        "words.npy": "expected a number, got 'a'",
        "long.npy": "more than 6 digits",
        "empty.npy": "this is not an .npy file of numbers",
        "cut.npy": "this is not an .npy file of numbers",
        "text.csv": "got 'name'",
        "continent.csv": "line 1 has both commas and semicolons",
        "big.csv": "the file has 200,000 bytes",
        "folder.csv": "expected a regular file, found a folder. Check the path",
        "missing.csv": "there is no such file or folder. Check the path",
        "missing.npy": "there is no such file or folder. Check the path",
    }
    for name, message in expected.items():
        with pytest.raises(MatrixError) as caught:
            read_matrix(tmp_path / name)
        assert name in str(caught.value) and message in str(caught.value), name


def npy_with(header, data=b"", version=b"\1\0"):
    """Return an .npy file with a header of any text."""
    text = header.encode("latin1")
    return b"\x93NUMPY" + version + struct.pack("<H", len(text)) + text + data


HEADER = "{'descr': '<f8', 'fortran_order': False, 'shape': (%s), }"
HOSTILE = {
    "deep": npy_with("(" * 3000),
    "open": npy_with("{'descr': '<f8', 'shape'"),
    "minus signs": npy_with("-" * 9000 + "1"),
    "digits": npy_with("1" * 9000),
    "long": npy_with(HEADER % "1, 1" + " " * 20_000),
    "a list": npy_with("[]"),
    "objects": npy_with(HEADER.replace("<f8", "|O") % "1, 1", bytes(8)),
    "records": npy_with("{'descr': [('a', '<f8')], 'fortran_order': False, 'shape': (1, 1), }", bytes(8)),
    "dates": npy_with(HEADER.replace("<f8", "<M8[s]") % "1, 1", bytes(8)),
    "long texts": npy_with(HEADER.replace("<f8", "<U99999999") % "2, 2", bytes(8)),
    "empty texts": npy_with(HEADER.replace("<f8", "|S0") % "2, 2"),
    "promised numbers": npy_with(HEADER % "2, 2", bytes(24)),
    "promised terabytes": npy_with(HEADER % "1099511627776, 1024", bytes(8)),
    "a huge number": npy_with(HEADER % f"1{'0' * 400}, 1", bytes(8)),
    "negative": npy_with(HEADER % "-1, -2", bytes(16)),
    "version": npy_with(HEADER % "1, 1", bytes(8), b"\7\0"),
    "cut header": npy_with(HEADER % "1, 1")[:30],
    "cut length": b"\x93NUMPY\1\0\1",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_the_header_of_an_array_promises_is_checked_before_it_is_read(name, tmp_path):
    (tmp_path / "a.npy").write_bytes(HOSTILE[name])
    with pytest.raises(MatrixError, match=r"`a\.npy`: this is not an \.npy file of numbers \("):
        read_matrix(tmp_path / "a.npy")


@pytest.mark.parametrize(
    "text", ["(1 1 1\n" * 9000, "(" * 60_000, "1 " * 30_000, "((1) " * 13_000, "* " * 30_000]
)
def test_rows_that_took_minutes_are_refused_in_a_second(text, tmp_path):
    (tmp_path / "a.csv").write_text(text)
    start = time.process_time()
    with pytest.raises(MatrixError):
        read_matrix(tmp_path / "a.csv")
    assert time.process_time() - start < 5  # they took 20 s and more, as the square of the length


def test_spaces_in_parentheses_do_not_separate_entries():
    assert read_matrix("sqrt( 2 ) 3 *  4; ( 1 + 1 )   5") == sympy.Matrix([[sympy.sqrt(2), 12], [2, 5]])


@pytest.mark.parametrize(
    ("topic", "matrix", "options", "message"),
    [
        ("qr", "1", {}, "expected one of svd, rank"),
        ("svd", "1", {"rank": 1}, "this argument is only for lowrank and lora. Remove it"),
        ("pca", "1;2", {"alpha": 1}, "this argument is only for lora"),
        ("rank", "1", {"given": "1"}, "this argument is only for lora"),
        ("lowrank", "1 2; 2 4", {"rank": 2}, "the matrix has rank 1. Use at most 1"),
        ("lowrank", "1 2; 2 4", {"rank": 0}, "at least 1"),
        ("lowrank", "1 2; 2 4", {"rank": True}, "at least 1"),
        ("lora", "0", {"rank": 1}, "the matrix has rank 0. Remove this argument"),
        ("lora", "1", {"alpha": "-2"}, "expected a number or fraction above 0"),
        ("lora", "1", {"alpha": "x"}, "expected a number"),
        ("lora", "1; 2", {"given": "1"}, "expected a B with as many rows as the matrix, which is 2 x 1"),
        ("lora", "1; 2", {"given": "1 2; 2 4"}, "the columns of B are linearly dependent"),
        ("pca", "1 2 3", {}, "one row of data has no variance"),
    ],
)
def test_invalid_options_are_refused(topic, matrix, options, message):
    with pytest.raises(InputError) as caught:
        explain(topic, matrix, **options)
    assert message in str(caught.value)


def test_data_for_pca_may_have_more_rows():
    explain("pca", [[i, i * i] for i in range(12)])
    with pytest.raises(MatrixError, match="the matrix is 13 x 1; the limit for exact steps is 12 x 5"):
        explain("pca", [[i] for i in range(13)])
