"""Define what ``ItemEncoder`` needs from the encoder of one modality.

In: raw values of one modality. Out: ``Tokens`` of shape (B, N, D). An encoder is an ``nn.Module`` with these members; it
inherits nothing from here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from qarm_features.fusion.tokens import Tokens


class ModalityEncoder(Protocol):
    """Describe the members of an encoder that ``ItemEncoder`` and alignment use.

    Attributes:
        config: Constructor arguments that build the same encoder again, as JSON. It holds ``sha256``, the hash of the
            pretrained weights, or None under that name where all weights are trained here.
        trained: True if alignment changes weights of the encoder, False if it is frozen.
    """

    config: dict[str, Any]
    trained: bool

    @property
    def dim(self) -> int:
        """Return D, the dimension of the tokens."""
        ...

    def frozen_names(self) -> set[str]:
        """Return the names in ``state_dict()`` that are not saved, because the backbone's name and hash restore them."""
        ...

    def decode(self, raw: Any, /) -> Any:
        """Decode the raw value of one item, or raise ``BrokenContent`` with the reason why it cannot be read."""
        ...

    def __call__(self, decoded: Sequence[Any], /) -> Tokens:
        """Encode B decoded values to ``Tokens`` of shape (B, N, D)."""
        ...
