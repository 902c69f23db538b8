"""The plan of a batch: the versions of the tables from before its first write.

In: a folder and the number of a batch. Out: the same plan for every attempt at the batch, also by a later process. What a
batch writes is computed from its files and from these versions, so that a second attempt writes the same rows.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path

from qarm_features.storage.json_files import write_json
from qarm_features.storage.tables import INTERACTIONS, ITEM_SEMANTIC_IDS, ITEMS
from qarm_features.storage.warehouse import Warehouse


@dataclass(frozen=True)
class BatchPlan:
    """The Delta versions from before a batch. The names of the fields are keys of the saved file.

    Attributes:
        batch: Number of the batch, from 0.
        items: Version of ``items``; None if there was no table.
        interactions: Version of ``interactions``; None if there was no table.
        semantic_ids: Version of ``item_semantic_ids``; None if there was no table.
    """

    batch: int
    items: int | None
    interactions: int | None
    semantic_ids: int | None


def planned(folder: Path, batch: int, warehouse: Warehouse) -> BatchPlan:
    """Return the plan of a batch, which the first attempt at it makes.

    Args:
        folder: Folder of the follower.
        batch: Number of the batch, from 0.
        warehouse: Tables of the project.
    """
    path = folder / "batch.json"
    if path.is_file():
        known = BatchPlan(**json.loads(path.read_text()))
        if known.batch == batch:
            return known
    versions = (warehouse.version(table) for table in (ITEMS, INTERACTIONS, ITEM_SEMANTIC_IDS))
    plan = BatchPlan(batch, *versions)
    write_json(path, asdict(plan))
    return plan


def writer_name(folder: Path) -> str:
    """Return the name under which the batches of a folder are written to Delta, by which a second attempt is known.

    A folder that is deleted and made anew has another name, because its batches are counted from 0 again.
    """
    path = folder / "writer.json"
    if not path.is_file():
        write_json(path, {"writer": f"qarm follow {uuid.uuid4()}"})
    return str(json.loads(path.read_text())["writer"])
