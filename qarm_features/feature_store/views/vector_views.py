"""Views of vectors: item embeddings by encoder version, nearest items by bank version, embeddings of users.

In: settings, and the vectors that are published of an encoder version. Out: Feast objects. The views
``item_embedding__enc<N>`` and ``item_nearest_items__bank<N>`` each read one Delta version. The services ``item_embedding``
and ``item_nearest_items`` move with the release. A vector index is declared if the online store has ``vector_enabled: true``,
else vectors are plain lists of floats.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from datetime import timedelta

from feast import Entity, FeatureService, FeatureView, Field
from feast.infra.offline_stores.contrib.spark_offline_store.spark_source import SparkSource
from feast.types import Array, Float32, Int32, Int64, String

from qarm_features.feature_store.views.feature_views import Release, entities, release_view
from qarm_features.feature_store.views.user_embedding_query import user_embedding_query
from qarm_features.settings.load import Settings
from qarm_features.storage.artifacts import write_json
from qarm_features.storage.objects import AnyPath
from qarm_features.storage.sql_names import files_at
from qarm_features.storage.tables import ITEM_EMBEDDINGS, ITEM_NEAREST_ITEMS
from qarm_features.storage.warehouse import Warehouse

EMBEDDING_SERVICE, NEAREST_SERVICE, USER_EMBEDDING_VIEW = "item_embedding", "item_nearest_items", "user_embedding"
_METRIC = "cosine"


@dataclass(frozen=True)
class PublishedVectors:
    """The vectors that are published of one encoder version, saved beside the releases as ``vectors/enc<n>.json``.

    Attributes:
        encoder_version: Version of the encoder that made the embeddings.
        embeddings_at: Delta version of ``item_embeddings``; None if embeddings are not published.
        dim: D, length of an embedding; None if embeddings are not published.
        bank_version: Version of the bank whose VQ codes are published; None if VQ codes are not published.
        nearest_at: Delta version of ``item_nearest_items``; None if VQ codes are not published.
        vector_index: True if the online store has a vector index.
        older_banks: (bank version, Delta version) of earlier banks of this encoder, which stay readable.
    """

    encoder_version: int
    embeddings_at: int | None = None
    dim: int | None = None
    bank_version: int | None = None
    nearest_at: int | None = None
    vector_index: bool = False
    older_banks: tuple[tuple[int, int], ...] = ()


def published_vectors(settings: Settings, encoder_version: int) -> PublishedVectors:
    """Return the vectors of an encoder version that were loaded and verified, without any if there are none."""
    path = _record(settings, encoder_version)
    return PublishedVectors(**json.loads(path.read_text())) if path.is_file() else PublishedVectors(encoder_version)


def record_vectors(settings: Settings, vectors: PublishedVectors) -> None:
    """Save which vectors of an encoder version are published."""
    write_json(_record(settings, vectors.encoder_version), asdict(vectors))


def forget_vectors(settings: Settings, encoder_version: int) -> None:
    """Delete the record of the published vectors of an encoder version."""
    _record(settings, encoder_version).unlink(missing_ok=True)


def release_views(settings: Settings, release: Release) -> list[FeatureView]:
    """Return all views of a release, each with a query as its source.

    They are the view of its semantic IDs and the views of its encoder version, which other releases may share.
    """
    vectors = published_vectors(settings, release.encoder_version)
    older = [
        replace(vectors, bank_version=bank, nearest_at=delta_version) for bank, delta_version in vectors.older_banks
    ]
    nearest = [_nearest_view(settings, one) for one in older]
    return [release_view(settings, release), *vector_views(settings, vectors), *nearest]


def vector_views(settings: Settings, vectors: PublishedVectors) -> list[FeatureView]:
    """Return the views of the published vectors of an encoder version: none, one or two."""
    views = []
    if vectors.embeddings_at is not None:
        views.append(_embedding_view(settings, vectors))
    if vectors.nearest_at is not None:
        views.append(_nearest_view(settings, vectors))
    return views


def vector_services(settings: Settings, vectors: PublishedVectors) -> list[FeatureService]:
    """Return the services that name the views of an encoder version. The names of the services never change."""
    services = []
    for view in vector_views(settings, vectors):
        name = view.name.split("__")[0]
        services.append(FeatureService(name=name, features=[view.with_name(name)], tags=view.tags))
    return services


def user_embedding_views(settings: Settings) -> list[FeatureView]:
    """Return the view of the embeddings of users that ``publishing.user_embeddings`` names; an empty list if not set."""
    source = settings.publishing.user_embeddings
    if source is None:
        return []
    _, user = entities(settings)
    id_type = "bigint" if settings.interactions.user_id_type == "integer" else "string"
    query = user_embedding_query(source, source.path and settings.path(source.path), id_type)
    schema = [_id_field("user_id", settings.interactions.user_id_type), Field(name=USER_EMBEDDING_VIEW, dtype=_VECTOR)]
    return [_view(USER_EMBEDDING_VIEW, user, schema, query, {})]


_VECTOR = Array(Float32)


def _embedding_view(settings: Settings, vectors: PublishedVectors) -> FeatureView:
    version, path = (
        vectors.encoder_version,
        Warehouse(settings.warehouse_path, **settings.id_types).path(ITEM_EMBEDDINGS),
    )
    query = (
        f"SELECT item_id, embedding, encoder_version, timestamp_seconds(0) AS event_timestamp FROM {files_at(path)} "
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
        f"SELECT item_id, vq_codes, vq_similarities, bank_version, event_timestamp FROM {files_at(path)} "
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


def _record(settings: Settings, encoder_version: int) -> AnyPath:
    return settings.artifacts_path / "releases" / "vectors" / f"enc{encoder_version}.json"
