"""Publishes a release.

In: ``item_semantic_ids``, ``user_behavior``, ``user_impressions``, ``item_counters``. Out: Feast views and rows in the online
store, without those of users and items that left; ``published_keys``; then the Feast service names the new view.
"""

from __future__ import annotations

import json
import logging
import re
from typing import Annotated, Any

import typer
import yaml
from pyspark.sql import functions as F

from qarm_features.feature_store.publishing.releases import preview_release, publish_release
from qarm_features.feature_store.views.feature_views import Release
from qarm_features.jobs.bases import Basis, WholeWork, write_basis
from qarm_features.jobs.context import ENCODER_SETTINGS, JobContext, current_codebooks, existing_version
from qarm_features.jobs.job import Counts, job
from qarm_features.jobs.publish_new_rows import PUBLISHED, publish_new_rows, published_tables
from qarm_features.jobs.skipping import inputs
from qarm_features.jobs.states import RELEASES, UNKNOWN, source_states, table_state
from qarm_features.semantic_ids.assign import level_sizes
from qarm_features.settings.load import Settings
from qarm_features.storage.change_feed import keep_change_feed
from qarm_features.storage.origins import require_same_origin
from qarm_features.storage.tables import ITEM_EMBEDDINGS, ITEM_NEAREST_ITEMS, ITEM_SEMANTIC_IDS
from qarm_features.terminal import one_line

log = logging.getLogger(__name__)


def _other_inputs(settings: Settings) -> dict[str, Any]:
    """Returns the states of the online store's settings, of what the section publishing asks for, and what the views name."""
    publishing = settings.publishing
    states: dict[str, Any] = {"folder in the registry": settings.warehouse_path, **_online_store(settings)}
    if publishing.embeddings:
        states[ITEM_EMBEDDINGS.name] = table_state(ITEM_EMBEDDINGS, settings)
    if publishing.nearest_items:
        states[ITEM_NEAREST_ITEMS.name] = table_state(ITEM_NEAREST_ITEMS, settings)
    if publishing.user_embeddings:
        states |= source_states(publishing.user_embeddings, settings=settings)
    return states


def _online_store(settings: Settings) -> dict[str, Any]:
    """Returns the state of the section online_store, without passwords.

    Keys that expire must be renewed by every run, so a store with a time to live is never current.
    """
    file = settings.feature_repo_path / "feature_store.yaml"
    store = (yaml.safe_load(file.read_text()) or {}).get("online_store") if file.is_file() else None
    if not isinstance(store, dict):
        return {}
    content = json.dumps(
        {key: value for key, value in store.items() if "password" not in key}, sort_keys=True, default=str
    )
    states: dict[str, Any] = {"online_store": re.sub('(user(name)?|password)=[^,"]*', "", content)}
    if store.get("key_ttl_seconds"):
        states["online_store.key_ttl_seconds"] = UNKNOWN
    return states


@job(
    after="assign-semantic-ids, build-user-behavior",
    reads=("item_semantic_ids", "user_behavior", "user_impressions", "item_counters", "codebooks/"),
    writes=(RELEASES, "published_keys"),
    settings=(
        *ENCODER_SETTINGS,
        "codebooks",
        "publishing.verify_items",
        "publishing.release_retention_days",
        "publishing.embeddings",
        "publishing.nearest_items",
        "publishing.user_embeddings",
        "behavior.impression_length",
    ),
    extra_inputs=_other_inputs,
)
def publish_features(
    context: JobContext,
    codebook_version: Annotated[
        int | None, typer.Option(help="Codebook version to release; the newest by default.")
    ] = None,
    promote: Annotated[bool, typer.Option(help="Promote the release after it was loaded and verified.")] = True,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be written, deleted and held back, and change nothing.")
    ] = False,
) -> Counts:
    """Loads a release into the online store, verifies it, and promotes it: readers get it from then on.

    Item embeddings, VQ codes and user vectors are published too, if the section publishing asks for them. Users and items
    that left the tables are deleted online. If the release is served already and rows came to its tables and no more, these
    rows alone are written, and the rows of all views are counted. Otherwise all rows are written, and the log says why.
    """
    warehouse, settings = context.warehouse, context.settings
    seen, now = inputs(publish_features, settings), published_tables(warehouse)
    codebooks = current_codebooks(context, codebook_version)
    delta_version = existing_version(warehouse, ITEM_SEMANTIC_IDS)
    require_same_origin(warehouse, ITEM_SEMANTIC_IDS, codebooks, version=delta_version)
    _require_vectors_of(context, codebooks.manifest["encoder_version"])
    rows = warehouse.read(ITEM_SEMANTIC_IDS, version=delta_version)
    release = Release(
        codebook_version=codebooks.version,
        encoder_version=codebooks.manifest["encoder_version"],
        num_levels=codebooks.manifest["num_levels"],
        codebook_size=max(level_sizes(codebooks.manifest)),
        delta_version=delta_version,
        rows=rows.where(F.col("codebook_version") == codebooks.version).count(),
        codebook_fingerprint=codebooks.fingerprint,
        moved_at=delta_version,
    )
    if dry_run:
        for line in preview_release(context.spark, settings, release).lines():
            typer.echo(one_line(line))
        return Counts(release.rows, 0, 0, "nothing was changed")
    held_back = False
    try:
        if codebook_version is not None or not promote:
            raise WholeWork("a flag asks for it")
        remark = publish_new_rows(context, publish_features.name, release, seen, now)
    except WholeWork as reason:
        log.log(reason.level, "publish-features writes all rows, because %s", reason)
        published = publish_release(context.spark, settings, release, promote=promote)
        served = (
            f"item_semantic_id now serves {release.view_name}" if promote else f"{release.view_name} is not promoted"
        )
        remark = "; ".join(part for part in (served, published.remark) if part)
        held_back = bool(published.held_back)
        for table in PUBLISHED:  # of an earlier version of this package, which let them keep none
            keep_change_feed(context.spark, warehouse.path(table))
    write_basis(settings, publish_features.name, Basis(seen, now, {"held_back": held_back}))
    return Counts(release.rows, release.rows, 0, remark)


def _require_vectors_of(context: JobContext, encoder_version: int) -> None:
    """Refuses embeddings and VQ codes, if they are published, of another encoder or bank than the one of their number."""
    publishing, encoders = context.settings.publishing, context.artifacts("encoders")
    if publishing.embeddings and encoder_version in encoders.versions():
        require_same_origin(context.warehouse, ITEM_EMBEDDINGS, encoders.get(encoder_version))
    bank = context.artifacts("banks").find(encoder_version=encoder_version)
    if publishing.nearest_items and bank is not None:
        require_same_origin(context.warehouse, ITEM_NEAREST_ITEMS, bank)
