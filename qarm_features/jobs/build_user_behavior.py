"""Builds the behavior sequences and counters.

In: ``interactions``. Out: ``user_behavior``, ``user_impressions``, ``item_counters``.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from qarm_features.behavior.added_clicks import (
    Build,
    counters_since,
    earliest_moment,
    first_moments,
    from_first_moment,
    rows_since,
    since,
)
from qarm_features.behavior.impression_history import item_counters, user_impressions
from qarm_features.behavior.user_behavior import user_behavior
from qarm_features.jobs.bases import (
    Basis,
    WholeWork,
    changes_since,
    mark,
    read_basis,
    require_only_new,
    require_same,
    write_basis,
)
from qarm_features.jobs.context import JobContext
from qarm_features.jobs.job import Counts, job
from qarm_features.jobs.skipping import inputs
from qarm_features.settings.ranking import Behavior
from qarm_features.storage.change_feed import keep_change_feed
from qarm_features.storage.moments import count_ties
from qarm_features.storage.tables import INTERACTIONS, ITEM_COUNTERS, USER_BEHAVIOR, USER_IMPRESSIONS, Table
from qarm_features.storage.warehouse import Warehouse

_WRITTEN = (USER_BEHAVIOR, USER_IMPRESSIONS, ITEM_COUNTERS)
log = logging.getLogger(__name__)


class _Derived(NamedTuple):
    """A table that follows from the click log.

    Attributes:
        table: Table.
        build: Function that builds its rows from rows of the log.
        entity: Column of the users or items.
        of_positives: True if it follows from the positives alone.
    """

    table: Table
    build: Build
    entity: str
    of_positives: bool = False


@job(
    after="ingest-catalog",
    reads=("interactions",),
    writes=("user_behavior", "user_impressions", "item_counters"),
    settings=("behavior",),
)
def build_user_behavior(context: JobContext) -> Counts:
    """Collects the latest positives and impressions of each user, and counts those of each item.

    The tables have one row for every moment at which a sequence or a counter changed. Rows of one user at one moment are in
    the order of interactions.order_by if it is set, and else in that of a hash. Their share is printed. If clicks were added
    to those of the last run and none changed, the rows of their users and items alone are built and added. Otherwise all
    rows are built again, and the log says why.
    """
    warehouse, settings = context.warehouse, context.settings
    seen, now = inputs(build_user_behavior, settings), mark(warehouse, INTERACTIONS)
    try:
        counts = _build_added(context, seen, now)
    except WholeWork as reason:
        log.log(reason.level, "build-user-behavior builds all rows, because %s", reason)
        counts = _build_all(context, now)
    for table in (INTERACTIONS, *_WRITTEN):  # of an earlier version of this package, which let them keep none
        keep_change_feed(context.spark, warehouse.path(table))
    write_basis(settings, build_user_behavior.name, Basis(seen, {INTERACTIONS.name: now, **_written(warehouse)}))
    return counts


def _build_all(context: JobContext, now: Any) -> Counts:
    warehouse, settings = context.warehouse, context.settings.behavior
    interactions = warehouse.read(INTERACTIONS, version=now and now[1])
    for derived in _derived(settings):
        warehouse.overwrite(derived.table, derived.build(interactions))
    if not settings.impression_length:  # Empty tables instead of rows of an earlier run.
        for table in (USER_IMPRESSIONS, ITEM_COUNTERS):
            warehouse.overwrite(table, warehouse.empty(table))
    counts = interactions.agg(F.count("*").alias("rows"), F.sum("label").alias("positive")).collect()[0]
    moments = warehouse.read(USER_BEHAVIOR).count()
    ties = count_ties(interactions.where(F.col("label") == 1)).words("positives")
    remark = f"{moments} behavior sequences from {counts['positive'] or 0} positives; {ties}"
    return Counts(counts["rows"], counts["rows"], 0, remark)


def _build_added(context: JobContext, seen: dict[str, Any], now: Any) -> Counts:
    """Builds and adds the rows that follow from clicks that were added to the log.

    Raises:
        WholeWork: Something else happened than that clicks came.
    """
    warehouse, settings = context.warehouse, context.settings
    basis = read_basis(settings, build_user_behavior.name, whole=context.whole)
    require_same(basis.inputs, seen, "changed", but=[INTERACTIONS.name])
    written = {name: state for name, state in basis.tables.items() if name != INTERACTIONS.name}
    require_same(written, _written(warehouse), "holds other rows than that run wrote")
    feed = changes_since(warehouse, INTERACTIONS, basis.tables[INTERACTIONS.name], now)
    clicks = feed.select("user_id", "item_id", "event_timestamp", "label", "_change_type").persist()
    new = require_only_new(INTERACTIONS, clicks)
    if not new:
        raise WholeWork("no click is new")
    interactions = warehouse.read(INTERACTIONS, version=now[1])
    # The tables of users follow from the same clicks, which are looked for once.
    of_users = interactions.join(clicks.select("user_id").distinct(), on="user_id", how="left_semi").persist()
    logs = {"user_id": of_users, "item_id": interactions}
    added = {d.table.name: _add(warehouse, d, logs[d.entity], clicks) for d in _derived(settings.behavior)}
    of_users.unpersist()
    rows = warehouse.row_count(INTERACTIONS)
    rows = interactions.count() if rows is None else rows
    listed = ", ".join(f"{count:,} of {name}" for name, count in added.items())
    return Counts(rows, rows, 0, f"{new:,} clicks were added to the log; rows that follow from them: {listed}")


def _add(warehouse: Warehouse, derived: _Derived, interactions: DataFrame, clicks: DataFrame) -> int:
    """Adds the rows of a table that follow from new clicks, and returns their number."""
    table, entity = derived.table, derived.entity
    own = clicks.where(F.col("label") == 1) if derived.of_positives else clicks
    first = first_moments(own, entity).persist()
    earliest = earliest_moment(first)
    if earliest is None:
        return 0
    if table is ITEM_COUNTERS:
        fresh = counters_since(since(interactions, earliest), first, warehouse.read(table))
    else:
        fresh = rows_since(interactions, first, derived.build, entity=entity)
    fresh = fresh.persist()
    count = fresh.count()
    if not count:
        return 0
    present = since(warehouse.read(table).select(*table.key), earliest)
    if from_first_moment(present, first, entity).isEmpty():
        warehouse.append(table, fresh, fill=False)
    else:  # Late clicks. A moment never leaves, because no click does.
        warehouse.upsert(table, fresh)
    return count


def _derived(settings: Behavior) -> Iterator[_Derived]:
    yield _Derived(USER_BEHAVIOR, partial(user_behavior, max_length=settings.max_length), "user_id", of_positives=True)
    if settings.impression_length:
        impressions = partial(user_impressions, max_length=settings.impression_length)
        yield _Derived(USER_IMPRESSIONS, impressions, "user_id")
        yield _Derived(ITEM_COUNTERS, item_counters, "item_id")


def _written(warehouse: Warehouse) -> dict[str, Any]:
    return {table.name: mark(warehouse, table) for table in _WRITTEN}
