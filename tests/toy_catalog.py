"""A toy catalog: 64 items of four themes, and 40 users who each like one theme. It is small enough to check by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd

from qarm_features.cli.new_project import project_name, write_project
from qarm_features.jobs.context import JobContext
from qarm_features.settings.load import load_settings

_THEMES = {
    "sea": "pirates sail the ocean, a ship, a captain, waves and an island treasure",
    "space": "astronauts fly a rocket to a distant planet among stars and galaxies",
    "kitchen": "a chef cooks pasta, bread and soup in a busy restaurant kitchen",
    "court": "a lawyer defends a client before the judge and the jury in court",
}
_PARTS = ("part one", "part two", "the return", "the end")
_MOODS = ("a comedy", "a drama", "for children", "a documentary")

SETTINGS = """\
seed: 0
max_rejected_share: 0.5
items:
  path: catalog/items.parquet
  title: title
  text: [title, plot]
interactions:
  path: catalog/interactions.parquet
  label: rating
  positive_from: 4
codebooks: {num_levels: 2, codebook_size: 4, max_iter: 10}
behavior: {max_length: 8}
ranking: {epochs: 2, batch_size: 64}
"""


def toy_items() -> pd.DataFrame:
    """Returns 64 items: item_id 0..63, theme item_id // 16."""
    rows = [(f"{theme} {part}, {mood}", plot) for theme, plot in _THEMES.items() for part in _PARTS for mood in _MOODS]
    return pd.DataFrame(rows, columns=["title", "plot"]).rename_axis("item_id").reset_index()


def toy_interactions() -> pd.DataFrame:
    """Returns 20 ratings of each of 40 users, an hour apart: user u rates items of theme u % 4 with 5 and others with 2."""
    random = np.random.default_rng(0)
    start = datetime(2024, 1, 1, tzinfo=UTC)
    rows = []
    for step in range(20):
        for user in range(40):
            likes = user % 4 == step % 4 or step % 2 == 0
            theme = user % 4 if likes else (user + 1) % 4
            item = theme * 16 + int(random.integers(16))
            moment = start + timedelta(hours=step, minutes=user)
            rows.append((user, item, moment, 5 if likes else 2))
    frame = pd.DataFrame(rows, columns=["user_id", "item_id", "event_timestamp", "rating"])
    frame["event_timestamp"] = frame["event_timestamp"].dt.as_unit("us")
    return frame


def write_toy_project(folder: Path) -> Path:
    """Writes the catalog, the click log and the settings of the toy project."""
    (folder / "catalog").mkdir(parents=True, exist_ok=True)
    toy_items().to_parquet(folder / "catalog" / "items.parquet", index=False)
    toy_interactions().to_parquet(folder / "catalog" / "interactions.parquet", index=False)
    write_project(folder)
    store = folder / "feature_repo" / "feature_store.yaml"
    # Tests look into the online store, whose names start with that of the project.
    store.write_text(store.read_text().replace(f"project: {project_name(folder)}\n", "project: qarm\n"))
    (folder / "qarm.yaml").write_text(SETTINGS)
    return folder


def open_project(folder: Path, spark) -> JobContext:
    """Returns a context of a project's folder on the suite's own session."""
    context = JobContext(load_settings(folder / "qarm.yaml"))
    context.spark = spark
    return context


def all_jobs():
    """Returns every job that `qarm run` runs on the toy project, in its order."""
    from importlib import import_module

    from qarm_features.cli.job_lists import ALIGNMENT_JOBS, JOBS

    return [getattr(import_module(f"qarm_features.jobs.{name}"), name) for name in JOBS if name not in ALIGNMENT_JOBS]


def add_clustered_embeddings(context: JobContext, item_ids: range) -> None:
    """Writes embeddings (8) near the axis of each item's theme, in place of encoded texts; item IDs up to 79."""
    from qarm_features.embedding.encoder_versions import current_encoder
    from qarm_features.storage.tables import ITEM_EMBEDDINGS

    encoder = current_encoder(context.artifacts("encoders"), context.settings)
    random = np.random.default_rng(0)
    themes = np.eye(8)[[0, 1, 2, 3, 0]].repeat(16, axis=0) + 0.2 * random.normal(size=(80, 8))
    themes /= np.linalg.norm(themes, axis=1, keepdims=True)
    rows = [(i, themes[i].tolist(), "hash", encoder.version) for i in item_ids]
    schema = "item_id long, embedding array<float>, content_hash string, encoder_version int"
    context.warehouse.append(ITEM_EMBEDDINGS, context.spark.createDataFrame(rows, schema))
