"""Items that arrived get their place in every table: ``items``, ``item_embeddings``, ``item_semantic_ids``.

In: checked rows of files of the catalog. Out: the rows of new and changed items in the tables, by the functions that the jobs
call. A semantic ID that an item has stays, unless the setting ``follow.on_changed`` asks for another one. ::

    items         arrived       items         item_semantic_ids
    1  Lamp       1  Red lamp   1  Red lamp   1  [4, 7]            its ID stays
    2  Sofa       2  deleted    3  Chair      3  [4, 2]            new, and 2 has left
                  3  Chair
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from qarm_features.catalog.ingest import Checked
from qarm_features.embedding.embed_items import embeddings_of, write_embeddings
from qarm_features.embedding.encoder_versions import media_limits
from qarm_features.following.batch_plan import BatchPlan
from qarm_features.semantic_ids.append_ids import append_new_ids, reassign_ids
from qarm_features.settings.load import Settings
from qarm_features.storage.artifacts import Artifact
from qarm_features.storage.conditional_writes import again_if_changed
from qarm_features.storage.deleting import delete_deleted_items, delete_rows
from qarm_features.storage.tables import DELETED_ITEMS, ITEM_EMBEDDINGS, ITEM_SEMANTIC_IDS, ITEMS
from qarm_features.storage.warehouse import Warehouse

_OF_ITEMS = (ITEM_EMBEDDINGS, ITEM_SEMANTIC_IDS)


class ItemCounts(NamedTuple):
    """What a batch did to items.

    Attributes:
        new: Number of items that the catalog lacked.
        changed: Number of items with other content than before.
        not_embedded: Number of items that the encoder cannot embed.
        assigned: Number of items that got their first semantic ID.
        reassigned: Number of items that got another semantic ID.
        deleted: Number of items that left the catalog.
    """

    new: int = 0
    changed: int = 0
    not_embedded: int = 0
    assigned: int = 0
    reassigned: int = 0
    deleted: int = 0

    def __add__(self, other: ItemCounts) -> ItemCounts:  # type: ignore[override]  # of counts, the sum of each
        """Return the sums of both."""
        return ItemCounts(*(a + b for a, b in zip(self, other)))


@dataclass(frozen=True)
class ItemBatches:
    """Writes items that arrived to the tables of one release.

    Attributes:
        settings: Settings of the project.
        warehouse: Tables of the project.
        encoder: Encoder version of the release.
        codebooks: Codebook version of the release.
    """

    settings: Settings
    warehouse: Warehouse
    encoder: Artifact
    codebooks: Artifact

    def write(self, checked: Checked, plan: BatchPlan) -> ItemCounts:
        """Write checked rows of the catalog. A second call with the same arguments changes nothing.

        Args:
            checked: Rows of files that arrived.
            plan: Versions of the tables from before the batch.
        """
        arrived = self._compared(checked.accepted, plan).persist()
        try:
            counts = arrived.agg(
                F.count_if("is_new").alias("new"),
                F.count_if(F.col("has_new_content") & ~F.col("is_new")).alias("changed"),
                F.count_if(F.col("differs") & ~F.col("is_new")).alias("differ"),
            ).collect()[0]
            if counts["new"]:
                self.warehouse.append_missing(ITEMS, arrived.where("is_new"))
            if counts["differ"]:
                self.warehouse.upsert(ITEMS, arrived.where(F.col("differs") & ~F.col("is_new")))
            deleted = self._delete(checked.deleted, plan)
            self._no_longer_deleted(arrived)
            found = self.embed_and_assign(arrived, replace_rejected=False)
            moved = 0
            if counts["changed"] and self.settings.follow.on_changed == "reassign":
                moved = self._reassign(arrived.where(F.col("has_new_content") & ~F.col("is_new")), plan)
            return found._replace(new=counts["new"], changed=counts["changed"], reassigned=moved, deleted=deleted)
        finally:
            arrived.unpersist()

    def embed_and_assign(self, items: DataFrame, *, replace_rejected: bool) -> ItemCounts:
        """Embed the items that have no embedding of their content, and assign those without a semantic ID.

        Args:
            items: Rows of ``items``.
            replace_rejected: True if items that cannot be embedded replace those of earlier runs in ``rejected_rows``.
        """
        settings, warehouse = self.settings, self.warehouse
        embedded = write_embeddings(
            warehouse,
            items,
            embeddings_of(warehouse, items, self.encoder),
            self.encoder,
            settings.encoder,
            limits=media_limits(settings.encoder, settings.path),
            replace_rejected=replace_rejected,
        )
        found = again_if_changed(
            lambda: append_new_ids(
                warehouse, self.codebooks, embeddings_of(warehouse, items, self.encoder), settings.semantic_ids
            )
        )
        return ItemCounts(not_embedded=embedded.rejected, assigned=found["rows"])

    def delete_deleted(self) -> None:
        """Delete what the tables hold of deleted items, for example after ``qarm ingest-catalog``."""
        for table in _OF_ITEMS:
            delete_deleted_items(self.warehouse, table)

    def _delete(self, deleted: DataFrame, plan: BatchPlan) -> int:
        """Delete items from all tables, and return the number of those that the catalog held before the batch."""
        if self.settings.items.deleted is None:
            return 0
        keys = deleted.persist()
        try:
            if keys.isEmpty():
                return 0
            self.warehouse.append_missing(DELETED_ITEMS, keys)
            for table in (ITEMS, *_OF_ITEMS):
                delete_rows(self.warehouse, table, keys)
            before = self._items_before(plan)
            return before.join(keys, on="item_id", how="left_semi").count()
        finally:
            keys.unpersist()

    def _no_longer_deleted(self, arrived: DataFrame) -> None:
        delete_rows(self.warehouse, DELETED_ITEMS, arrived.select("item_id"))

    def _items_before(self, plan: BatchPlan) -> DataFrame:
        return self.warehouse.empty(ITEMS) if plan.items is None else self.warehouse.read(ITEMS, version=plan.items)

    def _compared(self, accepted: DataFrame, plan: BatchPlan) -> DataFrame:
        """Add to rows what is new in them: ``is_new``, ``has_new_content`` and ``differs``."""
        known = (
            self._items_before(plan)
            .join(accepted.select("item_id"), on="item_id", how="left_semi")
            .select(
                "item_id",
                F.col("content_hash").alias("hash_before"),
                F.col("title").alias("title_before"),
                F.lit(True).alias("is_known"),
            )
        )
        rows = accepted.join(known, on="item_id", how="left")
        is_new = F.col("is_known").isNull()
        has_new_content = is_new | (F.col("content_hash") != F.col("hash_before"))
        differs = has_new_content | ~F.col("title").eqNullSafe(F.col("title_before"))
        rows = rows.withColumns({"is_new": is_new, "has_new_content": has_new_content, "differs": differs})
        return rows.drop("is_known", "hash_before", "title_before")

    def _reassign(self, changed: DataFrame, plan: BatchPlan) -> int:
        if plan.semantic_ids is None:
            return 0
        embeddings = embeddings_of(self.warehouse, changed, self.encoder)
        return reassign_ids(
            self.warehouse, self.codebooks, embeddings, self.settings.semantic_ids, since=plan.semantic_ids
        )


def items_without_ids(warehouse: Warehouse, codebooks: Artifact) -> DataFrame:
    """Return the rows of ``items`` that have no semantic ID under a codebook version.

    Args:
        warehouse: Tables of the project.
        codebooks: Codebook version.
    """
    ids = warehouse.read_or_empty(ITEM_SEMANTIC_IDS).where(F.col("codebook_version") == codebooks.version)
    return warehouse.read(ITEMS).join(ids.select("item_id"), on="item_id", how="left_anti")
