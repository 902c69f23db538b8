"""Checks of a release's rows: in Delta before they are loaded, and in the online store afterwards.

In: rows of a view's source, and a feature store. Out: nothing, or a ``ReleaseError`` that names the first fault.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from feast import FeatureStore, FeatureView
from feast.protos.feast.types.Value_pb2 import Value
from pyspark.sql import Column, DataFrame, Row
from pyspark.sql import functions as F

from qarm_features.feature_store.publishing.online_counts import count_online_rows
from qarm_features.feature_store.publishing.release_manifest import ReleaseError, ViewRows
from qarm_features.feature_store.views.feature_views import Release


class TooManyRowsError(ReleaseError):
    """The online store holds rows of keys that the view does not hold."""


_READ_BATCH = 500
_COUNTS = 3  # attempts, because Redis may return a key twice while it resizes its table
_log = logging.getLogger(__name__)


def check_codes(codes: DataFrame, release: Release) -> None:
    """Refuse semantic IDs that would be served wrongly. Feast, for example, serves a null inside a list as code 0.

    Args:
        codes: Rows of ``item_semantic_ids`` of the release's codebook version.
        release: Release to publish.

    Raises:
        ReleaseError: Rows are missing or occur twice, or a code is outside the range of the codebooks.
    """
    in_range = F.forall("rq_codes", lambda code: code.isNotNull() & code.between(0, release.codebook_size - 1))
    good = F.coalesce((F.size("rq_codes") == release.num_levels) & in_range, F.lit(False))
    counts = only_row(
        codes,
        F.count("*").alias("rows"),
        F.count_distinct("item_id").alias("items"),
        F.count_if(~good).alias("bad"),
    )
    if counts["rows"] > counts["items"]:
        raise ReleaseError(
            f"item_semantic_ids holds {counts['rows']:,} rows of {counts['items']:,} items for codebook version "
            f"{release.codebook_version}, must hold one of each: {counts['rows'] - counts['items']:,} rows stand twice. "
            "Run: qarm repair"
        )
    if counts["rows"] != release.rows:
        raise ReleaseError(
            f"item_semantic_ids holds {counts['rows']:,} rows of {counts['items']:,} items for codebook version "
            f"{release.codebook_version}, must hold {release.rows:,} rows. Run: qarm assign-semantic-ids"
        )
    if counts["bad"]:
        raise ReleaseError(
            f"{counts['bad']:,} semantic IDs are null or not {release.num_levels} codes in [0, {release.codebook_size})"
            ", must be none. Run: qarm assign-semantic-ids"
        )


def only_row(rows: DataFrame, *aggregates: Column) -> Row:
    """Return the aggregates of all rows as one row."""
    (row,) = rows.agg(*aggregates).collect()
    return row


def view_rows(rows: DataFrame, view: FeatureView) -> ViewRows:
    """Count the rows of a view and compute their checksum, by Spark.

    The checksum covers the keys and the features. It depends neither on the order of the rows nor on partitions.

    Args:
        rows: Rows of the view's source, in which no key occurs twice.
        view: View of the rows.
    """
    names = [view.entity_columns[0].name, *[feature.name for feature in view.features]]
    totals = only_row(rows, F.count("*").alias("rows"), F.bit_xor(F.xxhash64(*names)).alias("checksum"))
    return ViewRows(rows=totals["rows"], checksum=f"{(totals['checksum'] or 0) % 2**64:016x}")


def check_count(
    store: FeatureStore,
    view: FeatureView,
    rows: int,
    *,
    keys_per_second: int,
    publish: str,
    codebook_version: int | None = None,
) -> bool:
    """Compare the number of rows in the online store with the number of rows that must be there, for every feature.

    Args:
        store: Feature store.
        view: View to count.
        rows: Number of rows that must be there.
        keys_per_second: Largest number of Redis keys to read per second.
        publish: Command that publishes the view again, for the error.
        codebook_version: Codebook version that each row must have, if the view has the feature ``codebook_version``.

    Returns:
        False if the rows of the store cannot be counted.

    Raises:
        TooManyRowsError: A feature has more rows.
        ReleaseError: A feature has fewer rows, is null in some, or belongs to another codebook version.
    """
    constants = {}
    if codebook_version is not None and any(feature.name == "codebook_version" for feature in view.features):
        constants["codebook_version"] = Value(int32_val=codebook_version).SerializeToString()
    for _ in range(_COUNTS):
        counts = count_online_rows(store.config, view, constants, keys_per_second)
        if counts is None:
            kind = store.config.online_store.type
            _log.info("%s: rows of a %s store cannot be counted, only a sample is read back", view.name, kind)
            return False
        wrong = {name: count for name, count in counts.items() if count != rows}
        if not wrong:
            _log.info("%s: %s rows in Delta and in the online store", view.name, f"{rows:,}")
            return True
    name, count = next(iter(wrong.items()))
    condition = f"{name} = {codebook_version}" if name in constants else name
    fault = f"{view.name} has {count:,} rows with {condition} in the online store, must have {rows:,} as in Delta."
    if count > rows:
        raise TooManyRowsError(f"{fault} Rows of keys that left are still served. Run: {publish}, which deletes them")
    ttl = getattr(store.config.online_store, "key_ttl_seconds", None)
    expired = f" Keys expire {ttl:,} s after they were written, because key_ttl_seconds is set." if ttl else ""
    raise ReleaseError(f"{fault}{expired} Run: {publish}")


def check_absent(store: FeatureStore, view: FeatureView, keys: Sequence[int | str]) -> None:
    """Read keys that were deleted as any Feast client does, and refuse one that is still served.

    Raises:
        ReleaseError: A key is served.
    """
    key, names = view.entity_columns[0].name, [feature.name for feature in view.features]
    for start in range(0, len(keys), _READ_BATCH):
        batch = keys[start : start + _READ_BATCH]
        rows = [{key: one} for one in batch]
        served = store.get_online_features([f"{view.name}:{name}" for name in names], entity_rows=rows).to_dict()
        for position, one in enumerate(batch):
            if any(served[name][position] is not None for name in names):
                raise ReleaseError(
                    f"{view.name} still serves {key} = {one}, which left and was deleted. Another writer may have "
                    "written it. Run: qarm publish-features"
                )


def check_served(store: FeatureStore, view: FeatureView, rows: DataFrame, sample: int) -> int:
    """Read a sample of rows back as any Feast client does, and compare each value.

    Args:
        store: Feature store.
        view: View to read.
        rows: Rows of the view in Delta, in which no key occurs twice.
        sample: Largest number of rows to read.

    Returns:
        Number of rows read.

    Raises:
        ReleaseError: A value differs.
    """
    key = view.entity_columns[0].name
    names = [feature.name for feature in view.features]
    order = [F.xxhash64(key), F.col(key)]  # the sample does not depend on partitions
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
                        " Readers keep the release they had. Run: qarm publish-features"
                    )
    _log.info("%s: %d rows read back, all equal", view.name, len(expected))
    return len(expected)


def _is_same(served: Any, stored: Any) -> bool:
    """Compare two values, lists of floats bit by bit."""
    if isinstance(stored, list) and stored and isinstance(stored[0], float):
        return np.array(served, np.float64).tobytes() == np.array(stored, np.float64).tobytes()
    return served == stored
