"""Everything that the pages of a release need, computed by Spark and written into one SQLite file.

In: the tables, a promoted release, and the records beside the artifacts. Out: the file of a version of ``explorers``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from qarm_features.explorer.computing.catalog import release_items, shown_items
from qarm_features.explorer.computing.figures import figures
from qarm_features.explorer.computing.item_map import item_map
from qarm_features.explorer.computing.item_rows import item_rows, streamed
from qarm_features.explorer.computing.lineage import lineage
from qarm_features.explorer.computing.neighbors import by_co_click, by_embedding
from qarm_features.explorer.computing.pictures import image_limits, small_pictures
from qarm_features.explorer.computing.releases import (
    compare,
    past_ids,
    readable_releases,
    release_before,
    release_codes,
)
from qarm_features.explorer.computing.summary import summary
from qarm_features.explorer.computing.tree import collisions, prefixes
from qarm_features.explorer.computing.typical import typical_items
from qarm_features.explorer.computing.users import user_pages
from qarm_features.explorer.computing.words import distinguishing_words
from qarm_features.explorer.schema import FILE, CollisionRow, NodeRow
from qarm_features.explorer.store_writer import StoreWriter
from qarm_features.feature_store.views.feature_views import Release
from qarm_features.semantic_ids.assign import level_sizes
from qarm_features.settings.load import Settings
from qarm_features.storage.artifacts import Artifacts
from qarm_features.storage.drafts import shared_draft
from qarm_features.storage.tables import INTERACTIONS, ITEM_EMBEDDINGS, ITEMS
from qarm_features.storage.warehouse import Warehouse


class Built(NamedTuple):
    """What was written.

    Attributes:
        items: Number of items of the release.
        shown_items: Number of items that the explorer has.
        users: Number of users that have a page.
        scored_by: Name of the ranking model; "" where there is none.
    """

    items: int
    shown_items: int
    users: int
    scored_by: str


def write_explorer(folder: Path, warehouse: Warehouse, release: Release, *, settings: Settings) -> Built:
    """Write the file of a release.

    Args:
        folder: Local folder to write to. Where artifacts is no URI, every executor must reach it too.
        warehouse: The tables.
        release: Promoted release.
        settings: Settings of the project.
    """
    options, artifacts = settings.explorer, settings.artifacts_path
    levels = release.num_levels
    interactions = warehouse.read_or_empty(INTERACTIONS)
    items = warehouse.read(ITEMS)
    rows = release_items(release_codes(warehouse, release), items, interactions, seed=settings.seed).persist()
    count = rows.count()
    tree = prefixes(rows, num_levels=levels).persist()
    shown = shown_items(rows, items=count, max_items=options.max_items)
    embedded = _embedded(shown, warehouse, release).persist()
    writer = StoreWriter(folder / FILE)
    try:
        readable = readable_releases(warehouse, settings)
        with shared_draft(folder if isinstance(artifacts, Path) else artifacts / "explorers") as bank:
            near = by_embedding(embedded, settings=settings.nearest_items, folder=f"{bank}/bank", seed=settings.seed)
            beside = [near, by_co_click(interactions, shown), past_ids(readable)]
            if options.picture_side and settings.items.image:
                limits = image_limits(settings)
                images = items.join(shown.select("item_id"), on="item_id", how="left_semi")
                beside.append(small_pictures(images, limits=limits, side=options.picture_side))
            shown_count = writer.add_items(item_rows(shown, *beside))
        writer.add_nodes(_node_rows(rows, tree, embedded, levels))
        writer.add_collisions(CollisionRow(*row) for row in streamed(collisions(rows)))
        users = user_pages(warehouse, release, settings=settings)
        writer.add_users(users.rows)
        now = next(past for past in readable if past.release.codebook_version == release.codebook_version)
        documents: dict[str, Any] = {
            "summary": summary(
                warehouse,
                tree,
                now,
                settings=settings,
                codebook_sizes=level_sizes(Artifacts(artifacts, "codebooks").get(release.codebook_version).manifest),
                shown_items=shown_count,
                users=len(users.rows),
                releases=[past.release.view_name for past in readable],
            ),
            "releases": [
                {
                    "release": past.release.view_name,
                    "codebook_version": past.release.codebook_version,
                    "published_at": past.published_at,
                }
                for past in readable
            ],
            "map": item_map(embedded, items=shown_count, most=options.map_items, seed=settings.seed),
            "moves": compare(release_before(settings, release, readable), now),
            "figures": figures(artifacts, release),
            "lineage": lineage(warehouse, release, settings=settings),
            "model": users.model,
        }
        writer.add_documents(documents)
        writer.finish()
    finally:
        writer.close()
        for kept in (embedded, tree, rows):
            kept.unpersist()
    return Built(count, shown_count, len(users.rows), users.model)


def _embedded(shown: DataFrame, warehouse: Warehouse, release: Release) -> DataFrame:
    """Return the shown items with the embeddings of the release's encoder."""
    embeddings = warehouse.read(ITEM_EMBEDDINGS).where(F.col("encoder_version") == release.encoder_version)
    columns = "item_id", "title", "rq_codes", "item_hash"
    return shown.select(*columns).join(embeddings.select("item_id", "embedding"), on="item_id", how="inner")


def _node_rows(rows: DataFrame, tree: DataFrame, embedded: DataFrame, num_levels: int) -> Iterator[NodeRow]:
    words = distinguishing_words(rows, tree, num_levels=num_levels)
    typical = typical_items(embedded, num_levels=num_levels)
    nodes = tree.join(words, on="prefix", how="left").join(typical, on="prefix", how="left").orderBy("prefix")
    names = "prefix", "items", "children", "positives", "words", "typical"
    for row in streamed(nodes.select(*names)):
        counts = row["items"], row["children"], row["positives"]
        yield NodeRow(row["prefix"], *counts, row["words"] or (), row["typical"] or ())
