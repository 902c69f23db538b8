"""Embeddings of users from any place, whatever its name and those of its columns."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pandas as pd
import pytest

from qarm_features.feature_store.views.user_embedding_query import user_embedding_query
from qarm_features.settings.publishing import UserEmbeddings

NAMES = {"user_id": "us`er.id", "embedding": "ve`c) --", "event_timestamp": "it's at"}
NOON = datetime(2024, 1, 5, 12, tzinfo=UTC)


def read(spark, path, kind="jsonl", id_type="bigint", **names):
    source = UserEmbeddings(path=str(path), format=kind, **(names or NAMES))
    rows = spark.sql(user_embedding_query(source, str(path), id_type)).collect()
    return sorted((row["user_id"], list(row["user_embedding"]), row["event_timestamp"].timestamp()) for row in rows)


def lines(path, *rows):
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    return path


@pytest.fixture(autouse=True, params=["false", "true"])
def _a_session_of_feast(request, spark):
    """Feast sets this for the whole session. A name in backticks in a SELECT is a regular expression then."""
    name = "spark.sql.parser.quotedRegexColumnNames"
    before = spark.conf.get(name)
    spark.conf.set(name, request.param)
    yield
    spark.conf.set(name, before)


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_columns_and_files_of_any_name_are_read(spark, tmp_path, kind):
    path = tmp_path / "it's a`b [1] #2 50%" / f"users.{kind}"
    path.parent.mkdir()
    frame = pd.DataFrame({"us`er.id": [7], "ve`c) --": [[0.5, 1.0]], "it's at": [NOON.isoformat()]})
    frame.to_parquet(path) if kind == "parquet" else frame.to_json(path, orient="records", lines=True)

    assert read(spark, path, kind) == [(7, [0.5, 1.0], NOON.timestamp())]


def test_json_lines_may_have_keys_that_spark_would_stop_at(spark, tmp_path):
    plain = {"user_id": "user_id", "embedding": "embedding", "event_timestamp": "event_timestamp"}
    row = {"user_id": 7, "embedding": [1, 0.5], "event_timestamp": NOON.isoformat()}
    path = lines(
        tmp_path / "users.jsonl",
        row | {"USER_ID": 8, "a": 1, "A": 2, "_corrupt_record": 3},
        "",
        row | {"user_id": 9007199254740993, "event_timestamp": NOON.timestamp()},
        row | {"user_id": 12345678.0},
        row | {"user_id": "10"},
        row | {"user_id": 9.0, "event_timestamp": int(NOON.timestamp())},
    )

    ids = (7, 9, 10, 12345678, 9007199254740993)
    assert read(spark, path, **plain) == [(user_id, [1.0, 0.5], NOON.timestamp()) for user_id in ids]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            '{"user_id": 7, "embedding": [1], "event_timestamp": "2024-',
            "users.jsonl, which has a line that is not an object",
        ),
        ('{"user_id": 7, "embedding": ["x"], "event_timestamp": "2024-01-05"}', "has a line that is not an object"),
        ('{"user_id": 7, "embedding": [1], "event_timestamp": "2024-01-05", "a', "has a line that is not an object"),
        ('{"user_id": 7, "embedding": [1]}', "users.jsonl, which has a line without event_timestamp"),
        ('{"embedding": [1], "event_timestamp": "2024-01-05"}', "has a line without user_id"),
    ],
)
def test_a_json_line_that_cannot_be_read_is_no_missing_user(spark, tmp_path, line, message):
    good = '{"user_id": 1, "embedding": [1], "event_timestamp": "2024-01-05"}'
    path = lines(tmp_path / "users.jsonl", good, line)

    with pytest.raises(Exception, match=message):
        read(spark, path, user_id="user_id")


def test_a_table_is_nothing_but_a_name():
    source = UserEmbeddings(table="lake.users` UNION SELECT 1")

    with pytest.raises(ValueError, match="publishing.user_embeddings.table is lake.users` UNION SELECT 1, must be"):
        user_embedding_query(source, None, "bigint")
