"""The fusion that a ranking model trained embeds items exactly as it did inside that model."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from qarm_features.embedding.encoder_versions import (
    current_encoder,
    item_encoder_config,
    publish_encoder,
    unaligned_encoder,
)
from qarm_features.encoders.item_encoder import ItemEncoder
from qarm_features.jobs.context import JobContext
from qarm_features.jobs.export_encoder import export_encoder
from qarm_features.ranking import ItemContentStore, RankingModel, write_item_content
from qarm_features.settings.load import load_settings
from tests.toy_catalog import write_toy_project

SETTINGS = """\
items: {path: catalog/items.parquet, text: [], precomputed: vector, precomputed_dim: 6}
interactions: {path: catalog/interactions.parquet}
encoder: {frozen_weight: 0.5}
"""
VECTORS = np.random.default_rng(0).normal(size=(5, 6)).astype(np.float16).astype(np.float32)


def trained_model(**switches):
    """Returns a ranking model whose weights differ much from their initial values."""
    torch.manual_seed(0)
    shape = {"content_dim": 8, "num_queries": 3, "fusion_layers": 2, "num_heads": 2}
    model = RankingModel(num_items=4, use_semantic_ids=False, **{"use_fusion": True, **shape, **switches})
    for weight in model.parameters():
        weight.data += 0.3 * torch.randn_like(weight)
    return model.eval()


@pytest.fixture
def context(tmp_path):
    """Returns a project with encoder v0 of the items' own vectors, their content tokens, and ranking model v0."""
    write_toy_project(tmp_path)
    (tmp_path / "qarm.yaml").write_text(SETTINGS)
    context = JobContext(load_settings(tmp_path / "qarm.yaml"))
    encoder = ItemEncoder({"precomputed": {"dim": 6}})
    settings = context.settings
    config = item_encoder_config(settings.items, settings.encoder, aligned=False)
    publish_encoder(context.artifacts("encoders"), encoder, config)
    context.artifacts("item_content").publish(write_tokens, encoder_version=0)
    return context


def write_tokens(folder):
    import json

    write_item_content(folder, range(5), {"precomputed": (VECTORS[:, None], np.ones((5, 1), bool))})
    content = json.loads((folder / "content.json").read_text())
    (folder / "content.json").write_text(json.dumps({**content, "tokens_kept": 16}))


def add_ranking_model(context, model):
    context.artifacts("ranking_models").publish(model.save_pretrained)


def test_the_exported_encoder_embeds_an_item_as_the_ranking_model_did_beside_its_frozen_vector(context):
    model = trained_model(token_dims={"precomputed": 6})
    add_ranking_model(context, model)
    store = ItemContentStore.open(context.artifacts("item_content").latest().path)
    with torch.no_grad():
        inside = model.items.fusion(store, store.rows([0, 1, 2, 3, 4])).numpy()

    counts = export_encoder(context)

    encoder = ItemEncoder.from_pretrained(str(context.artifacts("encoders").latest().path))
    embeddings = encoder.encode({"precomputed": VECTORS.tolist()}).embeddings.numpy()
    frozen = 0.5 * VECTORS / np.linalg.norm(VECTORS, axis=1, keepdims=True)
    wanted = np.concatenate([inside, frozen], axis=1)
    assert np.abs(embeddings - wanted / np.linalg.norm(wanted, axis=1, keepdims=True)).max() < 1e-6
    assert counts.remark == "encoder v1 holds the fusion of ranking model v0. Next: qarm embed-items"


@pytest.mark.parametrize("align", [False, True])
def test_the_project_uses_the_exported_encoder_from_now_on_and_the_unaligned_one_stays_what_it_was(context, align):
    encoders, settings = context.artifacts("encoders"), context.settings
    settings = settings.model_copy(update={"encoder": settings.encoder.model_copy(update={"align": align})})
    if align:  # publish an aligned version as align-encoder does
        config = item_encoder_config(settings.items, settings.encoder, aligned=True)
        publish_encoder(encoders, ItemEncoder(**config), config)
    context.settings = settings
    add_ranking_model(context, trained_model(token_dims={"precomputed": 6}))

    export_encoder(context)

    newest = encoders.latest()
    assert current_encoder(encoders, settings).version == newest.version == 1 + align
    assert unaligned_encoder(encoders, settings.items, settings.encoder).version == 0
    assert newest.manifest["ranking_model_version"] == 0
    assert newest.manifest["base_encoder_version"] == 0


def test_exporting_the_same_model_again_makes_no_version_and_a_new_model_makes_one(context):
    add_ranking_model(context, trained_model(token_dims={"precomputed": 6}))
    export_encoder(context)

    export_encoder(context)
    assert context.artifacts("encoders").versions() == [0, 1]

    add_ranking_model(context, trained_model(token_dims={"precomputed": 6}))
    add_ranking_model(context, trained_model(use_fusion=False))  # the newest, but without a fusion
    assert "ranking model v1" in export_encoder(context).remark
    assert context.artifacts("encoders").versions() == [0, 1, 2]


def test_what_cannot_be_exported_is_refused(context):
    with pytest.raises(
        ValueError, match="No ranking model was trained with use_fusion, so there is no fusion to export. Run: qarm tr"
    ):
        export_encoder(context)
    add_ranking_model(context, trained_model(use_fusion=False))
    add_ranking_model(context, trained_model(token_dims={"text": 384}))
    with pytest.raises(ValueError, match="was trained without a fusion. Train it with use_fusion=True to export it"):
        export_encoder(context, ranking_model_version=0)
    with pytest.raises(
        ValueError,
        match=r"fuses tokens of \{'text': 384\}, but the encoder makes tokens of \{'precomputed': 6\}.*--encoder-version",
    ):
        export_encoder(context)


def test_without_content_tokens_the_export_says_what_to_run(context):
    import shutil

    add_ranking_model(context, trained_model(token_dims={"precomputed": 6}))
    shutil.rmtree(context.artifacts("item_content").folder)

    with pytest.raises(ValueError, match="There are no content tokens, which .* Run: qarm write-content-tokens"):
        export_encoder(context)
