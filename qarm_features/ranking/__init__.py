"""What a ranking model imports to train on semantic IDs: torch only, never Spark, Feast or Delta.

In: ``training_rows`` as Parquet files. Out: a folder with the ranking model, its item vocabulary and its metrics.
"""

from qarm_features.ranking.batches import RankingBatch, TrainingRows
from qarm_features.ranking.behavior_match import BehaviorMatch, BehaviorMatches
from qarm_features.ranking.code_tables import centroid_table, remap, start_from_centroids
from qarm_features.ranking.content_id_contrastive import content_id_contrastive_loss, popularity_weights
from qarm_features.ranking.content_interest import ContentInterest
from qarm_features.ranking.item_vocabulary import ItemVocabulary, item_vocabulary
from qarm_features.ranking.metrics import area_under_roc, log_loss, user_auc
from qarm_features.ranking.nearest_items_embedding import NearestItemsEmbedding
from qarm_features.ranking.prefix_embedding import PrefixEmbedding
from qarm_features.ranking.ranking_model import RankingModel
from qarm_features.ranking.semantic_id_embedding import SemanticIDEmbedding
from qarm_features.ranking.target_attention import TargetAttention
from qarm_features.ranking.training import train_ranking_model, train_ranking_models
from qarm_features.ranking.training_options import TrainingOptions

__all__ = [
    "BehaviorMatch",
    "BehaviorMatches",
    "ContentInterest",
    "ItemVocabulary",
    "NearestItemsEmbedding",
    "PrefixEmbedding",
    "RankingBatch",
    "RankingModel",
    "SemanticIDEmbedding",
    "TargetAttention",
    "TrainingOptions",
    "TrainingRows",
    "area_under_roc",
    "centroid_table",
    "content_id_contrastive_loss",
    "item_vocabulary",
    "log_loss",
    "popularity_weights",
    "remap",
    "start_from_centroids",
    "train_ranking_model",
    "train_ranking_models",
    "user_auc",
]
