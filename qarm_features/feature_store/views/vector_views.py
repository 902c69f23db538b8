"""Views of vectors: item embeddings by encoder version, nearest items by bank version, users' embeddings of your own.

In: settings, and what was published of an encoder version. Out: Feast objects. ``item_embedding__enc<N>`` and
``item_nearest_items__bank<N>`` are named after what identifies their rows and read one Delta version; the services
``item_embedding`` and ``item_nearest_items`` move with the release. A vector index is declared where the online store has
``vector_enabled: true``; elsewhere vectors are plain lists of floats.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from pathlib import Path

from feast import Entity, FeatureService, FeatureView, Field
from feast.infra.offline_stores.contrib.spark_offline_store.spark_source import SparkSource
from feast.types import Array, Float32, Int32, Int64, String

from qarm_features.feature_store.views.feature_views import Release, entities, release_view
from qarm_features.settings.load import Settings
from qarm_features.storage.artifacts import write_json
from qarm_features.storage.tables import ITEM_EMBEDDINGS, ITEM_NEAREST_ITEMS
from qarm_features.storage.warehouse import Warehouse

EMBEDDING_SERVICE, NEAREST_SERVICE, USER_EMBEDDING_VIEW = "item_embedding", "item_nearest_items", "user_embedding"
_METRIC = "cosine"


@dataclass(frozen=True)
class PublishedVectors:
    """What is published of one encoder version; stored beside the releases as ``vectors/enc<n>.json``.

    Attributes:
        encoder_version: The encoder that made the embeddings.
        embeddings_at: Delta version of ``item_embeddings``; None where they are not published.
        dim: D of the embeddings.
        bank_version: The bank whose VQ codes are published; None where none are.
        nearest_at: Delta version of ``item_nearest_items``.
        vector_index: Whether the online store searches vectors.
        older_banks: Earlier banks of this encoder, which stay readable: (bank version, Delta version) each.
    """

    encoder_version: int
    embeddings_at: int | None = None
    dim: int | None = None
    bank_version: int | None = None
    nearest_at: int | None = None
    vector_index: bool = False
    older_banks: tuple[tuple[int, int], ...] = ()


def published_vectors(settings: Settings, encoder_version: int) -> PublishedVectors:
    """Returns what was loaded and verified of an encoder version; nothing of it where nothing was."""
    path = _record(settings, encoder_version)
    return PublishedVectors(**json.loads(path.read_text())) if path.is_file() else PublishedVectors(encoder_version)


def record_vectors(settings: Settings, vectors: PublishedVectors) -> None:
    """Keeps what is published of an encoder version."""
    write_json(_record(settings, vectors.encoder_version), asdict(vectors))


def forget_vectors(settings: Settings, encoder_version: int) -> None:
    """Lets nothing be published of an encoder version."""
    _record(settings, encoder_version).unlink(missing_ok=True)


def release_views(settings: Settings, release: Release) -> list[FeatureView]:
    """Returns all views that belong to a release, each with a query as its source: its own, and those of its encoder, which
    other releases may share."""
    vectors = published_vectors(settings, release.encoder_version)
    older = [replace(vectors, bank_version=bank, nearest_at=at) for bank, at in vectors.older_banks]
    nearest = [_nearest_view(settings, one) for one in older]
    return [release_view(settings, release), *vector_views(settings, vectors), *nearest]


def vector_views(settings: Settings, vectors: PublishedVectors) -> list[FeatureView]:
    """Returns the views of what is published of an encoder version: none, one or two."""
    views = [_embedding_view(settings, vectors)] if vectors.embeddings_at is not None else []
    return views + ([_nearest_view(settings, vectors)] if vectors.nearest_at is not None else [])


def vector_services(settings: Settings, vectors: PublishedVectors) -> list[FeatureService]:
    """Returns the services that point at the views of an encoder version, under names that stay the same."""
    services = []
    for view in vector_views(settings, vectors):
        name = view.name.split("__")[0]
        services.append(FeatureService(name=name, features=[view.with_name(name)], tags=view.tags))
    return services


def user_embedding_views(settings: Settings) -> list[FeatureView]:
    """Returns the view of the users' embeddings that ``publishing.user_embeddings`` names; none where it is not set."""
    of = settings.publishing.user_embeddings
    if of is None:
        return []
    _, user = entities(settings)
    id_type = "bigint" if settings.interactions.user_id_type == "integer" else "string"
    rows = of.table if of.table else f"{of.resolved_format.replace('jsonl', 'json')}.`{settings.path(of.path)}`"
    query = (
        f"SELECT CAST(`{of.user_id}` AS {id_type}) AS user_id, CAST(`{of.embedding}` AS array<float>) AS user_embedding, "
        f"CAST(`{of.event_timestamp}` AS timestamp) AS event_timestamp FROM {rows}"
    )
    schema = [_id_field("user_id", settings.interactions.user_id_type), Field(name=USER_EMBEDDING_VIEW, dtype=_VECTOR)]
    return [_view(USER_EMBEDDING_VIEW, user, schema, query, {})]


_VECTOR = Array(Float32)


def _embedding_view(settings: Settings, vectors: PublishedVectors) -> FeatureView:
    version, path = (
        vectors.encoder_version,
        Warehouse(settings.warehouse_path, **settings.id_types).path(ITEM_EMBEDDINGS),
    )
    query = (
        f"SELECT item_id, embedding, encoder_version, timestamp_seconds(0) AS event_timestamp FROM delta.`{path}` "
        f"VERSION AS OF {vectors.embeddings_at} WHERE encoder_version = {version}"
    )
    index = {"vector_index": True, "vector_length": vectors.dim, "vector_search_metric": _METRIC}
    schema = [
        _id_field("item_id", settings.items.item_id_type),
        Field(name="embedding", dtype=_VECTOR, **(index if vectors.vector_index else {})),
        Field(name="encoder_version", dtype=Int32),
    ]
    tags = {"encoder_version": str(version), "dim": str(vectors.dim), "delta_version": str(vectors.embeddings_at)}
    return _view(f"{EMBEDDING_SERVICE}__enc{version}", entities(settings)[0], schema, query, tags)


def _nearest_view(settings: Settings, vectors: PublishedVectors) -> FeatureView:
    version, path = (
        vectors.bank_version,
        Warehouse(settings.warehouse_path, **settings.id_types).path(ITEM_NEAREST_ITEMS),
    )
    query = (
        f"SELECT item_id, vq_codes, vq_similarities, bank_version, event_timestamp FROM delta.`{path}` "
        f"VERSION AS OF {vectors.nearest_at} WHERE bank_version = {version}"
    )
    item_id = _id_field("item_id", settings.items.item_id_type)
    schema = [
        item_id,
        Field(name="vq_codes", dtype=Array(item_id.dtype)),
        Field(name="vq_similarities", dtype=_VECTOR),
        Field(name="bank_version", dtype=Int32),
    ]
    tags = {
        "bank_version": str(version),
        "encoder_version": str(vectors.encoder_version),
        "delta_version": str(vectors.nearest_at),
    }
    return _view(f"{NEAREST_SERVICE}__bank{version}", entities(settings)[0], schema, query, tags)


def _view(name: str, entity: Entity, schema: list[Field], query: str, tags: dict[str, str]) -> FeatureView:
    source = SparkSource(name=name, query=query, timestamp_field="event_timestamp")
    return FeatureView(
        name=name, entities=[entity], ttl=timedelta(0), schema=schema, source=source, online=True, tags=tags
    )


def _id_field(name: str, id_type: str) -> Field:
    return Field(name=name, dtype=Int64 if id_type == "integer" else String)


def _record(settings: Settings, encoder_version: int) -> Path:
    return settings.artifacts_path / "releases" / "vectors" / f"enc{encoder_version}.json"
