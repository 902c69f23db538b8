"""What a ranking model is made of: named switches and sizes, JSON-like, saved beside the weights."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_NEEDS_CODES = ("use_semantic_ids", "use_prefixes", "use_match")
_OF_AN_ITEM = (
    "use_item_ids",
    "use_semantic_ids",
    "use_prefixes",
    "use_nearest_items",
    "use_frozen_vector",
    "use_fusion",
)
_SIZES = (
    "item_dim, code_dim, prefix_dim, prefix_rows, content_dim, num_queries, fusion_layers, num_heads, attention_dim"
)


@dataclass(frozen=True, kw_only=True)
class RankingConfig:
    """The arguments of ``RankingModel``.

    Args:
        num_items: size of the item vocabulary, at least 0; item indexes in [1, num_items] have an ID embedding.
        num_levels: L of the codebooks; 0 for a model without codes.
        codebook_size: K of the codebooks; 0 for a model without codes.
        codebook_version: the codebook the codes come from, from 0; None if unknown.
        use_item_ids: an item is represented by its item-ID embedding, side by side with what follows.
        use_semantic_ids: ... by one embedding per level and code.
        use_prefixes: ... by the sum of one embedding per code prefix.
        use_nearest_items: ... by its VQ code, the weighted mean of the embeddings of its nearest items.
        use_frozen_vector: ... by a linear map of its frozen content vector.
        use_fusion: ... by what a Fusion-Q-Former, trained by the ranking loss, makes of its frozen content tokens.
        use_match: BehaviorMatch of the target's codes with the behaviors', with use_history with impressions' too.
        use_ages: match features and labeled history also see how long ago; the batch must hold the ages.
        use_history: the latest impressions with their labels are attended to; the batch must hold them.
        use_counters: strictly past counts and rates of user and item, as inputs and as a linear part of the logit.
        use_content_match: how near the target is to the behaviors in content space, in a few numbers (ContentMatch); with
            use_history to the impressions too, by label.
        use_item_rates: the target's positive rate and count among the training rows, the row itself left out.
        use_history_vectors: attended and mean behaviors enter the MLP as vectors; without, only numbers of the history
            do, so that few users cannot be learnt by heart.
        use_linear: all inputs of the MLP, and the frozen vector, also have a linear part of the logit.
        use_content_interest: target attention over the behaviors in content space, by LoRA projections.
        content_id_weight: weight of the Content-ID-Contrastive loss beside the log loss, at least 0; 0 = without.
        new_items_from_content: an item without an ID embedding gets its content's image in ID space instead.
        id_dropout: share of item IDs taken as unknown in training, in [0, 1), so that new items are no surprise.
        share_nearest_items: VQ codes read the item-ID table rather than one of their own.
        vector_dim: D of the frozen vectors; needed by use_frozen_vector.
        token_dims: D of the content tokens by modality; needed by use_fusion.
        item_dim: width of an item-ID embedding and of a VQ code's, at least 1.
        code_dim: width of one code's embedding, at least 1.
        prefix_dim: width of the prefixes' embedding, at least 1.
        prefix_rows: most rows of the table of one prefix depth, at least 1.
        content_dim: width of fused content, of a mapped frozen vector and of the content interest, at least 1.
        num_queries: Q of the Fusion-Q-Former, at least 1.
        fusion_layers: its layers, at least 1.
        num_heads: H of the Fusion-Q-Former and of the content interest, at least 1.
        interest_rank: rank of the content interest's LoRA, at least 1; None trains full projections.
        content_id_temperature: of the Content-ID-Contrastive loss, above 0.
        content_id_negatives: its in-batch negatives; None takes the whole batch.
        cold_below: items with fewer positives in training are cold in that loss, at least 0.
        popular_weight: weight of the others' terms, at least 0.
        cold_weight: weight of the cold items' terms, at least 0.
        attention_dim: hidden width of the target attention, at least 1.
        hidden_dims: widths of the hidden layers of the MLP.
        dropout: share of MLP inputs and hidden units dropped in training, in [0, 1).

    Raises:
        ValueError: if a number is out of its range or a switch lacks what it needs.
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
    interest_rank: int | None = 8
    content_id_temperature: float = 0.1
    content_id_negatives: int | None = None
    cold_below: int = 5
    popular_weight: float = 1.0
    cold_weight: float = 1.0
    attention_dim: int = 32
    hidden_dims: Sequence[int] = (128, 64)
    dropout: float = 0.2
    inputs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "hidden_dims", list(self.hidden_dims))  # as JSON gives it back
        object.__setattr__(self, "inputs", {name: dict(options or {}) for name, options in self.inputs.items()})
        object.__setattr__(self, "token_dims", None if self.token_dims is None else dict(self.token_dims))
        if self.num_items < 0:
            raise ValueError(f"num_items is {self.num_items}, must be at least 0.")
        if not any(getattr(self, name) for name in _OF_AN_ITEM):
            raise ValueError(f"{', '.join(_OF_AN_ITEM)} are False, at least one must be True.")
        for name in _SIZES.split(", "):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, must be at least 1.")
        if not self.content_id_weight >= 0:
            raise ValueError(f"content_id_weight is {self.content_id_weight}, must be at least 0.")
        for name in ("id_dropout", "dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, must be in [0, 1).")
        self._check_needs()

    @property
    def has_content_id_map(self) -> bool:
        """Whether the model maps content into the space of item IDs."""
        return self.content_id_weight > 0 or self.new_items_from_content

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
