"""Stock Feast searches published item embeddings in a store with a vector index. Numpy gives the expected items."""

from __future__ import annotations

import numpy as np
import psycopg
import pytest
import yaml
from feast.protos.feast.types.Value_pb2 import FloatList, Value

from qarm_features.feature_store.reading.vector_reader import VectorReader
from qarm_features.feature_store.views.feature_views import entities, open_feature_store
from qarm_features.feature_store.views.vector_views import PublishedVectors, vector_services, vector_views
from qarm_features.settings.load import load_settings
from tests.feature_store.stock_store import write
from tests.server_programs import PGVECTOR, skip_without

VECTORS = np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32)
VECTORS /= np.linalg.norm(VECTORS, axis=1, keepdims=True)


@pytest.fixture
def searched(postgres_server, settings):
    """A project whose online store is PostgreSQL with pgvector, with the embeddings of 50 items."""
    database = postgres_server.new_database()
    with psycopg.connect(postgres_server.conninfo(database), autocommit=True) as connection:
        if not connection.execute("SELECT 1 FROM pg_available_extensions WHERE name = 'vector'").fetchone():
            skip_without(PGVECTOR)
        connection.execute("CREATE EXTENSION vector")
    path = settings.feature_repo_path / "feature_store.yaml"
    online_store = {**postgres_server.online_store(database), "vector_enabled": True}
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), "online_store": online_store}))
    settings = load_settings(settings.feature_repo_path.parent / "qarm.yaml")
    store = open_feature_store(settings.feature_repo_path)
    vectors = PublishedVectors(0, embeddings_at=0, dim=8, vector_index=True)
    store.apply([*entities(settings), *vector_views(settings, vectors), *vector_services(settings, vectors)])
    rows = dict(enumerate(VECTORS))
    write(store, "item_embedding__enc0", rows, lambda row: {
        "embedding": Value(float_list_val=FloatList(val=row)), "encoder_version": Value(int32_val=0)
    })  # fmt: skip
    return store, settings


def test_the_nearest_embeddings_are_found_and_read_as_they_were_written(searched):
    store, settings = searched
    query = VECTORS[7] + 0.01

    found = store.retrieve_online_documents_v2(
        features=["item_embedding__enc0:embedding", "item_embedding__enc0:item_id"],
        query=query.tolist(), top_k=5, distance_metric="cosine",
    ).to_dict()  # fmt: skip

    nearest = np.argsort(-(VECTORS @ query), kind="stable")[:5]
    served = np.float32(found["embedding"])
    assert sorted(map(bytes, served)) == sorted(map(bytes, VECTORS[nearest]))
    read = VectorReader(settings.feature_repo_path).item_vectors(list(range(50)))
    assert read.vectors.numpy().tobytes() == VECTORS.tobytes()
