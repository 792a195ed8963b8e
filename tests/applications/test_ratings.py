"""Ratings are read from every format, which is recognised by content, and every defect is reported."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eckart.applications.ratings import Ratings, read_ratings
from eckart.errors import RatingsError

TRIPLES = [("196", "242", 3.0), ("186", "302", 3.5), ("196", "302", 1.0)]
FORMATS = {
    "u.data": "196\t242\t3\t881250949\n186\t302\t3.5\t891717742\n196\t302\t1\t878887116\n",
    "ratings.dat": "196::242::3::978300760\n186::302::3.5::978302109\n196::302::1::978301968\n",
    "ratings.csv": "userId,movieId,rating,timestamp\n196,242,3.0,1\n186,302,3.5,2\n196,302,1.0,3\n",
    "no header": "196,242,3\n186,302,3.5\n196,302,1\n",
    "semicolons": "196;242;3\n186;302;3.5\n196;302;1\n",
    "other order": "Rating,Item ID,date,User_ID\n3,242,x,196\n3.5,302,y,186\n1,302,,196\n",
    "an index": ",user,item,rating\n0,196,242,3\n1,186,302,3.5\n2,196,302,1\n",
    "windows": "196,242,3\r\n186,302,3.5\r\n196,302,1\r\n",
    "byte-order mark": "\ufeffuser,item,rating\n196,242,3\n186,302,3.5\n196,302,1\n",
    "blank lines": "\n196,242,3\n\n  \n186,302,3.5\n196,302,1\n\n",
    "quotes": '"196","242","3"\n"186","302","3.5"\n"196","302","1"',
    "spaces": " 196, 242, 3\n186 ,302 , 3.5\n196,302,1\n",
}


def triples(r):
    pairs = zip(r.users, r.items, r.values, strict=True)
    return [(r.user_ids[u], r.item_ids[i], v) for u, i, v in pairs]


def written(tmp_path, text):
    path = tmp_path / "some.file"  # the format must be recognised by the content
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_read(tmp_path, name):
    assert triples(read_ratings(written(tmp_path, FORMATS[name]))) == TRIPLES


@pytest.mark.parametrize("name", ["u.data", "ratings.dat", "ratings.csv"])
def test_folder_with_a_usual_file_is_read(tmp_path, name):
    (tmp_path / name).write_text(FORMATS[name])
    assert triples(read_ratings(tmp_path)) == TRIPLES


def test_ids_are_text(tmp_path):
    huge = "9" * 60
    text = f'ann,"tea, green",5\n{huge},07,4\n{huge},7,3\n渡辺,"a ""b""",2\n'
    r = read_ratings(written(tmp_path, text))
    assert r.user_ids == ("ann", huge, "渡辺")
    assert r.item_ids == ("tea, green", "07", "7", 'a "b"')


def test_quote_in_a_tab_separated_file_is_part_of_the_id(tmp_path):
    r = read_ratings(written(tmp_path, '1\tthe "best\t5\n2\tother\t4\n'))
    assert r.item_ids == ('the "best', "other")


def test_last_rating_of_a_pair_is_kept(tmp_path):
    r = read_ratings(written(tmp_path, "a,x,1\nb,x,2\na,x,5\na,y,3\na,x,4\n"))
    assert sorted(triples(r)) == [("a", "x", 4.0), ("a", "y", 3.0), ("b", "x", 2.0)]
    assert r.notes == ("dropped 2 repeated ratings; the last rating of each user and item is kept",)


BAD = {
    "not a number": ("1,2,3\n1,3,good\n", "line 2: expected a rating, found 'good'"),
    "NaN": ("1,2,3\n1,3,nan\n", "line 2: expected a rating, found 'nan'"),
    "infinite": ("1,2,3\n\n1,3,1e999\n", "line 3: expected a rating, found '1e999'"),
    "beyond float32": (
        "1,2,1e31\n",
        "line 1: expected a rating of absolute value at most 1e+30, found '1e31'",
    ),
    "underscore": ("1,2,1_000\n", "line 1: expected a rating, found '1_000'"),
    "no rating": ("1,2,3\n1,3,\n", "line 2: expected a rating, found ''"),
    "too few": ("1\t2\t3\n1\t2\n", "line 2: expected 3 (user, item, rating) or 4"),
    "too many": ("1,2,3,4,5\n", "line 1: expected 3"),
    "not the header's": ("user,item,rating\n1,2,3\n1,2,3,4\n", "line 3: expected the header's 3 fields"),
    "no user": ("1,2,3\n ,2,3\n", "line 2: the user is empty"),
    "no item": ("1::2::3\n1::::3\n", "line 2: the item is empty"),
    "a header of unknown names": ("who,what,how\n1,2,3\n", "line 1: expected a rating, found 'how'"),
    "several": ("1,2,x\n" * 9, "line 5: expected a rating, found 'x'; and 4 more bad lines"),
    "empty": ("", "the file is empty"),
    "blank": ("\n\n  \n", "the file is empty"),
    "a header alone": ("user,item,rating\n", "there are no ratings"),
    "no delimiter": ("hello\n", "expected user, item and rating in the first line, found 'hello'"),
    "open quote": ('1,2,3\n1,"2,3\n', "the file is not valid CSV"),
    "zip": (b"PK\x03\x04rest", "Unpack it"),
    "binary": (b"\x80\x04\x00\x01", "the file is not text"),
    "latin-1": ("caf\xe9,2,3\n".encode("latin-1"), "is not UTF-8 text"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_file_is_refused_with_its_defect(tmp_path, name):
    text, defect = BAD[name]
    path = written(tmp_path, text)
    with pytest.raises(RatingsError) as error:
        read_ratings(path)
    assert defect in str(error.value) and str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_file_and_folder_without_ratings_are_refused(tmp_path):
    with pytest.raises(RatingsError, match="no such file"):
        read_ratings(tmp_path / "none.csv")
    with pytest.raises(RatingsError, match=r"the folder holds none of u\.data"):
        read_ratings(tmp_path)


def test_bad_lines_can_be_skipped(tmp_path):
    r = read_ratings(written(tmp_path, "1,2,3\n1,3,x\n1,4\n2,2,5\n"), skip_bad=True)
    assert triples(r) == [("1", "2", 3.0), ("2", "2", 5.0)]
    assert r.notes == ("skipped 2 bad lines; the first is line 2: expected a rating, found 'x'",)


def test_invalid_sequences_are_refused():
    with pytest.raises(RatingsError, match="equal length"):
        Ratings.of(["a"], ["x", "y"], [1.0])
    with pytest.raises(RatingsError, match=r"values\[1\] is nan"):
        Ratings.of(["a", "b"], ["x", "y"], [1.0, np.nan])
    with pytest.raises(RatingsError, match="no ratings"):
        Ratings.of([], [], [])


IDS = st.text(st.characters(codec="utf-8", exclude_characters='\r\n\t":;,\0\ufeff'), min_size=1).map(
    str.strip
)


@settings(max_examples=100)
@given(
    rows=st.lists(
        st.tuples(IDS.filter(bool), IDS.filter(bool), st.floats(-1e9, 1e9)),
        min_size=1,
        max_size=20,
        unique_by=lambda row: row[:2],
    ),
    delimiter=st.sampled_from(["\t", ",", ";", "::"]),
)
def test_written_ratings_are_read_back(tmp_path_factory, rows, delimiter):
    # The third field is a number, so the first line is never a header.
    text = "".join(f"{u}{delimiter}{i}{delimiter}{v!r}\n" for u, i, v in rows)
    path = tmp_path_factory.mktemp("any") / "r"
    path.write_bytes(text.encode())
    assert triples(read_ratings(path)) == [(u, i, v) for u, i, v in rows]
