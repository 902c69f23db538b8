"""A store of a few items, written by hand."""

from __future__ import annotations

from pathlib import Path

from qarm_features.explorer.schema import FILE, CollisionRow, ItemRow, NearIds, NodeRow, UserRow
from qarm_features.explorer.store import Explorer
from qarm_features.explorer.store_writer import StoreWriter
from qarm_features.storage.artifacts import Artifacts

RELEASES = [
    {"release": "item_semantic_id__cb1", "codebook_version": 1, "published_at": "2024-02-01T00:00:00+00:00"},
    {"release": "item_semantic_id__cb0", "codebook_version": 0, "published_at": None},
]
ITEMS = [
    ItemRow("a", "Toy Story (1995)", "toys", [0, 2], 9, b"\xff\xd8jpeg", NearIds(["c"], [0.5]), history=["0.2", "1.1"]),
    ItemRow("b", "Toy Soldiers", "soldiers", [0, 2], 3, by_co_click=NearIds(["gone"], [4.0]), history=["0.2", None]),
    ItemRow("c/é %_'\"", "Ein schöner Tag", "", [0, 7], 1, history=["0.7", None]),
    ItemRow("c", '100% "Wolf" of O\'Hara', "", [3, 0], 5, history=["3.0", "3.0"]),
    ItemRow("d", "The wolf", "", [10, 0], 8, history=["10.0", "3.0"]),
]
NODES = [
    NodeRow([], 5, 3, 26, [], ["a", "c"]),
    NodeRow([0], 3, 2, 13, ["toy"], ["a", "b"]),
    NodeRow([0, 2], 2, 0, 12, ["toy"], ["b", "a"]),
    NodeRow([0, 7], 1, 0, 1),
    NodeRow([3], 1, 1, 5),
    NodeRow([3, 0], 1, 0, 5),
    NodeRow([10], 1, 1, 8),
    NodeRow([10, 0], 1, 0, 8),
]
USER = UserRow(
    "u%",
    [("2024-01-02T00:00:00+00:00", "b"), ("2024-01-01T00:00:00+00:00", "gone")],
    [{"item": "a", "score": 0.75, "label": 1, "matches": [1, 1], "matched": ["b"]}],
)
SUMMARY = {"project": "small", "items": 5, "shown_items": 5}


def write_store(artifacts: Path, items: list[ItemRow] = ITEMS) -> Explorer:
    """Returns an explorer of the five items."""

    def write(folder: Path) -> None:
        writer = StoreWriter(folder / FILE)
        writer.add_items(items)
        writer.add_nodes(NODES)
        writer.add_collisions([CollisionRow([0, 2], 2, 0)])
        writer.add_users([USER])
        writer.add_documents({"summary": SUMMARY, "releases": RELEASES, "model": "wide v3"})
        writer.finish()

    Artifacts(artifacts, "explorers").publish(write, made_at="2024-03-01T00:00:00+00:00")
    return Explorer.latest(artifacts)
