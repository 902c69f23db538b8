"""The version check: a table that was trained on one codebook refuses the codes of another.

In: the codebook version of a batch. Out: nothing, or an error that says what to do.
"""

import torch
from torch import Tensor, nn

UNSET_VERSION = -1


class CodebookVersioned(nn.Module):
    """Marks a module whose weights belong to one codebook; inherit from it instead of ``nn.Module``.

    The version is a buffer ``codebook_version``, so that it is saved, loaded and moved with the weights.

    Args:
        codebook_version: Version of the codebooks that the module's codes come from, from 0; None if unknown.
    """

    codebook_version: Tensor

    def __init__(self, codebook_version: int | None = None) -> None:
        super().__init__()
        version = UNSET_VERSION if codebook_version is None else codebook_version
        self.register_buffer("codebook_version", torch.tensor(version, dtype=torch.int64))

    def check_codebook_version(self, version: int) -> None:
        """Refuses codes of another codebook than the one this table was trained on.

        Args:
            version: Codebook version of a batch, from 0.

        Raises:
            ValueError: If it is not this table's version, or this table has none.
        """
        own = int(self.codebook_version)
        if own == UNSET_VERSION:
            raise ValueError(
                f"This table has no codebook_version, but the codes are of version {version}. "
                f"Build it with {type(self).__name__}(..., codebook_version={version})."
            )
        if version != own:
            raise ValueError(
                f"Codes are of codebook version {version}, this table was trained on version {own}. "
                f"Retrain the model on version {version}, its tables warm-started by remap, "
                f"or read the pinned view item_semantic_id__cb{own}."
            )
