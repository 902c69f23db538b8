"""Two states of a source: which files are new, or why that cannot be told."""

from __future__ import annotations

import pytest

from qarm_features.catalog.reading.new_files import new_files
from qarm_features.settings.sources import ItemSource

A, B = ["a.csv", 100, 1], ["day/b.csv", 20, 2]


def source(path: str = "shop.csv", **more) -> ItemSource:
    return ItemSource(path=path, text=["title"], **more)


def test_a_file_that_was_added_is_new_and_markers_are_no_files(tmp_path):
    marker = ["day/_SUCCESS", 0, 3]

    found = new_files("items", source(), str(tmp_path), [A], [A, B, marker])

    assert (found.paths, found.fault) == ((str(tmp_path / "day" / "b.csv"),), "")


@pytest.mark.parametrize(
    ("before", "now", "fault"),
    [
        ([A, B], [A], "1 files of items left, for example day/b.csv"),
        ([A], [["a.csv", 101, 1]], "1 files of items changed, for example a.csv"),
        ([A], [["a.csv", 100, 9], B], "1 files of items changed, for example a.csv"),
        ([A], [A, ["b{1}.csv", 1, 1]], "b{1}.csv looks like a pattern"),
        ("unknown", "unknown", "the files of items cannot be listed"),
        (None, [A], "the files of items cannot be listed"),
    ],
)
def test_what_else_happened_is_a_fault(tmp_path, before, now, fault):
    found = new_files("items", source(), str(tmp_path), before, now)

    assert found.paths == ()
    assert fault in found.fault


@pytest.mark.parametrize(
    ("path", "more", "fault"),
    [
        ("shop", {"format": "delta"}, "items has the format delta, which does not tell which rows are new"),
        ("{a,b}.csv", {}, "items.path is a pattern, whose files only Spark lists"),
    ],
)
def test_some_sources_never_tell(tmp_path, path, more, fault):
    assert new_files("items", source(path, **more), str(tmp_path / path), [A], [A, B]).fault == fault
