"""An item beside the items that share the longest prefix of its semantic ID: how a person looks at codes.

In: tables ``items`` and ``item_semantic_ids``, streamed as Arrow batches without Spark. Out: cards of a few items.
"""

from __future__ import annotations

import heapq
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from qarm_features.storage.tables import ITEM_SEMANTIC_IDS, ITEMS
from qarm_features.storage.warehouse import TableError, Warehouse


class Neighbor(NamedTuple):
    """An item and how many leading codes it shares with the one looked at."""

    item_id: int | str
    title: str
    rq_codes: list[int]
    shared_levels: int


class ItemCard(NamedTuple):
    """One item: what it is, its semantic ID, its neighbors by shared prefix, the longest first."""

    item_id: int | str
    title: str
    rq_codes: list[int]
    neighbors: list[Neighbor]


def item_cards(
    warehouse: Warehouse, item_ids: list[int | str], *, codebook_version: int, num_neighbors: int = 3
) -> list[ItemCard]:
    """Makes the cards of a few items in one pass over the codes; memory does not grow with the catalog.

    Args:
        warehouse: The tables.
        item_ids: The items to look at.
        codebook_version: Whose codes are shown.
        num_neighbors: Neighbors of an item; ties go to the smaller item ID. Items that share no code are none.

    Raises:
        TableError: An item has no semantic ID under this codebook version.
    """
    id_field = warehouse.spark_type(ITEMS.column("item_id"))
    item_ids = [int(i) if id_field == "bigint" else str(i) for i in item_ids]
    of_version = ds.field("codebook_version") == codebook_version
    codes = warehouse.arrow(ITEM_SEMANTIC_IDS)
    own = codes.to_table(["item_id", "rq_codes"], filter=of_version & ds.field("item_id").isin(item_ids)).to_pylist()
    codes_of = {row["item_id"]: row["rq_codes"] for row in own}
    for item_id in item_ids:
        if item_id not in codes_of:
            raise TableError(
                f"Item {item_id} has no semantic ID under codebook version {codebook_version}. Is it in items? "
                "Run: qarm assign-semantic-ids"
            )
    nearest: dict[int | str, list[tuple[int, int | str, list[int]]]] = {item_id: [] for item_id in item_ids}
    for batch in codes.to_batches(columns=["item_id", "rq_codes"], filter=of_version):
        if batch.num_rows:
            for item_id in item_ids:
                found = _closest(batch, item_id, codes_of[item_id], num_neighbors)
                nearest[item_id] = heapq.nsmallest(num_neighbors, nearest[item_id] + found, key=lambda n: (-n[0], n[1]))
    shown = [*item_ids, *[n[1] for found in nearest.values() for n in found]]
    titles = warehouse.arrow(ITEMS).to_table(["item_id", "title", "text"], filter=ds.field("item_id").isin(shown))
    title_of = {row["item_id"]: row["title"] or (row["text"] or "(no title)")[:60] for row in titles.to_pylist()}
    return [
        ItemCard(
            item_id,
            title_of.get(item_id, "(no longer in items)"),
            codes_of[item_id],
            [Neighbor(n, title_of.get(n, "(no longer in items)"), c, shared) for shared, n, c in nearest[item_id]],
        )
        for item_id in item_ids
    ]


def _closest(batch: pa.RecordBatch, item_id: int | str, codes: list[int], most: int) -> list[tuple]:
    """Returns (shared levels, item ID, codes) of the batch's closest items."""
    table = pc.list_flatten(batch["rq_codes"]).to_numpy().reshape(-1, len(codes))
    shared = np.cumprod(table == np.array(codes), axis=1).sum(1)
    shared[pc.equal(batch["item_id"], item_id).to_numpy(zero_copy_only=False)] = 0
    sharing = np.flatnonzero(shared > 0)
    if len(sharing) > 50 * most:  # only the longest prefixes can be among the closest
        least = np.sort(shared[sharing])[-most]
        sharing = sharing[shared[sharing] >= least]
    ids = batch["item_id"].take(pa.array(sharing)).to_pylist()
    rows = [(int(shared[at]), i, table[at].tolist()) for at, i in zip(sharing, ids)]
    return heapq.nsmallest(most, rows, key=lambda n: (-n[0], n[1]))
