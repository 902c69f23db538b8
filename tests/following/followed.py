"""A published project of 64 items, to which files are added."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd

from qarm_features.cli.new_project import project_name, write_project
from qarm_features.feature_store import SemanticIDReader
from qarm_features.jobs.context import JobContext
from qarm_features.jobs.follow import follow
from qarm_features.jobs.skipping import inputs, record_run
from qarm_features.storage.tables import (
    INTERACTIONS,
    ITEM_COUNTERS,
    ITEM_EMBEDDINGS,
    ITEM_SEMANTIC_IDS,
    ITEMS,
    PUBLISHED_KEYS,
    REJECTED_ROWS,
    USER_BEHAVIOR,
    USER_IMPRESSIONS,
    Table,
)
from tests.following.online_content import online_content
from tests.toy_catalog import open_project, toy_interactions

DIM = 8
FOLLOWED_TABLES = (
    ITEMS,
    ITEM_EMBEDDINGS,
    ITEM_SEMANTIC_IDS,
    REJECTED_ROWS,
    INTERACTIONS,
    USER_BEHAVIOR,
    USER_IMPRESSIONS,
    ITEM_COUNTERS,
    PUBLISHED_KEYS,
)
JOBS = (
    "ingest_catalog",
    "embed_items",
    "fit_codebooks",
    "assign_semantic_ids",
    "build_user_behavior",
    "publish_features",
)
SETTINGS = f"""\
seed: 0
max_rejected_share: 0.5
items: {{path: catalog/items, format: parquet, title: title, text: [], precomputed: vector, precomputed_dim: {DIM}}}
interactions: {{path: catalog/log, format: parquet, label: rating, positive_from: 4}}
codebooks: {{num_levels: 2, codebook_size: 4, max_iter: 5}}
behavior: {{max_length: 8, impression_length: 8}}
publishing: {{verify_items: 100, lease_seconds: 2}}
"""


def vector(item: int, *, theme: int | None = None) -> list[float]:
    """Returns the vector of an item, near the axis of its theme: by default item_id // 16 modulo 4."""
    axis = np.eye(DIM)[(item // 16 if theme is None else theme) % 4]
    return (axis + 0.2 * np.random.default_rng(item).normal(size=DIM)).astype(np.float32).tolist()


def items_of(numbers, **columns) -> pd.DataFrame:
    """Returns rows of the catalog."""
    rows = [(number, f"item {number}", vector(number or 0)) for number in numbers]
    frame = pd.DataFrame(rows, columns=["item_id", "title", "vector"])
    return frame.assign(**columns)


def clicks_of(*rows) -> pd.DataFrame:
    """Returns rows of the click log, each (user, item, hour of 2 January 2024, rating)."""
    frame = pd.DataFrame(rows, columns=["user_id", "item_id", "event_timestamp", "rating"])
    hours = pd.to_timedelta(frame["event_timestamp"], unit="h")
    moments = pd.Timestamp("2024-01-02", tz="UTC") + hours
    return frame.assign(event_timestamp=moments.dt.as_unit("us"))


def written_project(folder: Path) -> Path:
    """Writes a project of 64 items before any job has run."""
    for name, frame in (("items", items_of(range(64))), ("log", toy_interactions())):
        (folder / "catalog" / name).mkdir(parents=True)
        frame.to_parquet(folder / "catalog" / name / "first.parquet", index=False)
    write_project(folder)
    store = folder / "feature_repo" / "feature_store.yaml"
    store.write_text(store.read_text().replace(f"project: {project_name(folder)}\n", "project: qarm\n"))
    (folder / "qarm.yaml").write_text(SETTINGS)
    return folder


def published_project(folder: Path, spark) -> Path:
    """Writes a project and runs its jobs up to the publication."""
    run_jobs(open_project(written_project(folder), spark))
    return folder


def run_jobs(context: JobContext, names=JOBS) -> list[str]:
    """Runs jobs as ``qarm run`` does, and returns their remarks."""
    remarks = []
    for name in names:
        job = getattr(import_module(f"qarm_features.jobs.{name}"), name)
        seen = inputs(job, context.settings)
        counts = job(context)
        record_run(job, context.settings, seen, counts, 1.0)
        remarks.append(counts.remark)
    return remarks


class FollowedProject:
    """A published project.

    Args:
        folder: Folder of the project.
        spark: Spark session.
    """

    def __init__(self, folder: Path, spark) -> None:
        self.folder, self.spark = folder, spark
        self.context = open_project(folder, spark)

    def set(self, lines: str) -> None:
        """Adds settings."""
        (self.folder / "qarm.yaml").write_text(SETTINGS + lines)
        self.context = open_project(self.folder, self.spark)

    def add(self, name: str, frame: pd.DataFrame, *, to: str = "items") -> Path:
        """Adds a file to the catalog or to the click log, whole from the start as people should."""
        path, hidden = (self.folder / "catalog" / to / one for one in (name, f".{name}"))
        frame.to_parquet(hidden, index=False)
        hidden.rename(path)
        return path

    def follow(self):
        """Takes up the files that are there."""
        return follow(self.context, once=True)

    def rows(self, table: Table) -> list[dict]:
        """Returns the rows of a table, sorted, each without its nulls: a table may lack an optional column."""
        found = self.context.warehouse.arrow(table).to_table().to_pylist()
        found = [{name: value for name, value in row.items() if value is not None} for row in found]
        return sorted(found, key=lambda row: json.dumps(row, default=str))

    def ids(self) -> dict[int, tuple]:
        """Returns semantic ID and collision index of each item."""
        rows = self.rows(ITEM_SEMANTIC_IDS)
        assert len({row["item_id"] for row in rows}) == len(rows)
        return {row["item_id"]: (*row["rq_codes"], row["collision_index"]) for row in rows}

    def served(self, items) -> tuple[list, list[bool]]:
        """Returns codes of items and whether they are found, as a serving host reads them."""
        batch = SemanticIDReader(self.folder / "feature_repo").item_codes(list(items))
        return batch.codes.tolist(), batch.found.tolist()

    def content(self) -> dict:
        """Returns the rows of all tables that a follower writes, without the place of the project, and all rows online."""
        tables = {table.name: self.rows(table) for table in FOLLOWED_TABLES}
        for row in tables[REJECTED_ROWS.name]:
            row["file"] = Path(row.get("file", "")).name
        return {**tables, "online": online_content(self.folder)}
