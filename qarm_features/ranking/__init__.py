"""What a ranking model imports to train on semantic IDs: torch alone, without Spark, Feast or Delta.

In: ``training_rows`` as Parquet files. Out: a folder with the ranking model, its item vocabulary and its metrics. Each name
is loaded when it is first used, so that a server which only needs ``serve.request`` loads torch and nothing heavier.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qarm_features.ranking.data.batches import TrainingRows
    from qarm_features.ranking.data.item_content_store import ContentTokens, ItemContentStore, write_item_content
    from qarm_features.ranking.data.item_feature_files import ItemSources, open_item_features, write_item_features
    from qarm_features.ranking.data.item_features import ItemFeatures, TokensInMemory
    from qarm_features.ranking.data.item_vocabulary import ItemVocabulary, item_vocabulary
    from qarm_features.ranking.data.ranking_batch import RankingBatch
    from qarm_features.ranking.data.rows_in_memory import RowsInMemory
    from qarm_features.ranking.model.ranking_config import RankingConfig
    from qarm_features.ranking.model.ranking_model import RankingModel
    from qarm_features.ranking.modules.behavior_match import BehaviorMatch, BehaviorMatches
    from qarm_features.ranking.modules.code_tables import centroid_table, remap, start_from_centroids
    from qarm_features.ranking.modules.content_id_contrastive import content_id_contrastive_loss, popularity_weights
    from qarm_features.ranking.modules.content_interest import ContentInterest
    from qarm_features.ranking.modules.content_match import ContentMatch
    from qarm_features.ranking.modules.nearest_items_embedding import NearestItemsEmbedding
    from qarm_features.ranking.modules.prefix_embedding import PrefixEmbedding
    from qarm_features.ranking.modules.ranking_input import (
        ItemFeature,
        Items,
        ModelSizes,
        Reading,
        Rows,
        UniqueItems,
        ranking_input,
    )
    from qarm_features.ranking.modules.semantic_id_embedding import SemanticIDEmbedding
    from qarm_features.ranking.modules.target_attention import TargetAttention
    from qarm_features.ranking.serve.request import Behavior, Candidates, Impressions
    from qarm_features.ranking.serve.scorer import Scorer, score_candidates
    from qarm_features.ranking.train.calibration import Calibration, expected_calibration_error, fit_calibration
    from qarm_features.ranking.train.evaluation import Predictions, evaluate, measure, predict
    from qarm_features.ranking.train.fitting import Fitted, fit
    from qarm_features.ranking.train.metrics import area_under_roc, log_loss, user_auc
    from qarm_features.ranking.train.training import train_ranking_model, train_ranking_models
    from qarm_features.ranking.train.training_options import TrainingOptions

_MODULES = {
    "Behavior": "serve.request",
    "BehaviorMatch": "modules.behavior_match",
    "BehaviorMatches": "modules.behavior_match",
    "Calibration": "train.calibration",
    "Candidates": "serve.request",
    "ContentInterest": "modules.content_interest",
    "ContentMatch": "modules.content_match",
    "ContentTokens": "data.item_content_store",
    "Fitted": "train.fitting",
    "Impressions": "serve.request",
    "ItemContentStore": "data.item_content_store",
    "ItemFeature": "modules.ranking_input",
    "ItemFeatures": "data.item_features",
    "ItemSources": "data.item_feature_files",
    "ItemVocabulary": "data.item_vocabulary",
    "Items": "modules.ranking_input",
    "ModelSizes": "modules.ranking_input",
    "NearestItemsEmbedding": "modules.nearest_items_embedding",
    "Predictions": "train.evaluation",
    "PrefixEmbedding": "modules.prefix_embedding",
    "RankingBatch": "data.ranking_batch",
    "RankingConfig": "model.ranking_config",
    "RankingModel": "model.ranking_model",
    "Reading": "modules.ranking_input",
    "Rows": "modules.ranking_input",
    "RowsInMemory": "data.rows_in_memory",
    "Scorer": "serve.scorer",
    "SemanticIDEmbedding": "modules.semantic_id_embedding",
    "TargetAttention": "modules.target_attention",
    "TokensInMemory": "data.item_features",
    "TrainingOptions": "train.training_options",
    "TrainingRows": "data.batches",
    "UniqueItems": "modules.ranking_input",
    "area_under_roc": "train.metrics",
    "centroid_table": "modules.code_tables",
    "content_id_contrastive_loss": "modules.content_id_contrastive",
    "evaluate": "train.evaluation",
    "expected_calibration_error": "train.calibration",
    "fit": "train.fitting",
    "fit_calibration": "train.calibration",
    "item_vocabulary": "data.item_vocabulary",
    "log_loss": "train.metrics",
    "measure": "train.evaluation",
    "open_item_features": "data.item_feature_files",
    "popularity_weights": "modules.content_id_contrastive",
    "predict": "train.evaluation",
    "ranking_input": "modules.ranking_input",
    "remap": "modules.code_tables",
    "score_candidates": "serve.scorer",
    "start_from_centroids": "modules.code_tables",
    "train_ranking_model": "train.training",
    "train_ranking_models": "train.training",
    "user_auc": "train.metrics",
    "write_item_content": "data.item_content_store",
    "write_item_features": "data.item_feature_files",
}
_EXTRA = ("torch", "transformers", "peft", "PIL", "safetensors")  # what only pip install 'qarm-features[torch]' brings


def __getattr__(name: str) -> Any:
    """Loads a public name on first use.

    Raises:
        AttributeError: If the package has no such name.
        ImportError: If torch is not installed.
    """
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] not in _EXTRA:
            raise
        raise ImportError(
            f"{__name__}.{name} needs {error.name}, which is not installed. "
            "Install it with: pip install 'qarm-features[torch]'"
        ) from error
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Lists the public names."""
    return sorted({*globals(), *_MODULES})


__all__ = [
    "Behavior",
    "BehaviorMatch",
    "BehaviorMatches",
    "Calibration",
    "Candidates",
    "ContentInterest",
    "ContentMatch",
    "ContentTokens",
    "Fitted",
    "Impressions",
    "ItemContentStore",
    "ItemFeature",
    "ItemFeatures",
    "ItemSources",
    "ItemVocabulary",
    "Items",
    "ModelSizes",
    "NearestItemsEmbedding",
    "Predictions",
    "PrefixEmbedding",
    "RankingBatch",
    "RankingConfig",
    "RankingModel",
    "Reading",
    "Rows",
    "RowsInMemory",
    "Scorer",
    "SemanticIDEmbedding",
    "TargetAttention",
    "TokensInMemory",
    "TrainingOptions",
    "TrainingRows",
    "UniqueItems",
    "area_under_roc",
    "centroid_table",
    "content_id_contrastive_loss",
    "evaluate",
    "expected_calibration_error",
    "fit",
    "fit_calibration",
    "item_vocabulary",
    "log_loss",
    "measure",
    "open_item_features",
    "popularity_weights",
    "predict",
    "ranking_input",
    "remap",
    "score_candidates",
    "start_from_centroids",
    "train_ranking_model",
    "train_ranking_models",
    "user_auc",
    "write_item_content",
    "write_item_features",
]
