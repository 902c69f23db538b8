"""The training step as it was, kept to be measured against.

Content tokens of a batch were copied into one float32 block by numpy, the queries of the fusion attended to each other once
per item, the content of every behavior was gathered before it was projected, frozen vectors were mapped at every place,
gradients were computed for frozen vectors, and distinct items were found by sorting. ``way_before`` puts these functions in
the place of the present ones; the weights are the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.functional import normalize, scaled_dot_product_attention

from qarm_features.fusion import q_former
from qarm_features.ranking.data.item_content_store import ContentTokens, ItemContentStore
from qarm_features.ranking.model import content_id_loss as content_id
from qarm_features.ranking.model import item_representation
from qarm_features.ranking.modules import content_match
from qarm_features.ranking.modules.content_fusion import ContentFusion
from qarm_features.ranking.modules.content_interest import ContentInterestReading
from qarm_features.ranking.modules.masked_softmax import masked_softmax
from qarm_features.ranking.modules.ranking_input import Items, UniqueItems
from qarm_features.ranking.modules.target_attention import TargetAttention


@contextmanager
def way_before() -> Iterator[None]:
    """Let models score and train as they did, within the context."""
    representation = item_representation.ItemRepresentation
    with ExitStack() as stack:
        for owner, name, function in (
            (ItemContentStore, "_gather", _gather),
            (ContentFusion, "forward", _encode),
            (q_former._Layer, "forward", _layer),
            (q_former._Attention, "forward", _attention),
            (representation, "look_up", _look_up),
            (representation, "forward", _represent),
            (content_match, "content_cosines", _content_cosines),
            (ContentInterestReading, "read", _read_interest),
            (TargetAttention, "forward", _target_attention),
            (content_id, "distinct", lambda index: torch.unique(index, return_inverse=True)),
        ):
            stack.enter_context(patch.object(owner, name, function))
        yield


@dataclass
class _LookedUp:
    """One table (U, W) of all item features; all columns from ``content_start`` on are content."""

    parts: Tensor
    rows: Tensor
    content_start: int
    columns: dict[str, slice] = field(default_factory=dict)

    def of(self, name: str) -> Tensor:
        columns, start = self.columns[name], self.content_start
        if columns.start >= start:
            return self.content[..., columns.start - start : columns.stop - start]
        return functional.embedding(self.rows, self.parts[:, columns])

    @cached_property
    def content(self) -> Tensor:
        return functional.embedding(self.rows, self.unique_content)

    @property
    def unique_content(self) -> Tensor:
        return self.parts[:, self.content_start :]


def _gather(store: ItemContentStore, rows: np.ndarray, name: str) -> ContentTokens:
    rows = np.asarray(rows, dtype=np.int64)
    values, mask = store._blocks[name]
    out = np.zeros((len(rows), *values.shape[1:]), dtype=np.float32)
    has_token = np.zeros((len(rows), mask.shape[1]), dtype=bool)
    known = np.flatnonzero(rows >= 0)
    known = known[np.argsort(rows[known])]
    out[known], has_token[known] = values[rows[known]], mask[rows[known]]
    return ContentTokens(torch.from_numpy(out), torch.from_numpy(has_token))


def _encode(fusion: ContentFusion, store, rows: np.ndarray) -> Tensor:
    device = fusion.q_former.queries.device
    known = np.flatnonzero(rows >= 0)
    fused = torch.zeros(len(rows), fusion.output_dim, device=device)
    if not len(known):
        return fused
    tokens = store.gather_modalities(rows[known])
    has_token = torch.stack([mask.any(1) for _, mask in tokens.values()]).any(0).cpu()
    if not bool(has_token.any()):
        return fused
    if not bool(has_token.all()):
        tokens = {name: type(pair)(*(part[has_token] for part in pair)) for name, pair in tokens.items()}
    places = torch.from_numpy(known)[has_token].to(device)
    return fused.index_copy(0, places, _fuse(fusion.q_former, tokens))


def _fuse(module: q_former.FusionQFormer, tokens: dict[str, ContentTokens]) -> Tensor:
    values, masks, skips, present = [], [], [], []
    for name, (value, mask) in tokens.items():
        value = value.masked_fill(~mask.unsqueeze(-1), 0.0)
        values.append(module.norms[name](module.projections[name](value)) + module.modality_embedding[name])
        masks.append(mask)
        mean = value.float().sum(1) / mask.sum(1, keepdim=True).clamp(min=1)
        skips.append(module.skips[name](normalize(mean, dim=-1)))
        present.append(mask.any(1))
    number = torch.stack(present).sum(0)
    memory, mask = torch.cat(values, 1), torch.cat(masks, 1)
    queries = module.queries.expand(len(mask), -1, -1)
    for layer in module.layers:
        queries = layer(queries, memory, mask)
    queries = module.norm(queries)
    skip = torch.stack(skips).float().sum(0) / number.unsqueeze(-1)
    return normalize(skip + module.head(queries.mean(1)).float(), dim=-1)


def _layer(layer, queries: Tensor, memory: Tensor, mask: Tensor) -> Tensor:
    normed = layer.self_norm(queries)
    queries = queries + layer.dropout(layer.self_attention(normed, normed))
    queries = queries + layer.dropout(layer.cross_attention(layer.cross_norm(queries), memory, mask))
    return queries + layer.dropout(layer.mlp(layer.mlp_norm(queries)))


def _attention(attention, queries: Tensor, memory: Tensor, mask: Tensor | None = None) -> Tensor:
    def heads(values: Tensor) -> Tensor:
        return values.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2)

    query = heads(attention.query(queries))
    key, value = (heads(part) for part in attention.key_value(memory).chunk(2, dim=-1))
    attn_mask = None if mask is None else mask[:, None, None, :]
    mixed = scaled_dot_product_attention(query, key, value, attn_mask=attn_mask)
    return attention.out(mixed.transpose(1, 2).flatten(2))


def _look_up(items, indexes, features) -> list[_LookedUp]:
    flat = torch.cat([index.flatten() for index in indexes])
    index, inverse = torch.unique(flat, return_inverse=True)
    mean = torch.empty(0) if items.vector is None else items.vector_mean
    unique, feature = UniqueItems(index, features, mean), items.features
    names = [name for name in items.looking_up if name not in items.content_names] + list(items.content_names)
    found = [feature[name].look_up(unique) for name in names]
    ends = np.cumsum([0] + [part.shape[1] for part in found]).tolist()
    columns = {name: slice(start, end) for name, start, end in zip(names, ends, ends[1:])}
    parts, start = torch.cat(found, dim=1), ends[-1] - items.content_dim
    cuts = torch.tensor([index.numel() for index in indexes]).cumsum(0)[:-1].tolist()
    places = zip(indexes, inverse.tensor_split(cuts))
    return [_LookedUp(parts, rows.unflatten(0, index.shape), start, columns) for index, rows in places]


def _represent(items, index: Tensor, codes: Tensor, looked_up: _LookedUp) -> Tensor:
    content_as_id = None
    if items.new_items_from_content:
        content_as_id = normalize(items.content_as_id(looked_up.content), dim=-1) * items.id_norm
    nothing, parts = index.new_empty(0, dtype=torch.float32), []
    for name, feature in items.features.items():
        own = looked_up.of(name) if name in items.looking_up else nothing
        parts.append(feature.embed(Items(index, codes, own, content_as_id)))
    return torch.cat(parts, dim=-1)


def _content_cosines(target: _LookedUp, past: _LookedUp) -> tuple[Tensor, Tensor]:
    unit = normalize(target.unique_content, dim=1)
    has_content = target.unique_content.detach().any(dim=1)
    past_rows = past.rows.expand(len(target.rows), -1)
    if len(unit) <= 64 * past_rows.shape[1]:
        cosine = (unit[target.rows] @ unit.T).gather(1, past_rows)
    else:
        cosine = torch.einsum("bd,btd->bt", unit[target.rows], functional.embedding(past_rows, unit))
    return cosine, has_content[past_rows] & has_content[target.rows].unsqueeze(1)


def _read_interest(reading: ContentInterestReading, rows) -> Tensor:
    target, behavior = rows.looked_up[0].content, rows.looked_up[1].content
    return reading(target, behavior, rows.batch.behavior_mask)


def _target_attention(attention: TargetAttention, target: Tensor, behavior: Tensor, mask: Tensor) -> Tensor:
    hidden = attention.of_behavior(behavior) + attention.of_product(target.unsqueeze(1) * behavior)
    hidden = hidden + attention.of_target(target).unsqueeze(1)
    score = attention.score(hidden.relu()).squeeze(-1)
    return torch.einsum("bt,btd->bd", masked_softmax(score, mask, dim=1), behavior)
