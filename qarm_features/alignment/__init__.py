"""Item alignment: the encoder learns from item pairs which items users find similar. Torch only, never Spark.

In: a folder of items and item pairs that Spark wrote, and an ``ItemEncoder``. Out: the aligned encoder and its
metrics. QARM, arXiv 2411.11739, section 1.
"""

from qarm_features.alignment.loss import contrastive_loss
from qarm_features.alignment.options import AlignmentOptions
from qarm_features.alignment.packing import pack_training_data
from qarm_features.alignment.training import align

__all__ = ["AlignmentOptions", "align", "contrastive_loss", "pack_training_data"]
