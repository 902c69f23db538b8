"""MovieLens in its three forms, from a few lines of each."""

import pytest

from qarm_features.importers.formats import FORMATS
from qarm_features.importers.plan import ImportFailed, Options
from tests.importers.imported import imported, write_files

LEON = {"movie_id": "293", "title": "Léon: The Professional (1994)", "genres": ["Crime", "Drama"]}


def test_files_of_1m_are_latin_1_and_a_broken_line_costs_itself_alone(tmp_path):
    movies = (
        "293::Léon: The Professional (1994)::Crime|Drama\r\n2::Two colons :: here::Drama\r\n3::Café (1996)::Drama\r\n"
    )
    ratings = "1::293::5::978300760\r\n\r\n1::293::5\r\n2::3::x::later\r\n"

    items, log, left_of_items, left_of_log, plan = imported(
        tmp_path, "movielens", {"movies.dat": movies.encode("latin-1"), "ratings.dat": ratings}
    )

    assert items == [LEON, {"movie_id": "3", "title": "Café (1996)", "genres": ["Drama"]}]
    assert left_of_items == {"4 fields instead of 3": 1}
    assert log == [
        {"user_id": "1", "movie_id": "293", "rating": "5", "timestamp": "978300760"},
        {"user_id": "2", "movie_id": "3", "rating": "x", "timestamp": "later"},  # ingest judges values
    ]
    assert left_of_log == {"an empty line": 1, "3 fields instead of 4": 1}
    assert "latin-1" in plan.found


def test_one_broken_line_of_a_utf_8_file_does_not_turn_the_others_into_latin_1(tmp_path):
    movies = "293::Léon: The Professional (1994)::Crime|Drama\n4::Amélie::Drama\n".encode() + b"5::Caf\xe9::Drama\n"

    items, _, left_out, _, plan = imported(
        tmp_path, "movielens", {"movies.dat": movies, "ratings.dat": "1::293::5::978300760\n"}
    )

    assert items == [LEON, {"movie_id": "4", "title": "Amélie", "genres": ["Drama"]}]
    assert left_out == {"bytes that are not utf-8": 1}
    assert "utf-8" in plan.found


def test_csv_files_are_read_by_their_header_with_quotes_and_a_byte_order_mark(tmp_path):
    movies = (
        "\ufeffmovieId,title,genres\n"
        '1,"Heat, The (2013)",Action|Comedy\n'
        '2,"A ""quoted"" title",(no genres listed)\n'
        '3,"never closed,Drama\n'
        "4,Last,Drama\n"
    )
    ratings = "timestamp,userId,movieId,rating\n1147880044,7,1,4.5\n1147880045,7,4,0.5\n"

    items, log, left_out, _, _ = imported(tmp_path, "movielens", {"movies.csv.gz": movies, "ratings.csv.bz2": ratings})

    assert items == [
        {"movie_id": "1", "title": "Heat, The (2013)", "genres": ["Action", "Comedy"]},
        {"movie_id": "2", "title": 'A "quoted" title', "genres": []},
        {"movie_id": "4", "title": "Last", "genres": ["Drama"]},
    ]
    assert left_out == {"a quote that is not closed": 1}
    assert log == [
        {"user_id": "7", "movie_id": "1", "rating": "4.5", "timestamp": "1147880044"},
        {"user_id": "7", "movie_id": "4", "rating": "0.5", "timestamp": "1147880045"},
    ]


def test_flags_of_100k_become_the_names_of_genres(tmp_path):
    flags = "|".join("1" if place in (5, 16) else "0" for place in range(19))
    movies = f"1|Toy Story (1995)|01-Jan-1995||http://us.imdb.com/M/title-exact?Toy%20Story|{flags}\n"

    items, log, _, _, _ = imported(tmp_path, "movielens", {"u.item": movies, "u.data": "196\t1\t3\t881250949\n"})

    assert items == [{"movie_id": "1", "title": "Toy Story (1995)", "genres": ["Comedy", "Thriller"]}]
    assert log == [{"user_id": "196", "movie_id": "1", "rating": "3", "timestamp": "881250949"}]


def test_a_limit_takes_the_first_rows_of_the_log_and_their_items(tmp_path):
    files = {
        "movies.dat": "1::One::Drama\n2::Two::Drama\n3::Three::Drama\n",
        "ratings.dat": "1::3::5::978300760\n1::1::5::978300761\n1::2::5::978300762\n",
    }

    items, log, left_out, _, _ = imported(tmp_path, "movielens", files, limit=2)

    assert [row["movie_id"] for row in items] == ["1", "3"]
    assert [row["movie_id"] for row in log] == ["3", "1"]
    assert left_out == {"an item without a row within the limit": 1}


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            {"ratings.dat": "1::1::5::978300760\n", "README": ""},
            r"does not look like MovieLens. Looked for: ratings.dat and movies.dat, or .* Found: README, ratings.dat.",
        ),
        ({"ml-1m.zip": "PK"}, r"Found: ml-1m.zip. Unpack ml-1m.zip first."),
        (
            {"ratings.csv": "user,item\n1,2\n", "movies.csv": "movieId,title,genres\n1,One,Drama\n"},
            r"The header of ratings.csv lacks userId, movieId, rating, timestamp; it is 'user,item'",
        ),
        (
            {"ratings.dat": "1,1,5,978300760\n", "movies.dat": "1::One::Drama\n"},
            r"The first line of ratings.dat has 1 fields between '::', must have 4: '1,1,5,978300760'",
        ),
        (
            {"ratings.dat": "", "movies.dat": ""},
            r"ratings.dat has no row for interactions|movies.dat has no row for items",
        ),
    ],
)
def test_a_folder_that_does_not_fit_is_refused_with_what_was_found(tmp_path, files, message):
    with pytest.raises(ImportFailed, match=message):
        imported(tmp_path, "movielens", files)
    assert not (tmp_path / "catalog" / "items.parquet").exists()


def test_a_source_that_is_missing_or_a_file_is_refused(tmp_path):
    write_files(tmp_path, {"ratings.dat": "1::1::5::978300760\n"})

    with pytest.raises(ImportFailed, match="SOURCE is .*nowhere, and there is no such folder"):
        FORMATS["movielens"].plan(tmp_path / "nowhere", Options())
    with pytest.raises(
        ImportFailed, match="SOURCE is .*ratings.dat, a file, must be the folder with the files of MovieLens"
    ):
        FORMATS["movielens"].plan(tmp_path / "ratings.dat", Options())


def test_a_packed_file_that_ends_early_is_an_error_and_writes_nothing(tmp_path):
    lines = "".join(f"{user}::1::5::97830{user:04}\n" for user in range(5000))
    source = write_files(tmp_path / "source", {"movies.dat": "1::One::Drama\n", "ratings.dat.gz": lines})
    packed = (source / "ratings.dat.gz").read_bytes()
    (source / "ratings.dat.gz").write_bytes(packed[: len(packed) * 9 // 10])

    with pytest.raises(
        ImportFailed, match=r"ratings.dat.gz cannot be unpacked after line \d,\d+: .* incomplete or damaged"
    ):
        imported(tmp_path, "movielens", {})
    assert list((tmp_path / "catalog").iterdir()) == []
