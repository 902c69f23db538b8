"""Are a release's rows what they should be: in Delta before they are loaded, and in the online store afterwards?

In: rows as a view's source gives them, and a feature store. Out: nothing, or a `ReleaseError` that says what is wrong.
"""

from __future__ import annotations

import logging

import numpy as np
from feast import FeatureStore, FeatureView
from feast.protos.feast.types.Value_pb2 import Value
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from qarm_features.feature_store.publishing.online_counts import count_online_rows
from qarm_features.feature_store.publishing.release_manifest import ReleaseError, ViewRows
from qarm_features.feature_store.views.feature_views import Release

_READ_BATCH = 500
_COUNTS = 3  # Redis may count a key twice while it resizes its table
_log = logging.getLogger(__name__)


def check_codes(codes: DataFrame, release: Release) -> None:
    """Refuses semantic IDs that would be served wrongly: Feast serves a null inside a list as code 0.

    Raises:
        ReleaseError: Rows are missing, occur twice, or hold other codes than the codebooks have.
    """
    in_range = F.forall("rq_codes", lambda code: code.isNotNull() & code.between(0, release.codebook_size - 1))
    good = F.coalesce((F.size("rq_codes") == release.num_levels) & in_range, F.lit(False))
    counts = codes.agg(
        F.count("*").alias("rows"),
        F.count_distinct("item_id").alias("items"),
        F.count_if(~good).alias("bad"),
    ).first()
    if counts["rows"] != release.rows or counts["items"] != release.rows:
        raise ReleaseError(
            f"item_semantic_ids holds {counts['rows']:,} rows of {counts['items']:,} items for codebook version "
            f"{release.codebook_version}, must be {release.rows:,} of both. Run: qarm assign-semantic-ids"
        )
    if counts["bad"]:
        raise ReleaseError(
            f"{counts['bad']:,} semantic IDs are null or not {release.num_levels} codes in [0, {release.codebook_size})"
            ", must be none. Run: qarm assign-semantic-ids"
        )


def view_rows(rows: DataFrame, view: FeatureView) -> ViewRows:
    """Counts a view's rows and sums them up, by Spark: keys and features, in any order and any partitions.

    Args:
        rows: The rows of the view's source; no key occurs twice.
        view: The view.
    """
    names = [view.entity_columns[0].name, *[feature.name for feature in view.features]]
    whole = rows.agg(F.count("*").alias("rows"), F.bit_xor(F.xxhash64(*names)).alias("sum")).first()
    return ViewRows(rows=whole["rows"], checksum=f"{(whole['sum'] or 0) % 2**64:016x}")


def newest_rows(rows: DataFrame, view: FeatureView) -> DataFrame:
    """Returns the newest row of each key of a view, up to now."""
    key, past = view.entity_columns[0].name, rows.where(F.col("event_timestamp") <= F.current_timestamp())
    latest = F.max_by(F.struct(*[feature.name for feature in view.features]), "event_timestamp").alias("latest")
    return past.groupBy(key).agg(latest).select(key, "latest.*")


def check_count(
    store: FeatureStore, view: FeatureView, rows: int, *, codebook_version: int, keys_per_second: int
) -> bool:
    """Compares how many rows the online store holds with how many it should, of every feature.

    Args:
        store: The feature store.
        view: A view of a release.
        rows: What Delta holds.
        codebook_version: What each row's ``codebook_version`` must be, where the view has one.
        keys_per_second: Limit for Redis.

    Returns:
        False where the store cannot be counted.

    Raises:
        ReleaseError: A feature has more rows or fewer, is null, or is of another codebook version.
    """
    has_version = any(feature.name == "codebook_version" for feature in view.features)
    version = Value(int32_val=codebook_version).SerializeToString()
    constants = {"codebook_version": version} if has_version else {}
    for _ in range(_COUNTS):
        found = count_online_rows(store.config, view, constants, keys_per_second)
        if found is None:
            _log.info("%s: a %s store cannot be counted, only sampled", view.name, store.config.online_store.type)
            return False
        wrong = {name: count for name, count in found.items() if count != rows}
        if not wrong:
            _log.info("%s: %s rows in Delta and in the online store", view.name, f"{rows:,}")
            return True
    name, count = next(iter(wrong.items()))
    of_version = f" = {codebook_version}" if name in constants else ""
    mend = f"Run: qarm release publish --codebook-version {codebook_version}"
    if count > rows:
        mend = f"Rows of an earlier load are left. Run: qarm release retire {codebook_version}, then publish it again"
    raise ReleaseError(
        f"{view.name} has {count:,} rows with {name}{of_version} in the online store, must have {rows:,} as in Delta. {mend}"
    )


def check_served(store: FeatureStore, view: FeatureView, rows: DataFrame, sample: int) -> int:
    """Reads a sample of rows back as any Feast client would, and compares each value.

    Returns:
        How many rows were read.

    Raises:
        ReleaseError: A value differs.
    """
    key = view.entity_columns[0].name
    names = [feature.name for feature in view.features]
    order = [F.xxhash64(key), F.col(key)]  # a sample that does not depend on partitions, bounded by its size
    expected = rows.select(key, *names).orderBy(*order).limit(sample).collect()
    for start in range(0, len(expected), _READ_BATCH):
        batch = expected[start : start + _READ_BATCH]
        keys = [{key: row[key]} for row in batch]
        served = store.get_online_features([f"{view.name}:{name}" for name in names], entity_rows=keys).to_dict()
        for position, row in enumerate(batch):
            for name in names:
                if not _is_same(served[name][position], row[name]):
                    raise ReleaseError(
                        f"{view.name} serves {name} = {served[name][position]} for {key} = {row[key]}, must be {row[name]}."
                        " Nothing was flipped to it. Run: qarm publish-features"
                    )
    _log.info("%s: %d rows read back, all equal", view.name, len(expected))
    return len(expected)


def _is_same(served, stored) -> bool:
    """Compares values, floats of a list bit by bit."""
    if isinstance(stored, list) and stored and isinstance(stored[0], float):
        return np.array(served, np.float64).tobytes() == np.array(stored, np.float64).tobytes()
    return served == stored
