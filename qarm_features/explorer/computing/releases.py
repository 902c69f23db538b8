"""The releases of a project, and the semantic IDs of an item under each that can still be read.

In: the records of the releases, and ``item_semantic_ids`` at the Delta version that each names. Out: one row per item with
its past prefixes, and the comparison of two releases.
"""

from __future__ import annotations

import logging
from typing import NamedTuple

from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from qarm_features.explorer.contract import MovedBranch, Moves
from qarm_features.feature_store.publishing.release_manifest import ReleaseManifest, manifests, promoted_before
from qarm_features.feature_store.views.feature_views import Release
from qarm_features.settings.load import Settings
from qarm_features.storage.tables import ITEM_SEMANTIC_IDS
from qarm_features.storage.warehouse import Warehouse

_log = logging.getLogger(__name__)


class PastRelease(NamedTuple):
    """A release whose codes can be read.

    Attributes:
        release: The release.
        published_at: Time of its latest promotion, else of its verification, in ISO 8601; None if it is not known.
        codes: ``item_id``, ``rq_codes``.
    """

    release: Release
    published_at: str | None
    codes: DataFrame


def readable_releases(warehouse: Warehouse, settings: Settings) -> list[PastRelease]:
    """Return the releases whose codes can still be read, those of the latest codebooks first.

    Args:
        warehouse: The tables.
        settings: Settings of the project.
    """
    found = []
    for manifest in reversed(were_published(settings)):
        release = manifest.release
        try:
            codes = release_codes(warehouse, release)
            codes.isEmpty()
        except PySparkException as error:  # vacuum has removed the version or its files
            _log.warning("The codes of %s are no longer readable: %s", release.view_name, str(error).splitlines()[0])
            continue
        found.append(PastRelease(release, None if manifest.published is None else manifest.published.at, codes))
    return found


def were_published(settings: Settings) -> list[ReleaseManifest]:
    """Return the records of all releases that readers could get at some time, in the order of their codebook versions.

    A release that is loading was not read yet, unless it is loaded anew.

    Args:
        settings: Settings of the project.
    """
    return [one for one in manifests(settings) if one.state != "loading" or one.promotions]


def release_codes(warehouse: Warehouse, release: Release) -> DataFrame:
    """Return ``item_id`` and ``rq_codes`` of a release."""
    rows = warehouse.read(ITEM_SEMANTIC_IDS, version=release.delta_version)
    return rows.where(F.col("codebook_version") == release.codebook_version).select("item_id", "rq_codes")


def release_before(settings: Settings, now: Release, readable: list[PastRelease]) -> PastRelease | None:
    """Return the release that readers had before this one, else that of the codebooks before; None if there is none.

    Args:
        settings: Settings of the project.
        now: The promoted release.
        readable: Releases that can be read.
    """
    of_version = {past.release.codebook_version: past for past in readable}
    promoted = [version for version in promoted_before(settings)[:-1] if version in of_version]
    older = [version for version in of_version if version < now.codebook_version]
    version = promoted[-1] if promoted else max(older, default=None)
    return None if version is None else of_version[version]


def past_ids(readable: list[PastRelease]) -> DataFrame:
    """Return ``item_id`` and ``history``: the prefix of L levels in each release in turn, null where it has none.

    Args:
        readable: Releases that can be read, at least one.
    """
    rows = None
    for number, past in enumerate(readable):
        codes = past.codes.select(
            "item_id", F.concat_ws(".", F.col("rq_codes").cast("array<string>")).alias(f"p{number}")
        )
        rows = codes if rows is None else rows.join(codes, on="item_id", how="full")
    assert rows is not None
    return rows.select("item_id", F.array([F.col(f"p{number}") for number in range(len(readable))]).alias("history"))


def compare(before: PastRelease | None, now: PastRelease, *, most_branches: int = 200, most_targets: int = 5) -> Moves:
    """Compare the semantic IDs of a release with those of the release before.

    Args:
        before: The release before; None if there is none.
        now: The release that is explored.
        most_branches: Highest number of prefixes of level 1.
        most_targets: Highest number of prefixes of level 1 in which the items of one are followed.
    """
    if before is None:
        items = now.codes.count()
        return _moves(None, now, in_both=0, kept=0, new=items, gone=0, branches=[])
    old, new = before.codes.withColumnRenamed("rq_codes", "old"), now.codes.withColumnRenamed("rq_codes", "new")
    both = old.join(new, on="item_id", how="full").persist()
    totals = both.agg(
        F.count_if(F.col("old").isNotNull() & F.col("new").isNotNull()).alias("in_both"),
        F.count_if(F.col("old") == F.col("new")).alias("kept"),
        F.count_if(F.col("old").isNull()).alias("new"),
        F.count_if(F.col("new").isNull()).alias("gone"),
    ).first()
    assert totals is not None  # an aggregate without a key has one row
    first, to = F.col("old")[0].alias("first"), F.col("new")[0].alias("to")
    pairs = both.where(F.col("old").isNotNull() & F.col("new").isNotNull()).select(first, to, "old", "new")
    flows = pairs.groupBy("first", "to").agg(
        F.count("*").alias("items"), F.count_if(F.col("old") == F.col("new")).alias("kept")
    )
    largest = Window.partitionBy("first").orderBy(F.desc("items"), "to")
    flows = flows.withColumn("rank", F.row_number().over(largest))
    target = F.when(F.col("rank") <= most_targets, F.struct("rank", F.col("to").cast("string").alias("to"), "items"))
    branches = flows.groupBy("first").agg(
        F.sum("items").alias("items"),
        F.sum("kept").alias("kept"),
        F.sum(F.when(F.col("to") == F.col("first"), F.col("items")).otherwise(0)).alias("kept_first"),
        F.array_sort(F.collect_list(target)).alias("targets"),
    )
    rows = branches.orderBy(F.desc(F.col("items") - F.col("kept")), "first").limit(most_branches).collect()
    both.unpersist()
    found: list[MovedBranch] = [
        {
            "prefix": str(row["first"]),
            "items": row["items"],
            "kept": row["kept"] / row["items"],
            "kept_first": row["kept_first"] / row["items"],
            "to": [(one["to"], one["items"]) for one in row["targets"]],
        }
        for row in rows
    ]
    counts = {name: totals[name] for name in ("in_both", "kept", "new", "gone")}
    return _moves(before, now, **counts, branches=found)


def _moves(
    before: PastRelease | None,
    now: PastRelease,
    *,
    in_both: int,
    kept: int,
    new: int,
    gone: int,
    branches: list[MovedBranch],
) -> Moves:
    return {
        "before": None if before is None else before.release.view_name,
        "now": now.release.view_name,
        "items_in_both": in_both,
        "kept": kept,
        "new_items": new,
        "gone_items": gone,
        "branches": branches,
    }
