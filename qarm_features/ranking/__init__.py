"""What a ranking model imports to train on semantic IDs: torch only, never Spark, Feast or Delta.

In: ``training_rows`` as Parquet files. Out: a folder with the ranking model, its item vocabulary and its metrics.
"""

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
    "ItemFeatures",
    "ItemSources",
    "ItemVocabulary",
    "NearestItemsEmbedding",
    "Predictions",
    "PrefixEmbedding",
    "RankingBatch",
    "RankingConfig",
    "RankingModel",
    "RowsInMemory",
    "Scorer",
    "SemanticIDEmbedding",
    "TargetAttention",
    "TokensInMemory",
    "TrainingOptions",
    "TrainingRows",
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
    "remap",
    "score_candidates",
    "start_from_centroids",
    "train_ranking_model",
    "train_ranking_models",
    "user_auc",
    "write_item_content",
    "write_item_features",
]
