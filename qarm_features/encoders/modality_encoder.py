"""Define what ``ItemEncoder`` needs from the encoder of one modality.

In: raw values of one modality. Out: ``Tokens`` of shape (B, N, D). An encoder is an ``nn.Module`` with these members; it
inherits nothing from here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeGuard

if TYPE_CHECKING:
    from torch import Tensor

    from qarm_features.encoders.embedding_head import EmbeddingHead
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


class EncoderWithHead(ModalityEncoder, Protocol):
    """Describe an encoder that also makes one vector of each value, as the authors of its backbone do.

    Attributes:
        head: Pooling and layers behind the tokens.
    """

    head: EmbeddingHead

    def encode(self, decoded: Sequence[Any], /) -> tuple[Tokens, Tensor]:
        """Encode B decoded values to ``Tokens`` of shape (B, N, D) and vectors (B, P) of ``head``."""
        ...


def has_head(encoder: ModalityEncoder) -> TypeGuard[EncoderWithHead]:
    """Return True if an encoder makes one vector of each value; otherwise its tokens are averaged."""
    return getattr(encoder, "head", None) is not None


def vector_dim(encoder: ModalityEncoder) -> int:
    """Return the number of values of the one vector that stands for a value of a modality."""
    return encoder.head.dim if has_head(encoder) else encoder.dim
