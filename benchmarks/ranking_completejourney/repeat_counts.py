"""The ranking input of every model of the table: what the household bought before.

``RankingBatch`` has no place for numbers of one's own, and these models read no other counters. Therefore the field
``counters`` holds ``PastCounts`` in its first two columns.
"""

from __future__ import annotations

import torch
from torch import Tensor

from qarm_features.ranking.modules.ranking_input import ModelSizes, Reading, Rows, ranking_input

REPEAT_COUNTS = "repeat_counts"


@ranking_input(REPEAT_COUNTS)
class RepeatCounts(Reading):
    """The numbers of earlier weeks with the product and with its type, as log1p and as yes or no."""

    output_dim = 4
    needs = frozenset({"counters"})

    def __init__(self, sizes: ModelSizes) -> None:
        super().__init__()

    def read(self, rows: Rows) -> Tensor:
        """Return (B, 4) float32."""
        counts = rows.field("counters")[:, :2]
        return torch.cat([counts.log1p(), (counts > 0).float()], dim=1)
