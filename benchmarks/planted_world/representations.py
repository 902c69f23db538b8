"""RQ codes, nearest items and aligned embeddings are made by the package's own functions in one process.

In: item embeddings or tokens. Out: codes, nearest items and embeddings of every item. All are fitted on the items that have
arrived when training ends.
"""

from __future__ import annotations

import numpy as np
import torch

from qarm_features.alignment import contrastive_loss
from qarm_features.alignment.loss import LogPopularity, bounded_temperature, false_negatives
from qarm_features.fusion.q_former import FusionQFormer
from qarm_features.fusion.tokens import Tokens
from qarm_features.quantizers.arrays.centroid_draws import draw_centroids
from qarm_features.quantizers.arrays.grid import choose_grid
from qarm_features.quantizers.arrays.lloyd import assign_codes, lloyd_step, nearest_codes, update_centroids
from qarm_features.quantizers.arrays.nearest_rows import Nearest, Rows, merge_shard
from qarm_features.quantizers.arrays.splits import split_largest, without_poorest

MODALITY, DIM = "content", 32
_STEPS, _BATCH, _ENCODE_ROWS = 800, 512, 8192
_LLOYD_STEPS, _SAMPLE, _MAX_LOAD = 16, 20_000, 1.5


def unit_rows(embeddings: np.ndarray) -> np.ndarray:
    """Return embeddings (I, D) float32 of unit L2 norm."""
    return (embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)).astype(np.float32)


def fit_codebooks(embeddings: np.ndarray, *, num_levels: int, codebook_size: int, seed: int) -> np.ndarray:
    """Fit codebooks (L, K, D) float32 by residual k-means on embeddings (N, D), like ``ResidualKMeans`` with maxLoad."""
    rng = np.random.default_rng([seed, 2])
    grid = choose_grid(float(np.linalg.norm(embeddings, axis=1).max()), len(embeddings))
    residuals, codebooks = grid.round(embeddings), []
    for _ in range(num_levels):
        sample = residuals[rng.permutation(len(residuals))[:_SAMPLE]]
        centroids = draw_centroids(sample, np.ones(len(sample)), codebook_size, rng)
        for step in range(_LLOYD_STEPS):
            sums, counts, _ = lloyd_step(residuals, centroids)
            centroids = update_centroids(sums, counts, centroids, grid.bits)
            if step < _LLOYD_STEPS // 2:
                kept = without_poorest(counts, _MAX_LOAD)
                centroids = split_largest(centroids, kept, 4 * 2.0**-grid.bits, rng)
        codebooks.append(centroids)
        residuals = residuals - centroids[nearest_codes(residuals, centroids)]
    return np.stack(codebooks)


def rq_codes(embeddings: np.ndarray, fitted_on: np.ndarray, **options: int) -> np.ndarray:
    """Return codes (I, L) int64 of embeddings (I, D), with codebooks fitted on the rows ``fitted_on``."""
    embeddings = embeddings.astype(np.float32)
    return assign_codes(embeddings, fit_codebooks(embeddings[fitted_on], **options)).astype(np.int64)


def nearest_items(embeddings: np.ndarray, bank: np.ndarray, *, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the k nearest items of the bank (I, k) int64 to each item, and their cosines (I, k) float32."""
    embeddings = unit_rows(embeddings)
    own = np.full(len(embeddings), -1)
    own[bank] = np.arange(len(bank))
    rows = Rows(embeddings[bank], np.zeros(len(bank), np.int32), 0, 1.0)
    found = merge_shard(embeddings, own, rows, Nearest.none(len(embeddings), k))
    return bank[found.positions], found.similarities.astype(np.float32)


def co_click_pairs(item: np.ndarray, label: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return pairs (P, 2) of items: each positive of a user in the given rows with the positive before it.

    Args:
        item: (U, S) items by user and time.
        label: (U, S) labels, 0 or 1.
        rows: (N,) flat numbers of impressions, ascending.
    """
    positive = rows[label.ravel()[rows] == 1]
    same_user = positive[1:] // item.shape[1] == positive[:-1] // item.shape[1]
    pairs = np.stack([item.ravel()[positive[:-1]], item.ravel()[positive[1:]]], axis=1)[same_user]
    return pairs[pairs[:, 0] != pairs[:, 1]].astype(np.int64)


def new_q_former(token_dim: int, seed: int) -> FusionQFormer:
    """Return an untrained Fusion-Q-Former over the tokens of one modality."""
    torch.manual_seed(seed)
    return FusionQFormer({MODALITY: token_dim}, num_queries=4, dim=DIM, num_layers=1, num_heads=4)


def align(q_former: FusionQFormer, tokens: np.ndarray, pairs: np.ndarray, *, seed: int) -> FusionQFormer:
    """Trains a Fusion-Q-Former in place so that item pairs (P, 2) are near; tokens (I, N, D) float32."""
    rng, tokens = np.random.default_rng([seed, 3]), torch.from_numpy(tokens)
    log_temperature = torch.nn.Parameter(torch.tensor(0.1).log())
    optimizer = torch.optim.AdamW([*q_former.parameters(), log_temperature], lr=3e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=_STEPS, pct_start=0.1)
    log_share = [torch.from_numpy(np.log(np.bincount(side, minlength=len(tokens)) + 1.0)).float() for side in pairs.T]
    for _ in range(_STEPS):
        batch = pairs[rng.integers(0, len(pairs), _BATCH)]
        trigger, target = (q_former(_as_tokens(tokens[side])).pooled for side in batch.T)
        loss = contrastive_loss(
            trigger,
            target,
            temperature=bounded_temperature(log_temperature),
            false_negatives=torch.from_numpy(false_negatives(*batch.T)),
            log_popularity=LogPopularity(*(share[side] for share, side in zip(log_share, batch.T))),
        )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(q_former.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return q_former


@torch.inference_mode()
def encode(q_former: FusionQFormer, tokens: np.ndarray) -> np.ndarray:
    """Return item embeddings (I, 32) float32 of tokens (I, N, D)."""
    parts = torch.from_numpy(tokens).split(_ENCODE_ROWS)
    return torch.cat([q_former(_as_tokens(part)).pooled for part in parts]).numpy()


def _as_tokens(values: torch.Tensor) -> dict[str, Tokens]:
    return {MODALITY: Tokens(values, torch.ones(values.shape[:2], dtype=torch.bool))}
