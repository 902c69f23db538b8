"""MovieLens in its three forms: ``.dat`` of 1M and 10M, ``.csv`` of 20M and later, ``u.data`` of 100K."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from qarm_features.importers.lines import encoding_of, fields, head, split
from qarm_features.importers.plan import (
    Column,
    Format,
    ImportPlan,
    Options,
    Row,
    Rows,
    Setting,
    TablePlan,
    settings_of,
)
from qarm_features.importers.source_files import SourceFolder
from qarm_features.importers.tally import Tally

_TITLE = "MovieLens"
_LOOKS_FOR = "ratings.dat and movies.dat, or ratings.csv and movies.csv, or u.data and u.item"
_CSV_RATINGS = ("userId", "movieId", "rating", "timestamp")
_CSV_MOVIES = ("movieId", "title", "genres")
_RATING_FIELDS = ("field 1", "field 2", "field 3", "field 4")
_NO_GENRES = "(no genres listed)"
_U_ITEM_FIELDS, _FIRST_FLAG = 24, 5
# The order of the flags in u.item, for copies without u.genre.
_GENRES = [
    "unknown",
    "Action",
    "Adventure",
    "Animation",
    "Children's",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Fantasy",
    "Film-Noir",
    "Horror",
    "Musical",
    "Mystery",
    "Romance",
    "Sci-Fi",
    "Thriller",
    "War",
    "Western",
]


def plan(source: Path, options: Options) -> ImportPlan:
    """Recognizes the form of MovieLens in a folder.

    Args:
        source: Folder of the files.
        options: ``encoding`` is that of the movies; without it, 1M and 100K are found to be latin-1 and 10M UTF-8.

    Raises:
        ImportFailed: The folder has none of the three forms.
    """
    folder = SourceFolder(source, _TITLE, _LOOKS_FOR)
    if (ratings := folder.find("ratings.dat")) and (movies := folder.find("movies.dat")):
        return _of_dat(folder, ratings, movies, options.encoding or encoding_of(movies))
    if (ratings := folder.find("ratings.csv")) and (movies := folder.find("movies.csv")):
        return _of_csv(folder, ratings, movies, options.encoding or "utf-8")
    if (ratings := folder.find("u.data")) and (movies := folder.find("u.item")):
        return _of_100k(folder, ratings, movies, options.encoding or encoding_of(movies))
    raise folder.refuse()


def _of_dat(folder: SourceFolder, ratings: Path, movies: Path, encoding: str) -> ImportPlan:
    _require(folder, ratings, "::", 4)
    _require(folder, movies, "::", 3)

    def movie_rows(tally: Tally) -> Iterator[Row]:
        for _, (movie, title, genres) in fields(movies, tally, delimiter="::", width=3, encoding=encoding):
            yield movie, title, _genres(genres)

    names = ["first field", "second field", "third field, split at |"]
    return _plan(ratings, movies, encoding, names, movie_rows, _ratings(ratings, "::"), _RATING_FIELDS)


def _of_csv(folder: SourceFolder, ratings: Path, movies: Path, encoding: str) -> ImportPlan:
    rating_at, rating_width = _header(folder, ratings, _CSV_RATINGS)
    movie_at, movie_width = _header(folder, movies, _CSV_MOVIES)

    def movie_rows(tally: Tally) -> Iterator[Row]:
        lines = fields(movies, tally, delimiter=",", width=movie_width, quoted=True, encoding=encoding, skip=1)
        for _, row in lines:
            movie, title, genres = (row[at] for at in movie_at)
            yield movie, title, _genres(genres)

    def rating_rows(tally: Tally) -> Iterator[Row]:
        for _, row in fields(ratings, tally, delimiter=",", width=rating_width, quoted=True, skip=1):
            yield tuple([row[at] for at in rating_at])

    names = [f"column {name}" for name in _CSV_MOVIES]
    return _plan(ratings, movies, encoding, names, movie_rows, rating_rows, [f"column {name}" for name in _CSV_RATINGS])


def _of_100k(folder: SourceFolder, ratings: Path, movies: Path, encoding: str) -> ImportPlan:
    _require(folder, ratings, "\t", 4)
    _require(folder, movies, "|", _U_ITEM_FIELDS)
    genre_names = _genre_names(folder)

    def movie_rows(tally: Tally) -> Iterator[Row]:
        for _, row in fields(movies, tally, delimiter="|", width=_U_ITEM_FIELDS, encoding=encoding):
            flags = zip(genre_names, row[_FIRST_FLAG:], strict=True)
            yield row[0], row[1], [name for name, flag in flags if flag.strip() == "1" and name != "unknown"]

    names = ["first field", "second field", "flags of the genres"]
    return _plan(ratings, movies, encoding, names, movie_rows, _ratings(ratings, "\t"), _RATING_FIELDS)


def _ratings(file: Path, delimiter: str) -> Rows:
    """Returns the rows of a file of ratings without a header."""

    def rows(tally: Tally) -> Iterator[Row]:
        for _, row in fields(file, tally, delimiter=delimiter, width=len(_RATING_FIELDS)):
            yield tuple(row)

    return rows


def _plan(
    ratings: Path,
    movies: Path,
    encoding: str,
    movie_fields: Sequence[str],
    movie_rows: Rows,
    rating_rows: Rows,
    rating_fields: Sequence[str],
) -> ImportPlan:
    item_columns = tuple(
        Column(name, f"{movies.name}, {field}", is_list=name == "genres")
        for name, field in zip(("movie_id", "title", "genres"), movie_fields, strict=True)
    )
    log_columns = tuple(
        Column(name, f"{ratings.name}, {field}")
        for name, field in zip(("user_id", "movie_id", "rating", "timestamp"), rating_fields, strict=True)
    )
    items = TablePlan("items", item_columns, "movie_id", (movies,), movie_rows)
    log = TablePlan("interactions", log_columns, "movie_id", (ratings,), rating_rows)
    settings = {
        "items.item_id": "movie_id",
        "items.item_id_type": Setting("integer", "MovieLens numbers its movies."),
        "items.title": "title",
        "items.text": ["title", "genres"],
        "interactions.user_id": "user_id",
        "interactions.user_id_type": Setting("integer", "MovieLens numbers its users."),
        "interactions.item_id": "movie_id",
        "interactions.event_timestamp": "timestamp",
        "interactions.timestamp_unit": Setting("seconds", "MovieLens counts seconds since 1970 in UTC."),
        "interactions.label": "rating",
        "interactions.positive_from": Setting(4, "Ratings of 4 and 5 stars count as positive; this is your choice."),
    }
    found = f"{ratings.name} and {movies.name} ({encoding})"
    return ImportPlan(found, items, log, settings_of(settings, items, log))


def _genres(text: str) -> list[str]:
    return [] if text == _NO_GENRES else [genre for genre in text.split("|") if genre]


def _genre_names(folder: SourceFolder) -> list[str]:
    """Returns the names of the flags, as u.genre gives them or as they are known."""
    file = folder.find("u.genre")
    if file is None:
        return _GENRES
    names = [line.split("|")[0] for line in head(file, encoding="latin-1")]
    return names if len(names) == len(_GENRES) else _GENRES


def _require(folder: SourceFolder, file: Path, delimiter: str, width: int) -> None:
    """Raises an error if no line of the head has the expected number of fields."""
    lines = head(file, encoding="latin-1")
    if lines and not any(len(line.split(delimiter)) == width for line in lines):
        raise folder.refuse(
            f"The first line of {file.name} has {len(lines[0].split(delimiter))} fields between {delimiter!r}, must have "
            f"{width}: {lines[0][:100]!r}."
        )


def _header(folder: SourceFolder, file: Path, wanted: Sequence[str]) -> tuple[list[int], int]:
    """Returns the positions of columns and the number of columns of a CSV file."""
    first = head(file, count=1)
    names = split(first[0], ",", quoted=True) or [] if first else []
    if missing := [name for name in wanted if name not in names]:
        raise folder.refuse(
            f"The header of {file.name} lacks {', '.join(missing)}; it is {first[0][:100] if first else 'missing'!r}."
        )
    return [names.index(name) for name in wanted], len(names)


FORMAT = Format(
    name="movielens",
    title=_TITLE,
    looks_for=_LOOKS_FOR,
    from_whom="GroupLens Research, University of Minnesota (data sets 100K, 1M, 10M, 20M, 25M, 32M, latest)",
    license="for research; no redistribution and no commercial use without permission of GroupLens",
    plan=plan,
    options=frozenset({"encoding"}),
)
