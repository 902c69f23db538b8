"""The configuration of a ranking model: named switches and sizes, which are saved as JSON beside the weights.

In: numbers, and True or False. Out: a ``RankingConfig`` that has been checked.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

_NEEDS_CODES = ("use_semantic_ids", "use_prefixes", "use_match")
_ITEM_FEATURES = (
    "use_item_ids",
    "use_semantic_ids",
    "use_prefixes",
    "use_nearest_items",
    "use_frozen_vector",
    "use_fusion",
)
_SIZES = (
    "item_dim",
    "code_dim",
    "prefix_dim",
    "prefix_rows",
    "content_dim",
    "num_queries",
    "fusion_layers",
    "num_heads",
    "attention_dim",
)
_CHOICES = {
    "content_id_stop_gradient": ("content", "item_id", None),
    "item_rates": ("training_rows", "before_row"),
    "interest_base": ("random", "identity"),
}


@dataclass(frozen=True, kw_only=True)
class RankingConfig:
    """Holds the arguments of ``RankingModel``.

    Args:
        num_items: Size of the item vocabulary, at least 0; item indexes in [1, num_items] have an ID embedding.
        num_levels: L of the codebooks; 0 for a model without codes.
        codebook_size: K of the codebooks; 0 for a model without codes.
        codebook_version: Version of the codebooks, from 0; None if unknown.
        use_item_ids: Item feature: an embedding of the item ID.
        use_semantic_ids: Item feature: one embedding per level and code, side by side.
        use_prefixes: Item feature: the sum of one embedding per code prefix.
        use_nearest_items: Item feature: the VQ code, a weighted mean of the embeddings of the nearest items.
        use_frozen_vector: Item feature: a linear map of the frozen content vector.
        use_fusion: Item feature: a Fusion-Q-Former over the frozen content tokens, which the ranking loss trains.
        use_match: Reading: match features of the target's codes with those of the behaviors, and with use_history with
            those of the impressions too.
        use_ages: Ages of behaviors and impressions as a part of match features and labeled history. The batch must hold
            the ages.
        use_history: Reading: attention to the latest impressions with their labels. The batch must hold them.
        use_counters: Reading: strictly past counts and rates of user and item, also as a linear part of the logit.
        use_content_match: Reading: nearness of the target to the behaviors in content space, and with use_history to the
            impressions by label (``ContentMatch``).
        use_item_rates: Reading: positive rate and count of the target item among the training rows, without the row itself.
        item_rates: What use_item_rates counts. "training_rows" counts all training rows but the row itself; within an item
            such a rate falls when the row's label rises. "before_row" counts rows strictly before the row, in training and in
            serving, by the counters of the batch.
        use_history_vectors: Attended and mean behaviors as vectors. False leaves only numbers of the history, so that the
            model cannot memorize a small number of users.
        use_linear: A linear part of the logit for all inputs of the MLP and for the frozen vector.
        use_content_interest: Reading: target attention over the behaviors in content space, by LoRA projections.
        content_id_weight: Weight of the Content-ID-Contrastive loss beside the log loss, at least 0; 0 leaves it out.
        new_items_from_content: Content, mapped into the space of item IDs, in place of the embedding of an unknown item ID.
            The map is trained by the Content-ID-Contrastive loss without content_id_dim, or by id_dropout. Without either,
            new items are scored worse than without the switch.
        id_dropout: Share of item IDs that count as unknown in training, in [0, 1), so that the model learns to score new
            items.
        share_nearest_items: One table for VQ codes and item IDs instead of two.
        vector_dim: D of the frozen vectors; needed by use_frozen_vector.
        token_dims: D of the content tokens by modality; needed by use_fusion.
        item_dim: Width of the embedding of an item ID and of a VQ code, at least 1.
        code_dim: Width of the embedding of one code, at least 1.
        prefix_dim: Width of the embedding of the prefixes, at least 1.
        prefix_rows: Largest number of table rows of one prefix depth, at least 1. The default is smaller than that of
            ``PrefixEmbedding``, so that a table that is one part of many stays small.
        content_dim: Width of fused content, of a mapped frozen vector and of the content interest, at least 1.
        num_queries: Q of the Fusion-Q-Former, at least 1.
        fusion_layers: Number of layers of the Fusion-Q-Former, at least 1.
        num_heads: H of the Fusion-Q-Former and of the content interest, at least 1.
        flatten_queries: The query tokens of the Fusion-Q-Former side by side before its last map, instead of their mean.
        interest_rank: Rank of the content interest's LoRA, at least 1; None trains full projections.
        interest_base: Frozen base weights of this LoRA, see ``LoRAProjection``: "random" or "identity".
        content_id_temperature: Temperature of the Content-ID-Contrastive loss, above 0.
        content_id_dim: Width of the space into which this loss projects content and item IDs, at least 1; None compares the
            embeddings of item IDs themselves with content that is mapped to their width.
        content_id_stop_gradient: Side of this loss whose embeddings it does not train: content, item_id, or None.
        content_id_negatives: Number of in-batch negatives of this loss; None takes the whole batch.
        cold_below: Number of training positives below which an item is cold in this loss, at least 0.
        popular_weight: Weight of the terms of all other items in this loss, at least 0.
        cold_weight: Weight of the terms of cold items in this loss, at least 0.
        attention_dim: Hidden width of the target attention, at least 1.
        hidden_dims: Widths of the hidden layers of the MLP.
        dropout: Share of MLP inputs and hidden units dropped in training, in [0, 1).
        inputs: Ranking inputs of your own: options by the name under which ``@ranking_input`` registered each.

    Example:
        >>> config = RankingConfig(num_items=100, num_levels=3, codebook_size=256, use_match=True)
        >>> config.use_semantic_ids, config.hidden_dims
        (True, [128, 64])

    Raises:
        ValueError: If a number is out of its range or a switch lacks what it needs.
    """

    num_items: int
    num_levels: int = 0
    codebook_size: int = 0
    codebook_version: int | None = None
    use_item_ids: bool = True
    use_semantic_ids: bool = True
    use_prefixes: bool = False
    use_nearest_items: bool = False
    use_frozen_vector: bool = False
    use_fusion: bool = False
    use_match: bool = False
    use_ages: bool = False
    use_history: bool = False
    use_counters: bool = False
    use_content_match: bool = False
    use_item_rates: bool = False
    item_rates: Literal["training_rows", "before_row"] = "training_rows"
    use_history_vectors: bool = True
    use_linear: bool = False
    use_content_interest: bool = False
    content_id_weight: float = 0.0
    new_items_from_content: bool = False
    id_dropout: float = 0.0
    share_nearest_items: bool = False
    vector_dim: int | None = None
    token_dims: Mapping[str, int] | None = None
    item_dim: int = 16
    code_dim: int = 8
    prefix_dim: int = 16
    prefix_rows: int = 2**16
    content_dim: int = 32
    num_queries: int = 4
    fusion_layers: int = 1
    num_heads: int = 4
    flatten_queries: bool = False
    interest_rank: int | None = 8
    interest_base: Literal["random", "identity"] = "random"
    content_id_temperature: float = 0.1
    content_id_dim: int | None = None
    content_id_stop_gradient: Literal["content", "item_id"] | None = None
    content_id_negatives: int | None = None
    cold_below: int = 5
    popular_weight: float = 1.0
    cold_weight: float = 1.0
    attention_dim: int = 32
    hidden_dims: Sequence[int] = (128, 64)
    dropout: float = 0.0
    inputs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "hidden_dims", list(self.hidden_dims))  # as JSON gives it back
        object.__setattr__(self, "inputs", {name: dict(options or {}) for name, options in self.inputs.items()})
        object.__setattr__(self, "token_dims", None if self.token_dims is None else dict(self.token_dims))
        if self.num_items < 0:
            raise ValueError(f"num_items is {self.num_items}, must be at least 0.")
        if not any(getattr(self, name) for name in _ITEM_FEATURES):
            raise ValueError(f"{', '.join(_ITEM_FEATURES)} are False, at least one must be True.")
        for name in _SIZES:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, must be at least 1.")
        if not self.content_id_weight >= 0:
            raise ValueError(f"content_id_weight is {self.content_id_weight}, must be at least 0.")
        if self.content_id_dim is not None and self.content_id_dim < 1:
            raise ValueError(f"content_id_dim is {self.content_id_dim}, must be at least 1. None projects nothing.")
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                *others, last = (f'"{choice}"' if choice else "None" for choice in choices)
                raise ValueError(f'{name} is "{getattr(self, name)}", must be {", ".join(others)} or {last}.')
        for name in ("id_dropout", "dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, must be in [0, 1).")
        self._check_needs()

    @property
    def has_content_id_map(self) -> bool:
        """True for a model that maps content into the space of item IDs."""
        return (self.content_id_weight > 0 and self.content_id_dim is None) or self.new_items_from_content

    @property
    def trains_content_id_map(self) -> bool:
        """True for a model whose losses train the map of content into the space of item IDs for target items."""
        return (self.content_id_weight > 0 and self.content_id_dim is None) or self.id_dropout > 0

    def _check_needs(self) -> None:
        """Refuses a switch without what it needs."""
        for name in _NEEDS_CODES:
            if getattr(self, name) and min(self.num_levels, self.codebook_size) < 1:
                raise ValueError(
                    f"num_levels is {self.num_levels} and codebook_size {self.codebook_size}, must be at least 1 with "
                    f"{name}. Give those of the codebooks, or set {name}=False."
                )
        for name in ("use_content_interest", "use_content_match", "content_id_weight", "new_items_from_content"):
            if getattr(self, name) and not (self.use_fusion or self.use_frozen_vector):
                raise ValueError(
                    f"{name} is {getattr(self, name)}, must have content. Set use_fusion or use_frozen_vector."
                )
        for name in ("content_id_weight", "new_items_from_content", "id_dropout", "share_nearest_items"):
            if getattr(self, name) and not self.use_item_ids:
                raise ValueError(f"{name} is {getattr(self, name)}, must have item IDs. Set use_item_ids=True.")
        if self.use_frozen_vector and not self.vector_dim:
            raise ValueError(f"vector_dim is {self.vector_dim}, must be the width of the frozen vectors.")
        if self.use_fusion and not self.token_dims:
            raise ValueError(f"token_dims is {self.token_dims}, must be the width of the content tokens by modality.")
