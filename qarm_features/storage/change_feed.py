"""The change feed of a table: which rows its commits added, changed and removed, without a comparison of whole versions.

In: a table's folder or URI and two Delta versions. Out: rows with the kind and the version of their change. ::

    version  item_id  rq_codes         item_id  rq_codes  _change_type      _commit_version
    4        1        [4, 7]      ->   2        [4, 9]    insert            5
    5        2        [4, 9]           1        [4, 7]    update_preimage   6
    6        1        [5, 0]           1        [5, 0]    update_postimage  6
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from deltalake import DeltaTable

from qarm_features.storage.plain_files import commits_of
from qarm_features.storage.sql_names import files_at

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

KIND, COMMIT = "_change_type", "_commit_version"
COMES, GOES = ("insert", "update_postimage"), ("delete", "update_preimage")
_FEED = "delta.enableChangeDataFeed"
KEPT_FEED = {_FEED: "true"}  # the table property of a table that keeps one from its start


def keep_change_feed(spark: SparkSession, path: str) -> bool:
    """Let a table keep a feed of its changes from its next version on.

    Args:
        spark: Session with Delta.
        path: Folder or URI of the table.

    Returns:
        True if the table was changed, by one commit without rows.
    """
    if DeltaTable(path).metadata().configuration.get(_FEED, "false").lower() == "true":
        return False
    spark.sql(f"ALTER TABLE {files_at(path)} SET TBLPROPERTIES ('{_FEED}' = 'true')")
    return True


def commit_mark(path: str, version: int) -> list[Any]:
    """Return Delta's ID of a table, a version and the time of its commit, which together name one state of its rows.

    Args:
        path: Folder or URI of a table that exists.
        version: Delta version.
    """
    table = DeltaTable(path)
    return [str(table.metadata().id), version, _times(table, path, version - 1).get(version)]


def last_changes(feed: DataFrame, key: str) -> DataFrame:
    """Return the last row of each key among changes, and its kind: the row as it is now, or as it was when it left.

    Args:
        feed: Changes, with the columns of a change feed.
        key: Column that identifies a row.
    """
    from pyspark.sql import functions as F

    names = [name for name in feed.columns if not name.startswith("_")]
    row = F.struct(*[name for name in names if name != key], KIND)
    last = F.max_by(row, F.struct(COMMIT, F.col(KIND).isin(*COMES))).alias("last")
    return feed.groupBy(key).agg(last).select(key, "last.*")


def why_no_feed(path: str, *, after: Sequence[Any], until: Sequence[Any]) -> str:
    """Return why the changes between two versions cannot be read as a feed at a cost of the changes alone; else empty.

    Args:
        path: Folder or URI of a table.
        after: ``commit_mark`` of the version before the changes.
        until: ``commit_mark`` of the version after the changes.
    """
    table, (made, first, time) = DeltaTable(path), after
    if made != until[0]:
        return "was made anew"
    if first > until[1] or _times(table, path, first - 1).get(first) != time:
        return "has another history, or a log that no longer tells of it"
    commits = commits_of(table, path, table.version() - first)
    own = [commit for commit in commits if first < commit.get("version", first) <= until[1]]
    if len(own) < until[1] - first:
        return "has a log that no longer tells of all changes"
    if any(commit.get("operationParameters", {}).get("mode") == "Overwrite" for commit in own):
        return "was written anew"
    if own and DeltaTable(path, version=first + 1).metadata().configuration.get(_FEED, "false").lower() != "true":
        return "kept no feed of its changes"
    return ""


def _times(table: DeltaTable, path: str, after: int) -> dict[int, Any]:
    """Return the times of the commits after a version, by version."""
    commits = commits_of(table, path, table.version() - after)
    return {commit["version"]: commit.get("timestamp") for commit in commits if "version" in commit}


def changes(spark: SparkSession, path: str, *, after: int, until: int) -> DataFrame:
    """Read the changes that commits made, from files of these commits alone.

    Args:
        spark: Session with Delta.
        path: Folder or URI of a table that has kept a feed since the version ``after``.
        after: Delta version before the changes.
        until: Delta version after the changes, above ``after``.
    """
    reader = spark.read.format("delta").option("readChangeFeed", "true")
    return reader.option("startingVersion", after + 1).option("endingVersion", until).load(path)
