"""A codebook version becomes readable online: view, load, read-back, and only then the flip.

In: ``item_semantic_ids`` of one codebook version and ``user_behavior``. Out: a loaded, verified view and the service
``item_semantic_id`` that points at it. Whenever the publisher is stopped, readers see the last whole release; running it
again finishes the work.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from feast import Entity, FeatureService, FeatureStore, FeatureView
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from qarm_features.artifacts import write_json
from qarm_features.feature_store.feature_views import (
    Release,
    entities,
    item_service,
    open_feature_store,
    release_view,
    user_behavior_view,
)
from qarm_features.settings import Settings, load_settings
from qarm_features.tables import ITEM_SEMANTIC_IDS, USER_BEHAVIOR
from qarm_features.warehouse import Warehouse

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_READ_BATCH = 500
_log = logging.getLogger(__name__)


class ReleaseError(ValueError):
    """A release is not what it should be; it was not flipped to."""


def publish_release(spark: SparkSession, settings: Settings, release: Release) -> None:
    """Publishes a release: views, load of the online store, read-back verification, then the flip.

    Args:
        spark: The session that reads Delta and loads the online store from its executors.
        settings: The project's settings.
        release: What to publish.

    Raises:
        ReleaseError: The table holds other rows than the release says, or a row read back differs. Readers keep the
            release they had.
    """
    warehouse = Warehouse.of(settings, spark)
    codes = _release_rows(warehouse, release)
    _check_rows(codes, release)
    store = open_feature_store(settings.feature_repo_path)
    view, behavior = release_view(settings, release), user_behavior_view(settings)
    store.apply([*entities(settings), view, behavior])
    _materialize(store, [view.name, behavior.name])
    _verify(store, view, codes, settings.publishing.verify_items)
    _verify(store, behavior, _newest(warehouse.read(USER_BEHAVIOR)), settings.publishing.verify_items)
    write_json(_record(settings, release.codebook_version), asdict(release))
    promote_release(store, settings, release)


def promote_release(store: FeatureStore, settings: Settings, release: Release) -> None:
    """Flips the service ``item_semantic_id`` to a loaded release, in one transaction of the registry."""
    store.apply([item_service(release_view(settings, release))])
    write_json(_promoted(settings), {"codebook_version": release.codebook_version})
    _log.info("item_semantic_id now serves %s", release.view_name)


def published_releases(settings: Settings) -> list[Release]:
    """Returns the releases that were loaded and verified, by codebook version."""
    records = [json.loads(path.read_text()) for path in _folder(settings).glob("cb*.json")]
    return sorted((Release(**record) for record in records), key=lambda release: release.codebook_version)


def promoted_release(settings: Settings) -> Release | None:
    """Returns the release that was flipped to last, or None."""
    if not _promoted(settings).is_file():
        return None
    version = json.loads(_promoted(settings).read_text())["codebook_version"]
    return Release(**json.loads(_record(settings, version).read_text()))


def require_promoted_release(settings: Settings) -> Release:
    """Returns the release that was flipped to last.

    Raises:
        ReleaseError: There is none yet.
    """
    release = promoted_release(settings)
    if release is None:
        raise ReleaseError("No release is promoted, must be one. Run: qarm publish-features")
    return release


def definitions(config: str | Path) -> list[Entity | FeatureView | FeatureService]:
    """Returns all Feast objects of a project, so that ``feast apply`` leaves the registry as our jobs made it.

    Args:
        config: Path of ``qarm.yaml``.
    """
    settings = load_settings(config)
    releases = published_releases(settings)
    found = [*entities(settings), *[release_view(settings, release) for release in releases]]
    if Warehouse.of(settings).exists(USER_BEHAVIOR):
        found.append(user_behavior_view(settings))
    promoted = promoted_release(settings)
    if promoted is not None:
        found.append(item_service(release_view(settings, promoted)))
    return found


def _folder(settings: Settings) -> Path:
    return settings.artifacts_path / "releases"


def _record(settings: Settings, codebook_version: int) -> Path:
    return _folder(settings) / f"cb{codebook_version}.json"


def _promoted(settings: Settings) -> Path:
    return _folder(settings) / "promoted.json"


def _release_rows(warehouse: Warehouse, release: Release) -> DataFrame:
    rows = warehouse.read(ITEM_SEMANTIC_IDS, version=release.delta_version)
    return rows.where(F.col("codebook_version") == release.codebook_version)


def _check_rows(codes: DataFrame, release: Release) -> None:
    """Refuses what would be served wrongly: Feast serves a null inside a list as code 0."""
    in_range = F.forall("rq_codes", lambda code: code.isNotNull() & code.between(0, release.codebook_size - 1))
    good = F.coalesce((F.size("rq_codes") == release.num_levels) & in_range, F.lit(False))
    counts = codes.agg(
        F.count("*").alias("rows"),
        F.count_distinct("item_id").alias("items"),
        F.count_if(~good).alias("bad"),
    ).first()
    if counts["rows"] != release.rows or counts["items"] != release.rows:
        raise ReleaseError(
            f"item_semantic_ids holds {counts['rows']:,} rows of {counts['items']:,} items for codebook version "
            f"{release.codebook_version}, must be {release.rows:,} of both. Run: qarm assign-semantic-ids"
        )
    if counts["bad"]:
        raise ReleaseError(
            f"{counts['bad']:,} semantic IDs are null or not {release.num_levels} codes in [0, {release.codebook_size})"
            ", must be none. Run: qarm assign-semantic-ids"
        )


def _newest(behavior: DataFrame) -> DataFrame:
    latest = F.max_by(F.struct("behavior_item_ids", "behavior_timestamps"), "event_timestamp").alias("latest")
    return behavior.groupBy("user_id").agg(latest).select("user_id", "latest.*")


def _materialize(store: FeatureStore, views: list[str]) -> None:
    # Feast prints its progress to stdout; the job's own line says what happened.
    with contextlib.redirect_stdout(io.StringIO()):
        store.materialize(_EPOCH, datetime.now(UTC), feature_views=views)


def _verify(store: FeatureStore, view: FeatureView, rows: DataFrame, sample: int) -> None:
    """Reads a sample of rows back as any Feast client would and compares each value."""
    key = view.entity_columns[0].name
    names = [feature.name for feature in view.features]
    order = [F.xxhash64(key), F.col(key)]  # a sample that does not depend on partitions, bounded by its size
    expected = rows.select(key, *names).orderBy(*order).limit(sample).collect()
    for start in range(0, len(expected), _READ_BATCH):
        batch = expected[start : start + _READ_BATCH]
        keys = [{key: row[key]} for row in batch]
        served = store.get_online_features([f"{view.name}:{name}" for name in names], entity_rows=keys).to_dict()
        for position, row in enumerate(batch):
            for name in names:
                if served[name][position] != row[name]:
                    raise ReleaseError(
                        f"{view.name} serves {name} = {served[name][position]} for {key} = {row[key]}, must be {row[name]}."
                        " The release was not flipped to. Run: qarm publish-features"
                    )
    _log.info("%s: %d rows read back, all equal", view.name, len(expected))
