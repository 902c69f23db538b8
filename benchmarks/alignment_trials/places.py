"""Items are pulled to their own embeddings of the start of an epoch, where residual codes pull them to what those decode to.

In: embeddings of all items. Out: those of some items. It shows whether codes matter, or that an item stays near its place.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class Places(NamedTuple):
    """Embeddings (m, D) of all items."""

    embeddings: Tensor

    def decode(self, index: np.ndarray) -> Tensor:
        """Return the embeddings (B, D) of B items."""
        return self.embeddings[torch.from_numpy(index)]
