"""Semantic IDs as first-class, trainable features in a feature store.

The flow (each arrow is one Spark job; stages meet only in Delta tables and versioned artifacts)::

    your catalog --ingest_catalog--> items, interactions, rejected_rows
    interactions --mine_item_pairs--> item_pairs
    items, item_pairs --align_encoder--> encoder v<n>    (an ItemEncoder, trained on item pairs from the click log)
    items --embed_items--> item_embeddings
    item_embeddings --fit_codebooks--> codebooks v<n>    (ResidualKMeans over all rows)
    item_embeddings --assign_semantic_ids--> item_semantic_ids
    interactions --build_user_behavior--> user_behavior, user_impressions, item_counters
    item_semantic_ids, those three --publish_features--> Feast views, online store, then the flip
    interactions, views --build_training_set--> training_rows
    training_rows --train_ranking_model--> ranking models v<n>

The shape legend, used in every docstring:

    B  batch              M  modalities               L  levels of residual quantization
    T  behaviors          N  tokens of a modality     K  centroids in a codebook
    H  heads              Q  query tokens             D  embedding dimension

This module imports nothing heavy, so that a torch user never loads Spark and a Spark user never loads torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qarm_features.encoders.item_encoder import ItemEncoder

__all__ = ["ItemEncoder", "__version__"]
__version__ = "0.1.0"
__all__ = ["ItemEncoder"]


def __getattr__(name: str) -> type[ItemEncoder]:
    """Imports ``ItemEncoder`` on first use, because it needs torch and transformers.

    Raises:
        ImportError: The extra ``torch`` is not installed.
    """
    if name != "ItemEncoder":
        raise AttributeError(f"module 'qarm_features' has no attribute {name!r}")
    from qarm_features.encoders.item_encoder import ItemEncoder

    return ItemEncoder
