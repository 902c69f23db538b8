"""Names that people chose, as parts of SQL."""

from __future__ import annotations

import pytest

from qarm_features.storage.sql_names import ddl, files_at, quoted, table_named, text_literal, unused_name

HOSTILE = (
    "we`ird", "`", "a.b", "a b", "a,b", "a;b", "it's", 'say "x"', "per%cent", "#1", "back\\slash", "new\nline", "{x}", "(x)",
    "SELECT 1 --", "für", "_corrupt_record", "_raw", "x` AS y, `z",
)  # fmt: skip


def test_spark_finds_every_name_again(spark):
    row = ", ".join(f"{text_literal(name)} AS {quoted(name)}" for name in HOSTILE)
    frame = spark.sql(f"SELECT {row}")

    assert frame.columns == list(HOSTILE)
    assert list(frame.first()) == list(HOSTILE)
    assert spark.createDataFrame([], ddl((name, "int") for name in HOSTILE)).columns == list(HOSTILE)


@pytest.mark.parametrize("folder", ["a`b", "it's #1, 50% (für)", "x` VERSION AS OF 0 --"])
def test_spark_finds_the_files_of_a_folder_of_any_name(spark, tmp_path, folder):
    path = tmp_path / folder / "lines.txt"
    path.parent.mkdir()
    path.write_text("7")

    assert spark.sql(f"SELECT value FROM {files_at(str(path), 'text')}").first()["value"] == "7"


@pytest.mark.parametrize("name", ["", ".users", "lake.", "lake..users", "`lake", "us`ers", "`a`b"])
def test_a_text_that_is_no_name_of_a_table_is_refused(name):
    with pytest.raises(ValueError, match="publishing.user_embeddings.table is .*, must be the name of a table"):
        table_named(name, setting="publishing.user_embeddings.table")


def test_a_name_of_a_table_is_nothing_but_a_name():
    assert table_named("users) UNION SELECT 1 --", setting="table") == "`users) UNION SELECT 1 --`"
    assert table_named("lake.`day.1`.us-ers", setting="table") == "`lake`.`day.1`.`us-ers`"


def test_an_unused_name_differs_from_others_by_more_than_capitals():
    assert unused_name("nearest", ["item_id", "NEAREST", "nearest_"]) == "nearest__"
