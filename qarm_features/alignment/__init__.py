"""Align an item encoder: train it on item pairs, so that items which the same users like get similar embeddings.

In: a folder of items and item pairs that Spark wrote, and an ``ItemEncoder``. Out: the aligned encoder and its metrics. QARM,
arXiv 2411.11739, section 1. Importing this package loads torch but never Spark: only the modules ``align_encoder`` and
``export_pairs``, which run on the Spark driver, need Spark.
"""

from qarm_features.extras import naming_extra

with naming_extra("Item alignment and item encoders", "torch"):
    from qarm_features.alignment.loss import contrastive_loss
    from qarm_features.alignment.options import AlignmentOptions
    from qarm_features.alignment.packing import pack_training_data
    from qarm_features.alignment.training import align

__all__ = ["AlignmentOptions", "align", "contrastive_loss", "pack_training_data"]
