"""The compact reference ranking model: item IDs, semantic IDs and a behaviour sequence in, one logit per row out.

Target item and behaviours share the tables. The behaviour sequence is read three ways: attended by the target
(DIN), averaged, and counted.

Source: QARM, arXiv 2411.11739, section 3.3; DIN, arXiv 1706.06978, section 4.
"""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import torch
from huggingface_hub import PyTorchModelHubMixin, constants, hf_hub_download
from torch import Tensor, nn

from qarm_features.ranking.code_lookup import INITIAL_STD
from qarm_features.ranking.semantic_id_embedding import SemanticIDEmbedding
from qarm_features.ranking.target_attention import TargetAttention


class RankingModel(nn.Module, PyTorchModelHubMixin):
    """Scores (target item, behaviour sequence) pairs.

    Args:
        num_items: size of the item vocabulary, at least 0; item indexes are in [0, num_items], 0 = unknown item.
        num_levels: L of the codebooks.
        codebook_size: K of the codebooks.
        codebook_version: the codebook the codes come from, from 0; None if unknown.
        item_dim: width of an item-ID embedding, at least 1.
        code_dim: width of one code's embedding, at least 1.
        attention_dim: hidden width of the target attention.
        hidden_dims: widths of the hidden layers of the MLP.
        dropout: share of MLP inputs and hidden units dropped in training, in [0, 1).
        use_item_ids: whether an item is represented by its item-ID embedding.
        use_semantic_ids: whether an item is represented by its semantic-ID embedding. Both: side by side.

    Raises:
        ValueError: if both use_item_ids and use_semantic_ids are False, or num_items is below 0.
    """

    def __init__(
        self,
        *,
        num_items: int,
        num_levels: int,
        codebook_size: int,
        codebook_version: int | None = None,
        item_dim: int = 16,
        code_dim: int = 8,
        attention_dim: int = 32,
        hidden_dims: Sequence[int] = (128, 64),
        dropout: float = 0.2,
        use_item_ids: bool = True,
        use_semantic_ids: bool = True,
    ) -> None:
        super().__init__()
        if num_items < 0:
            raise ValueError(f"num_items is {num_items}, must be at least 0.")
        if not (use_item_ids or use_semantic_ids):
            raise ValueError("use_item_ids and use_semantic_ids are False, at least one must be True.")
        self.item_ids = self.semantic_ids = None
        dim = 0
        if use_item_ids:
            self.item_ids = nn.Embedding(num_items + 1, item_dim)
            nn.init.normal_(self.item_ids.weight, std=INITIAL_STD)
            nn.init.zeros_(self.item_ids.weight[0])  # an item never seen says nothing
            dim += item_dim
        if use_semantic_ids:
            self.semantic_ids = SemanticIDEmbedding(
                num_levels, codebook_size, code_dim, codebook_version=codebook_version
            )
            dim += self.semantic_ids.output_dim
        self.attention = TargetAttention(dim, hidden_dim=attention_dim)
        self.mlp = _mlp([3 * dim + 1, *hidden_dims], dropout=dropout)

    def forward(
        self,
        item_index: Tensor,
        item_codes: Tensor,
        behavior_index: Tensor,
        behavior_codes: Tensor,
        behavior_mask: Tensor,
    ) -> Tensor:
        """Scores B rows.

        Args:
            item_index: (B,) int64 in [0, num_items].
            item_codes: (B, L) int64 in [-1, K).
            behavior_index: (B, T) int64 in [0, num_items], most recent last; anything valid where masked.
            behavior_codes: (B, T, L) int64 in [-1, K).
            behavior_mask: (B, T) bool, True where there is a behaviour.

        Returns:
            (B,) float32 logits.
        """
        target = self.item_embedding(item_index, item_codes)
        behavior = self.item_embedding(behavior_index, behavior_codes)
        attended = self.attention(target, behavior, behavior_mask)
        counted = behavior_mask.to(behavior.dtype)  # (B, T)
        length = counted.sum(dim=1, keepdim=True)  # (B, 1)
        mean = torch.einsum("bt,btd->bd", counted / length.clamp(min=1), behavior)
        return self.mlp(torch.cat([target, attended, mean, length.log1p()], dim=1)).squeeze(1)

    def item_embedding(self, item_index: Tensor, item_codes: Tensor) -> Tensor:
        """Represents items.

        Args:
            item_index: (...) int64 in [0, num_items].
            item_codes: (..., L) int64 in [-1, K).

        Returns:
            (..., D) float32, D = item_dim + L * code_dim, less what the model does not use.
        """
        parts = []
        if self.item_ids is not None:
            parts.append(self.item_ids(item_index))
        if self.semantic_ids is not None:
            parts.append(self.semantic_ids(item_codes))
        return torch.cat(parts, dim=-1)

    @classmethod
    def _from_pretrained(cls, *, model_id: str, map_location: str = "cpu", strict: bool = True, **kwargs):
        """Loads safetensors only; the mixin's own would fall back to a pickle and ignore missing weights."""
        hub = ("revision", "cache_dir", "force_download", "local_files_only", "token")
        hub_arguments = {name: kwargs.pop(name) for name in hub}
        if Path(model_id).is_dir():
            file = Path(model_id) / constants.SAFETENSORS_SINGLE_FILE
            if not file.exists():
                raise FileNotFoundError(
                    f"{model_id} has no {file.name}, must hold one; pickles are not loaded. "
                    "Write it with RankingModel.save_pretrained."
                )
        else:
            file = hf_hub_download(model_id, constants.SAFETENSORS_SINGLE_FILE, **hub_arguments)
        return cls._load_as_safetensor(cls(**kwargs), str(file), map_location, strict)


def _mlp(dims: Sequence[int], *, dropout: float) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Dropout(dropout)]
    for fan_in, fan_out in pairwise(dims):
        layers += [nn.Linear(fan_in, fan_out), nn.ReLU(), nn.Dropout(dropout)]
    return nn.Sequential(*layers, nn.Linear(dims[-1], 1))
