"""From catalog to exported encoder by a backbone as its authors publish it: last token, prompt, layer, cut to 6 values."""

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from qarm_features import ItemEncoder
from qarm_features.jobs.embed_items import embed_items
from qarm_features.jobs.export_encoder import export_encoder
from qarm_features.jobs.ingest_catalog import ingest_catalog
from qarm_features.jobs.write_content_tokens import write_content_tokens
from qarm_features.ranking import ItemContentStore, RankingModel
from qarm_features.storage.tables import ITEM_EMBEDDINGS, ITEMS
from tests.encoders import published_backbones as shapes
from tests.encoders.published_backbones import dense, published
from tests.toy_catalog import open_project, write_toy_project

SETTINGS = """\
items: {{path: catalog/items.parquet, text: [plot]}}
interactions: {{path: catalog/interactions.parquet, label: rating}}
encoder: {{text_backbone: {folder}, text_dim: 6, tokens_kept: 3, frozen_weight: 1}}
"""
PROMPTS = {"query": "query: ", "document": "the item: "}


@pytest.fixture(scope="module")
def project(tmp_path_factory, spark):
    place = write_toy_project(tmp_path_factory.mktemp("published"))
    folder = published(place / "tiny", shapes.qwen3, "lasttoken", dense(12), prompts=PROMPTS)
    (place / "qarm.yaml").write_text(SETTINGS.format(folder=folder))
    context = open_project(place, spark)
    ingest_catalog(context)
    embed_items(context)
    return context, folder


def items_and_embeddings(context, *, encoder_version):
    items = context.warehouse.read(ITEMS).toPandas().set_index("item_id")["text"]
    rows = context.warehouse.read(ITEM_EMBEDDINGS).where(f"encoder_version = {encoder_version}").toPandas()
    embeddings = rows.set_index("item_id").loc[items.index]["embedding"]
    return list(items.index), list(items), torch.from_numpy(np.stack(embeddings.to_numpy()))


def library(folder, texts):
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(folder, device="cpu", truncate_dim=6)
    return model.encode_document(texts, convert_to_tensor=True, normalize_embeddings=True)


def test_the_embeddings_of_a_catalog_are_the_vectors_of_the_library(project):
    context, folder = project

    _, texts, embeddings = items_and_embeddings(context, encoder_version=0)

    assert len(texts) == 64
    torch.testing.assert_close(embeddings, library(folder, texts), atol=1e-4, rtol=0)


@pytest.mark.slow
def test_an_exported_encoder_has_these_vectors_beside_its_fusion(project):
    context, folder = project
    write_content_tokens(context)
    store = ItemContentStore.open(context.artifacts("item_content").latest().path)
    torch.manual_seed(0)
    sizes = {"content_dim": 8, "num_queries": 2, "fusion_layers": 1, "num_heads": 2, "token_dims": {"text": 16}}
    model = RankingModel(num_items=64, use_semantic_ids=False, use_fusion=True, **sizes).eval()
    context.artifacts("ranking_models").publish(model.save_pretrained)

    export_encoder(context)
    embed_items(context)

    item_ids, texts, embeddings = items_and_embeddings(context, encoder_version=1)
    assert embeddings.shape == (64, 8 + 6)
    torch.testing.assert_close(normalize(embeddings[:, 8:]), library(folder, texts), atol=1e-4, rtol=0)
    with torch.no_grad():
        inside = model.items.fusion(store, store.rows(item_ids))
    torch.testing.assert_close(normalize(embeddings[:, :8]), normalize(inside), atol=2e-3, rtol=0)
    encoder = ItemEncoder.from_pretrained(str(context.artifacts("encoders").latest().path))
    last = store.gather_modalities(store.rows(item_ids[:1]))["text"]
    head = encoder.encoders["text"].encode([texts[0]])[0]
    assert int(last.mask.sum()) == 3
    found = (
        last.values[0, 2].float() if isinstance(last.values, torch.Tensor) else torch.tensor(last.values[0, 2]).float()
    )
    torch.testing.assert_close(found, head.values[0][head.mask[0]][-1], atol=5e-3, rtol=5e-3)
