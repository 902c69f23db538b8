"""Clicks that arrived reach the behavior of their users and the counters of their items.

In: checked rows of files of the click log. Out: the new rows in ``interactions``; then the rows of the users and items among
them in ``user_behavior``, ``user_impressions`` and ``item_counters``, by the functions that the job calls. Others stay. ::

    interactions      arrived          user_behavior
    7  item 1  10:00  7  item 3 12:00  7  [1]     10:00:00.000001
    8  item 2  11:00                   7  [1, 3]  12:00:00.000001   new
                                       8  [2]     11:00:00.000001
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from pyspark import StorageLevel
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from qarm_features.behavior.impression_history import item_counters, user_impressions
from qarm_features.behavior.user_behavior import user_behavior
from qarm_features.catalog.ingest import Checked
from qarm_features.following.batch_plan import BatchPlan
from qarm_features.settings.load import Settings
from qarm_features.storage.tables import INTERACTIONS, ITEM_COUNTERS, USER_BEHAVIOR, USER_IMPRESSIONS, Table
from qarm_features.storage.warehouse import Warehouse


class Touched(NamedTuple):
    """What a batch did to the click log.

    Attributes:
        rows: New rows, and rows whose label rose: those that stand in ``interactions`` only since this batch.
        clicks: Number of them.
        users: Number of their users.
    """

    rows: DataFrame
    clicks: int
    users: int


@dataclass(frozen=True)
class BehaviorBatches:
    """Writes clicks that arrived to the tables.

    Attributes:
        settings: Settings of the project.
        warehouse: Tables of the project.
    """

    settings: Settings
    warehouse: Warehouse

    def write(self, checked: list[Checked], plan: BatchPlan) -> Touched:
        """Write checked rows of the click log. A second call with the same arguments changes nothing.

        A row that stands in the table already is left there. Where several labels of one user, item and time count as their
        highest (``interactions.duplicates: max``), a positive replaces a negative.

        Args:
            checked: Rows of files that arrived.
            plan: Versions of the tables from before the batch.

        Returns:
            The rows that were written, kept in Spark until the caller frees them.
        """
        rows = self._compared(checked, plan).persist(StorageLevel.MEMORY_AND_DISK)
        counts = rows.agg(
            F.count_if("is_new").alias("new"),
            F.count("*").alias("rows"),
            F.count_distinct("user_id").alias("users"),
        ).collect()[0]
        if counts["new"]:
            self.warehouse.append_missing(INTERACTIONS, rows.where("is_new"))
        if counts["rows"] > counts["new"]:
            self.warehouse.upsert(INTERACTIONS, rows.where(~F.col("is_new")))
        if counts["rows"]:
            for table, fresh in self._derived(rows):
                self._write_changed(table, fresh, rows)
        return Touched(rows, counts["rows"], counts["users"])

    def _compared(self, checked: list[Checked], plan: BatchPlan) -> DataFrame:
        """Return the rows that the click log lacked before the batch, or held with a lower label, each key once."""
        key = list(INTERACTIONS.key)
        arrived = self.warehouse.conform(INTERACTIONS, checked[0].accepted)
        for more in checked[1:]:
            arrived = arrived.unionByName(self.warehouse.conform(INTERACTIONS, more.accepted))
        best = F.max_by(F.struct(*[name for name in arrived.columns if name not in key]), "label").alias("best")
        arrived = arrived.groupBy(*key).agg(best).select(*key, "best.*") if len(checked) > 1 else arrived
        log = self.warehouse.empty(INTERACTIONS)
        if plan.interactions is not None:
            log = self.warehouse.read(INTERACTIONS, version=plan.interactions)
        known = log.join(arrived.select(*key), on=key, how="left_semi")
        known = known.select(*key, F.col("label").alias("label_before"))
        rows = arrived.join(known, on=key, how="left")
        is_new, has_risen = F.col("label_before").isNull(), F.col("label") > F.col("label_before")
        if self.settings.interactions.duplicates != "max":
            has_risen = F.lit(False)
        return rows.withColumn("is_new", is_new).where(is_new | has_risen).drop("label_before")

    def _derived(self, rows: DataFrame) -> Iterator[tuple[Table, DataFrame]]:
        """Yield the tables that follow from the click log, with all of their rows of the users and items among ``rows``."""
        log, settings = self.warehouse.read(INTERACTIONS), self.settings.behavior
        of_users = log.join(rows.select("user_id").distinct(), on="user_id", how="left_semi")
        yield USER_BEHAVIOR, user_behavior(of_users, max_length=settings.max_length)
        if settings.impression_length:
            yield USER_IMPRESSIONS, user_impressions(of_users, max_length=settings.impression_length)
            of_items = log.join(rows.select("item_id").distinct(), on="item_id", how="left_semi")
            yield ITEM_COUNTERS, item_counters(of_items)

    def _write_changed(self, table: Table, fresh: DataFrame, rows: DataFrame) -> None:
        """Write the rows of a table that are new or differ. A moment never leaves, because no click does."""
        entity, fresh = table.key[0], self.warehouse.conform(table, fresh)
        present = self.warehouse.read_or_empty(table).join(rows.select(entity).distinct(), on=entity, how="left_semi")
        changed = fresh.join(present, on=fresh.columns, how="left_anti").persist(StorageLevel.MEMORY_AND_DISK)
        try:
            if not changed.isEmpty():
                self.warehouse.upsert(table, changed)
        finally:
            changed.unpersist()
