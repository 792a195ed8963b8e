"""Headers of well-known data sets of ratings, and what is said about headers that name too little."""

from pathlib import Path

import pytest

from eckart.applications.ratings import read_ratings
from eckart.errors import RatingsError

# The header of each data set as it is published, and a line of ratings with user u1, item i1 and rating 4.
DATA_SETS = {
    "MovieLens": ("userId,movieId,rating,timestamp", "u1,i1,4.0,964982703"),
    "MovieLens 1M": ("", "u1::i1::4::978300760"),
    "MovieLens 100K": ("", "u1\ti1\t4\t881250949"),
    "Amazon": ("user_id,parent_asin,rating,timestamp", "u1,i1,4.0,1658185117948"),
    "Amazon 2018": ("item,user,rating,timestamp", "i1,u1,4.0,1353024000"),
    "Amazon, reviews": ("rating,title,text,asin,user_id", "4.0,Good,Good,i1,u1"),
    "Netflix on Kaggle": ("Cust_Id,Movie_Id,Rating,Date", "u1,i1,4,2005-09-06"),
    "Goodbooks": ("user_id,book_id,rating", "u1,i1,4"),
    "Book-Crossing": ('"User-ID";"ISBN";"Book-Rating"', '"u1";"i1";"4"'),
    "Book-Crossing, quotes": ('"User-ID";"ISBN";"Book-Rating"', '"u1";"\\"i1\\"";"4"'),
    "Last.fm": ("userID\tartistID\tweight", "u1\ti1\t4"),
    "MyAnimeList": ("user_id,anime_id,rating", "u1,i1,4"),
    "Food.com": ("user_id,recipe_id,date,rating,review", "u1,i1,2003-02-17,4,Great with rice"),
    "UCI restaurants": ("userID,placeID,rating,food_rating,service_rating", "u1,i1,4,2,2"),
    "Jester": ("user,joke,rating", "u1,i1,4"),
    "Steam": ("user,game,hours", "u1,i1,4"),
    "Yelp": ("review_id,user_id,business_id,stars,date,text", "r1,u1,i1,4,2018-07-07,Nice"),
    "an item of another kind": ("user_id,wine_id,stars", "u1,i1,4"),
    "columns in another order": ("score,thing_id,uid,remark", "4,i1,u1,none"),
}


@pytest.mark.parametrize("name", DATA_SETS)
def test_a_well_known_data_set_is_read(tmp_path, name):
    header, line = DATA_SETS[name]
    path = tmp_path / "ratings.txt"
    path.write_text("\n".join(filter(None, [header, line, line.replace("u1", "u2")])) + "\n")
    ratings = read_ratings(path)
    assert ratings.user_ids == ("u1", "u2")
    assert [item.strip('"') for item in ratings.item_ids] == ["i1"]
    assert ratings.values.tolist() == [4.0, 4.0]


@pytest.mark.parametrize(
    "header, missing",
    [
        ("user_id,date,review,rating", "item"),
        ("movieId,rating,timestamp", "user"),
        ("userId,movieId,timestamp", "rating"),
        ("user,remark,date", "item or rating"),
    ],
)
@pytest.mark.parametrize("skip_bad", [False, True])
def test_a_header_without_a_column_is_refused_with_the_names_that_are_looked_for(
    tmp_path, header, missing, skip_bad
):
    path = tmp_path / "ratings.csv"
    path.write_text(header + "\n" + ",".join("1" * len(header.split(","))) + "\n")
    with pytest.raises(RatingsError) as caught:
        read_ratings(path, skip_bad=skip_bad)
    text = str(caught.value)
    assert f"the header has no column for {missing}: " in text
    assert (
        "Name the columns user (or user_id, ...), item (or item_id, movie_id, isbn, ...) and rating" in text
    )


def test_a_header_of_unknown_names_gets_the_names_that_are_looked_for(tmp_path):
    path = tmp_path / "ratings.csv"
    path.write_text("who,what,how\n1,2,3\n")
    with pytest.raises(RatingsError, match="If the first line is a header, name its columns user"):
        read_ratings(path)


def test_files_of_the_netflix_prize_get_a_command_that_converts_them(tmp_path: Path):
    path = tmp_path / "combined_data_1.txt"
    path.write_text("1:\n1488844,3,2005-09-06\n822109,5,2005-05-13\n")
    with pytest.raises(RatingsError, match=r"the number of a film\. Convert it: awk .*combined_data_1\.txt"):
        read_ratings(path)


def test_a_backslash_at_the_end_of_a_quoted_id_is_part_of_it(tmp_path):
    path = tmp_path / "ratings.csv"
    path.write_text('"u1","C:\\","4"\n')
    assert read_ratings(path).item_ids == ("C:\\",)
