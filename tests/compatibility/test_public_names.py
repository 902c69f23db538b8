"""What users import and write into their files stays where it was when these names were first published."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest
import yaml

PUBLIC = {
    "qarm_features": ["ItemEncoder"],
    "qarm_features.alignment": ["AlignmentOptions", "align", "contrastive_loss", "pack_training_data"],
    "qarm_features.encoders": [
        "AudioEncoder", "BrokenContent", "ENCODERS", "ImageEncoder", "ImageTextEncoder", "PrecomputedEncoder", "READS",
        "TextEncoder", "Tokens",
    ],
    "qarm_features.feature_store": [
        "AsyncSemanticIDReader", "SemanticIDReader", "VectorReader", "definitions", "publish_release",
    ],
    "qarm_features.feature_store.bulk_engine": ["BulkEngine", "BulkEngineConfig"],
    "qarm_features.item_pairs": [
        "flag_kept_pairs", "load_filter", "mine_item_pairs", "positives", "text_overlap", "text_similarity",
    ],
    "qarm_features.quantizers": [
        "FiniteScalar", "FiniteScalarModel", "NearestItems", "NearestItemsModel", "ResidualKMeans",
        "ResidualKMeansFiniteScalar", "ResidualKMeansFiniteScalarModel", "ResidualKMeansModel",
    ],
    "qarm_features.ranking": [
        "Behavior", "BehaviorMatch", "BehaviorMatches", "Calibration", "Candidates", "ContentInterest", "ContentMatch",
        "ContentTokens", "Fitted", "Impressions", "ItemContentStore", "ItemFeatures", "ItemSources", "ItemVocabulary",
        "NearestItemsEmbedding", "Predictions", "PrefixEmbedding", "RankingBatch", "RankingConfig", "RankingModel",
        "RowsInMemory", "Scorer", "SemanticIDEmbedding", "TargetAttention", "TokensInMemory", "TrainingOptions",
        "TrainingRows", "area_under_roc", "centroid_table", "content_id_contrastive_loss", "evaluate",
        "expected_calibration_error", "fit", "fit_calibration", "item_vocabulary", "log_loss", "measure",
        "open_item_features", "popularity_weights", "predict", "remap", "score_candidates", "start_from_centroids",
        "train_ranking_model", "train_ranking_models", "user_auc", "write_item_content", "write_item_features",
    ],
    "qarm_features.settings": ["Settings", "load_settings"],
}  # fmt: skip


@pytest.mark.parametrize("module", PUBLIC)
def test_every_public_name_is_where_it_was(module):
    package = import_module(module)

    assert [name for name in PUBLIC[module] if not hasattr(package, name)] == []


@pytest.mark.parametrize("module", sorted(set(PUBLIC) - {"qarm_features.feature_store.bulk_engine"}))
def test_a_public_name_is_listed_so_that_editors_and_star_imports_see_it(module):
    listed = set(import_module(module).__all__)

    assert set(PUBLIC[module]) <= listed


def test_a_lazy_package_refuses_a_name_that_it_does_not_have():
    for module in ("qarm_features", "qarm_features.ranking", "qarm_features.quantizers", "qarm_features.feature_store"):
        with pytest.raises(AttributeError, match=f"module '{module}' has no attribute 'Nothing'"):
            _ = import_module(module).Nothing


def test_the_engine_that_stands_in_feature_store_yaml_is_the_one_that_users_have_in_theirs():
    folder = Path(__file__).resolve().parents[2] / "feature_repo"
    engines = [yaml.safe_load(file.read_text())["batch_engine"]["type"] for file in sorted(folder.glob("*.yaml"))]

    assert set(engines) == {"qarm_features.feature_store.bulk_engine.BulkEngine"}
