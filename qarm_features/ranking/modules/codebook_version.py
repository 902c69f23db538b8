"""The version fence: a table trained on one codebook refuses the codes of another.

In: the codebook version of a batch. Out: nothing, or an error that says the way out.
"""

import torch
from torch import Tensor, nn

UNSET_VERSION = -1


class CodebookVersioned(nn.Module):
    """A module whose weights mean something for one codebook only; inherit from it instead of ``nn.Module``.

    The version is a buffer ``codebook_version``, so that it is saved, loaded and moved with the weights.

    Args:
        codebook_version: the codebook the module's codes come from, from 0; None if unknown.
    """

    codebook_version: Tensor

    def __init__(self, codebook_version: int | None = None) -> None:
        super().__init__()
        version = UNSET_VERSION if codebook_version is None else codebook_version
        self.register_buffer("codebook_version", torch.tensor(version, dtype=torch.int64))

    def check_codebook_version(self, version: int) -> None:
        """Refuses codes of another codebook than the one this table was trained on.

        Args:
            version: the codebook version of a batch, from 0.

        Raises:
            ValueError: if it is not this table's version, or this table has none.
        """
        own = int(self.codebook_version)
        if own == UNSET_VERSION:
            raise ValueError(
                f"codebook_version of this table is not set, must be {version} to read these codes. "
                f"Build it with {type(self).__name__}(..., codebook_version={version})."
            )
        if version != own:
            raise ValueError(
                f"Codes are of codebook version {version}, this table was trained on version {own}. "
                f"Retrain the model on version {version}, its tables warm-started by remap, "
                f"or read the pinned view item_semantic_id__cb{own}."
            )
