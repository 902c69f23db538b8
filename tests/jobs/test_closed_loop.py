"""The closed loop on 64 items, from content tokens over a trained fusion to the next encoder and the next release."""

from __future__ import annotations

import pytest

from qarm_features.feature_store import SemanticIDReader
from qarm_features.jobs.export_encoder import export_encoder
from qarm_features.jobs.find_nearest_items import find_nearest_items
from qarm_features.jobs.write_content_tokens import write_content_tokens
from qarm_features.ranking import Scorer, score_candidates
from qarm_features.report.figures import ranking_results
from qarm_features.storage.tables import ITEM_EMBEDDINGS
from tests.toy_catalog import SETTINGS, all_jobs, open_project, write_toy_project

VARIANTS = """\
  variants:
    item IDs:
    EM3:
      use_fusion: true
      use_nearest_items: true
      use_content_interest: true
      content_id_weight: 0.1
      new_items_from_content: true
nearest_items: {k: 5}
encoder: {frozen_weight: 0.5}
"""


def run(context, jobs):
    return {job.name: job(context).remark for job in jobs}


def rank(context, *, model, codebook_version):
    """Scores three candidates of user 0 with a model that reads the release of a codebook version."""
    scorer = Scorer.open(context.artifacts("ranking_models").get(model).verify().path)
    service = f"item_semantic_id__cb{codebook_version}"
    reader = SemanticIDReader(context.settings.feature_repo_path, service)
    return score_candidates(scorer, reader, 0, [0, 16, 32])


@pytest.mark.slow
def test_the_fusion_that_the_ranking_loss_trained_makes_the_next_release_and_the_next_model(tmp_path, spark):
    folder = write_toy_project(tmp_path)
    (folder / "qarm.yaml").write_text(
        SETTINGS.replace("ranking: {epochs: 2, batch_size: 64}", "ranking:\n  epochs: 2\n  batch_size: 64") + VARIANTS
    )
    context = open_project(folder, spark)
    jobs = {job.name: job for job in all_jobs()}
    train, report = jobs.pop("train_ranking_model"), jobs.pop("write_report")
    run(context, jobs.values())
    with pytest.raises(
        ValueError, match='variant "EM3" of ranking.variants reads VQ codes .* Run: qarm find-nearest-items'
    ):
        train(context)
    run(context, [find_nearest_items])
    with pytest.raises(
        ValueError, match='variant "EM3" of ranking.variants reads content tokens.* Run: qarm write-content-tokens'
    ):
        train(context)
    first = run(context, [write_content_tokens, train, export_encoder])
    before = rank(context, model=1, codebook_version=0)

    second = run(context, [*jobs.values(), find_nearest_items, train, report])

    models = context.artifacts("ranking_models")
    assert "encoder v1 holds the fusion of ranking model v1" in first["export_encoder"]
    assert context.artifacts("encoders").get(1).manifest["ranking_model_version"] == 1
    assert second["embed_items"].startswith("64 items embedded by encoder v1")
    assert "of 64 items keep their semantic ID of v0" in second["fit_codebooks"]
    dims = context.warehouse.read(ITEM_EMBEDDINGS).selectExpr("encoder_version", "size(embedding)").distinct().collect()
    assert sorted(map(tuple, dims)) == [(0, 384), (1, 32 + 384)]
    assert models.versions() == [0, 1, 2, 3]
    assert [models.get(version).manifest["codebook_version"] for version in models.versions()] == [0, 0, 1, 1]
    assert len(ranking_results(context.settings.artifacts_path, 1)) == 2
    # The model of the first turn still gives the same scores on the release that it was trained on.
    assert rank(context, model=1, codebook_version=0).tolist() == before.tolist()
    assert rank(context, model=3, codebook_version=1).shape == (3,)
    with pytest.raises(ValueError, match="version 1, this table was trained on version 0"):
        rank(context, model=1, codebook_version=1)
