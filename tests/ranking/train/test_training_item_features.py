"""train_ranking_model with item features: a model ranks items that training never saw by their content."""

import json
from dataclasses import replace

import numpy as np
import pytest

from qarm_features.ranking import ItemSources, ItemVocabulary, RankingModel, TrainingOptions, train_ranking_model
from qarm_features.ranking.data.item_feature_files import write_item_features
from qarm_features.ranking.modules.history_features import BehaviorCount
from qarm_features.ranking.modules.ranking_input import RANKING_INPUTS, ModelSizes, ranking_input
from tests.planted_rows import write_planted_features, write_planted_rows

MODEL = {"num_levels": 2, "codebook_size": 8, "codebook_version": 0, "item_dim": 8, "use_semantic_ids": False}
FUSION = {"use_fusion": True, "content_dim": 8, "num_heads": 2, "num_queries": 2}
OPTIONS = TrainingOptions(epochs=4, batch_size=128, learning_rate=1e-2, behavior_length=4, num_threads=1, use_gpu=False)


@pytest.fixture(scope="module")
def splits(tmp_path_factory):
    """Train on items 0..199; valid and test hold items 1000..1199, which no model has seen; no row has a code."""
    folder = tmp_path_factory.mktemp("rows")
    first_item = {"train": 0, "valid": 1000, "test": 1000}
    return {
        f"{split}_files": [write_planted_rows(folder / f"{split}.parquet", seed=seed, first_item=first_item[split])]
        for seed, split in enumerate(first_item)
    }


@pytest.fixture(scope="module")
def features(splits, tmp_path_factory):
    return write_planted_features(tmp_path_factory.mktemp("items"), splits["train_files"])


@pytest.mark.parametrize("switches", [
    {"use_frozen_vector": True, "content_dim": 8},
    {"use_nearest_items": True},
    FUSION,
])  # fmt: skip
def test_items_that_training_never_saw_are_ranked_by_what_is_known_of_them(splits, features, tmp_path, switches):
    metrics = train_ranking_model(
        **splits, output_dir=tmp_path, item_features=features, options=OPTIONS, **MODEL, **switches
    )

    assert metrics["test"]["auc"] > 0.8
    assert metrics["test"]["slices"]["new_items"]["rows"] == 1500
    assert ItemVocabulary.load(tmp_path / "item_vocabulary.parquet").ids.tolist() == list(range(200))


def test_a_model_with_a_fusion_keeps_the_fused_content_of_every_item(splits, features, tmp_path):
    options = replace(OPTIONS, epochs=1)

    train_ranking_model(**splits, output_dir=tmp_path, item_features=features, options=options, **MODEL, **FUSION)

    fused = np.load(tmp_path / "fused.npy")
    assert fused.shape == (401, 8)
    assert json.loads((tmp_path / "config.json").read_text())["token_dims"] == {"text": 3}
    np.testing.assert_allclose(np.linalg.norm(fused, axis=1), [0, *[1] * 400], atol=1e-5)
    assert RankingModel.from_pretrained(tmp_path).config.num_items == 200


def test_a_model_that_needs_item_features_is_not_trained_without(splits, tmp_path):
    with pytest.raises(ValueError, match="item_features is None, must be a folder for use_nearest_items, use_fusion"):
        train_ranking_model(
            **splits, output_dir=tmp_path, **MODEL, use_nearest_items=True, use_fusion=True, token_dims={"text": 3}
        )


def test_item_features_of_other_training_rows_are_refused(splits, tmp_path):
    write_item_features(tmp_path / "features", ItemVocabulary(range(100)), ItemSources())

    with pytest.raises(
        ValueError, match="The item features belong to 100 trained items that are not the 200 of train_files"
    ):
        train_ranking_model(**splits, output_dir=tmp_path, item_features=tmp_path / "features", **MODEL)


def test_an_input_of_ones_own_that_reads_item_features_is_not_trained_without(splits, tmp_path):
    @ranking_input("reads_vectors")
    class ReadsVectors(BehaviorCount):
        needs = frozenset({"vectors"})

        def __init__(self, sizes: ModelSizes) -> None:
            super().__init__()

    with pytest.raises(ValueError, match="item_features is None, must be a folder for the inputs reads_vectors"):
        train_ranking_model(**splits, output_dir=tmp_path, **MODEL, inputs={"reads_vectors": {}})
    del RANKING_INPUTS["reads_vectors"]
