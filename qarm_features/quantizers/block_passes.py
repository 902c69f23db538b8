"""The old place of `embedding_batches`; import from there."""

from qarm_features.quantizers.embedding_batches import row_norms, to_matrix

__all__ = ["row_norms", "to_matrix"]
