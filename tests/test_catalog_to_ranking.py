"""The whole story on 64 items, to be read as the tutorial: catalog and click log in, served and trained codes out.

The ``project`` fixture has run every job once, in the order of DESIGN: each stage read the tables of those before it.
"""

from __future__ import annotations

import numpy as np

from qarm_features.feature_store import SemanticIDReader
from qarm_features.ranking import Scorer, SemanticIDEmbedding, score_candidates
from qarm_features.semantic_ids.assign import load_codebooks
from qarm_features.storage.artifacts import Artifacts
from qarm_features.storage.tables import (
    INTERACTIONS,
    ITEM_EMBEDDINGS,
    ITEM_SEMANTIC_IDS,
    ITEMS,
    REJECTED_ROWS,
    TRAINING_ROWS,
    USER_BEHAVIOR,
)
from tests.toy_catalog import toy_interactions, toy_items


def test_1_the_catalog_and_the_click_log_are_ingested(project):
    assert project.warehouse.read(ITEMS).count() == len(toy_items()) == 64
    assert project.warehouse.read(INTERACTIONS).count() == len(toy_interactions()) == 800
    assert project.warehouse.read(REJECTED_ROWS).count() == 0


def test_2_every_item_is_embedded_once_with_unit_norm(project):
    rows = project.warehouse.read(ITEM_EMBEDDINGS).collect()

    assert sorted(row["item_id"] for row in rows) == list(range(64))
    norms = np.linalg.norm([row["embedding"] for row in rows], axis=1)
    np.testing.assert_allclose(norms, 1, atol=1e-5)


def test_3_codebooks_are_fitted_and_every_item_has_a_semantic_id(project):
    codebooks = load_codebooks(Artifacts(project.settings.artifacts_path, "codebooks").get(0)).codebooks
    codes = np.array([r["rq_codes"] for r in project.warehouse.read(ITEM_SEMANTIC_IDS).orderBy("item_id").collect()])

    assert codebooks.shape == (2, 4, 384)
    assert codes.shape == (64, 2)
    assert codes.min() >= 0
    assert codes.max() < 4


def test_4_the_first_code_tells_the_four_themes_apart(project):
    codes = np.array([r["rq_codes"] for r in project.warehouse.read(ITEM_SEMANTIC_IDS).orderBy("item_id").collect()])

    of_theme = [set(codes[theme * 16 : theme * 16 + 16, 0].tolist()) for theme in range(4)]

    assert [len(found) for found in of_theme] == [1, 1, 1, 1]
    assert len(set.union(*of_theme)) == 4


def test_5_behavior_is_the_latest_positives(project):
    longest = project.warehouse.read(USER_BEHAVIOR).selectExpr("max(size(behavior_item_ids)) AS longest").first()

    assert longest["longest"] == 8


def test_6_published_codes_are_read_as_tensors(project):
    reader = SemanticIDReader(project.settings.feature_repo_path)

    batch = reader.item_codes([0, 1, 12345])

    assert batch.codes.shape == (3, 2)
    assert batch.found.tolist() == [True, True, False]
    assert batch.codebook_version == 0


def test_7_training_rows_carry_codes_of_one_codebook_version(project):
    rows = project.warehouse.read(TRAINING_ROWS)

    assert rows.count() == 800
    assert [r["codebook_version"] for r in rows.select("codebook_version").distinct().collect()] == [0]


def test_8_two_models_are_trained_and_their_metrics_are_kept(project):
    models = Artifacts(project.settings.artifacts_path, "ranking_models")

    manifests = [models.get(version).verify().manifest for version in models.versions()]

    assert [m["variant"] for m in manifests] == ["item IDs", "item IDs + semantic IDs"]
    assert all(0 <= m["metrics"]["test"]["auc"] <= 1 for m in manifests)
    assert manifests[1]["metrics"]["num_parameters"] > manifests[0]["metrics"]["num_parameters"]


def test_9_a_served_request_is_scored_by_the_trained_model(project):
    artifact = Artifacts(project.settings.artifacts_path, "ranking_models").get(1)
    reader = SemanticIDReader(project.settings.feature_repo_path, "item_semantic_id__cb0")
    candidates = [0, 16, 32, 48, 999]

    scores = score_candidates(Scorer.open(artifact.path), reader, 0, candidates)

    assert scores.shape == (5,)
    assert ((scores > 0) & (scores < 1)).all()


def test_10_any_other_model_embeds_the_codes_by_one_module(project):
    codes = SemanticIDReader(project.settings.feature_repo_path).item_codes([0, 12345]).codes
    table = SemanticIDEmbedding(num_levels=2, codebook_size=4, embedding_dim=3)

    table(codes).sum().backward()

    touched = table.table.weight.grad.abs().sum(1).nonzero().flatten().tolist()
    assert len(touched) == 4  # per level: the row of item 0's code and the row of missing items


def test_11_the_report_is_one_file_with_titles_and_figures(project):
    page = (project.settings.artifacts_path / "report" / "report.html").read_text()

    assert "Ranking with and without semantic IDs" in page
    assert "sea part one" in page
    assert page.count("<svg") == 3
    assert "<script" not in page
    assert len(page) < 300_000
