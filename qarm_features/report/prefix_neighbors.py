"""An item is shown with the items that share the longest prefix of its semantic ID.

In: the tables ``items`` and ``item_semantic_ids``, streamed as Arrow batches without Spark. Out: cards of a few items.
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

_GONE = "(no longer in items)"


class Neighbor(NamedTuple):
    """A neighbor of an item.

    Attributes:
        item_id: ID of the neighbor.
        title: Title of the neighbor.
        rq_codes: Its L codes.
        shared_levels: Number of leading codes that it shares with the item, from 1 to L.
    """

    item_id: int | str
    title: str
    rq_codes: list[int]
    shared_levels: int


class ItemCard(NamedTuple):
    """An item with its neighbors.

    Attributes:
        item_id: ID of the item.
        title: Title of the item.
        rq_codes: Its L codes.
        neighbors: Its neighbors, those with the longest shared prefix first.
    """

    item_id: int | str
    title: str
    rq_codes: list[int]
    neighbors: list[Neighbor]


def item_cards(
    warehouse: Warehouse, item_ids: list[int | str], *, codebook_version: int, num_neighbors: int = 3
) -> list[ItemCard]:
    """Make the cards of a few items in one pass over the codes. Memory does not grow with the catalog.

    Args:
        warehouse: The tables.
        item_ids: IDs of the items.
        codebook_version: Version of the codes.
        num_neighbors: Largest number of neighbors of an item, at least 1. Items that do not share the first code are no
            neighbors. Of items with equally long shared prefixes the smaller IDs come first.

    Raises:
        TableError: An item has no semantic ID under this codebook version, or an ID is no integer where the catalog's are.
    """
    id_field = warehouse.spark_type(ITEMS.column("item_id"))
    item_ids = [_integer(item_id) if id_field == "bigint" else str(item_id) for item_id in item_ids]
    in_version = ds.field("codebook_version") == codebook_version
    codes = warehouse.arrow(ITEM_SEMANTIC_IDS)
    own = codes.to_table(["item_id", "rq_codes"], filter=in_version & ds.field("item_id").isin(item_ids)).to_pylist()
    codes_of = {row["item_id"]: row["rq_codes"] for row in own}
    for item_id in item_ids:
        if item_id not in codes_of:
            raise TableError(
                f"Item {item_id} has no semantic ID under codebook version {codebook_version}. Check that the table items "
                "has it, then run: qarm assign-semantic-ids"
            )
    nearest: dict[int | str, list[_Found]] = {item_id: [] for item_id in item_ids}
    for batch in codes.to_batches(columns=["item_id", "rq_codes"], filter=in_version):
        if batch.num_rows:
            for item_id in item_ids:
                found = _closest(batch, item_id, codes_of[item_id], num_neighbors)
                nearest[item_id] = _longest_prefixes(nearest[item_id] + found, num_neighbors)
    shown = [*item_ids, *[one.item_id for found in nearest.values() for one in found]]
    titles = warehouse.arrow(ITEMS).to_table(["item_id", "title", "text"], filter=ds.field("item_id").isin(shown))
    title_of = {row["item_id"]: row["title"] or (row["text"] or "(no title)")[:60] for row in titles.to_pylist()}
    cards = []
    for item_id in item_ids:
        neighbors = [
            Neighbor(one.item_id, title_of.get(one.item_id, _GONE), one.rq_codes, one.shared_levels)
            for one in nearest[item_id]
        ]
        cards.append(ItemCard(item_id, title_of.get(item_id, _GONE), codes_of[item_id], neighbors))
    return cards


def _integer(item_id: int | str) -> int:
    try:
        number = int(item_id)
    except ValueError:
        number = 2**63
    if not -(2**63) <= number < 2**63:
        raise TableError(f"ITEM_ID is {item_id}, must be a 64-bit integer as the item IDs of the catalog are.")
    return number


class _Found(NamedTuple):
    shared_levels: int
    item_id: int | str
    rq_codes: list[int]


def _longest_prefixes(found: list[_Found], most: int) -> list[_Found]:
    return heapq.nsmallest(most, found, key=lambda one: (-one.shared_levels, one.item_id))


def _closest(batch: pa.RecordBatch, item_id: int | str, codes: list[int], most: int) -> list[_Found]:
    """Return the items of a batch that share the longest prefixes with ``codes``, at most ``most``."""
    table = pc.list_flatten(batch["rq_codes"]).to_numpy().reshape(-1, len(codes))
    shared = np.cumprod(table == np.array(codes), axis=1).sum(1)
    shared[pc.equal(batch["item_id"], item_id).to_numpy(zero_copy_only=False)] = 0
    sharing = np.flatnonzero(shared > 0)
    if len(sharing) > 50 * most:  # shorter prefixes than the most-th longest cannot be among the closest
        least = np.sort(shared[sharing])[-most]
        sharing = sharing[shared[sharing] >= least]
    ids = batch["item_id"].take(pa.array(sharing)).to_pylist()
    found = [_Found(int(shared[row]), id_of_row, table[row].tolist()) for row, id_of_row in zip(sharing, ids)]
    return _longest_prefixes(found, most)
