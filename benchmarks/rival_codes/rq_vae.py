"""RQ-VAE, the learned rival of residual k-means: an encoder, residual codebooks in its latent space, and a decoder.

In: embeddings (I, D). Out: codes and decoded embeddings. The codebooks start by k-means on latents, move by exponential means
of their latents, and a code without rows is set anew to a latent of the batch.

Source: RQ-VAE, Lee et al., arXiv 2203.01941; its use for semantic IDs, TIGER, arXiv 2305.05065, with smaller hidden sizes;
exponential means and resets as in Jukebox, arXiv 2005.00341, appendix B.
"""

from __future__ import annotations

from itertools import pairwise

import faiss
import numpy as np
import torch
from torch import Tensor, nn

LATENT_DIM, HIDDEN = 32, (256, 128)
COMMITMENT, DECAY = 0.25, 0.99  # weight of the commitment; decay of the exponential means
_DEAD = 0.1  # mean number of rows of a batch, below which a code is dead
STEPS, _BATCH, _RATE = 2000, 512, 1e-3
_WARM_UP = 200  # steps of the autoencoder alone, so that the codebooks start in a space that says something


class Codebook(nn.Module):
    """One level: K centroids, which are the exponential means of the latents that chose them.

    Args:
        rows: (B, d) latents from which k-means starts.
        size: Number K of centroids.
        seed: Seed of k-means and of the resets.
    """

    def __init__(self, rows: Tensor, size: int, seed: int) -> None:
        super().__init__()
        fitted = faiss.Kmeans(
            rows.shape[1], size, niter=10, seed=seed + 1, min_points_per_centroid=1, max_points_per_centroid=len(rows)
        )
        fitted.train(rows.numpy())
        self.register_buffer("centroids", torch.from_numpy(fitted.centroids.copy()))
        self.register_buffer("counts", torch.full((size,), _BATCH / size))
        self.register_buffer("sums", self.centroids * self.counts[:, None])
        self._random = torch.Generator().manual_seed(seed)

    def forward(self, rows: Tensor) -> Tensor:
        """Return codes (B,) int64 of rows (B, d)."""
        return torch.cdist(rows, self.centroids).argmin(dim=1)

    @torch.no_grad()
    def learn(self, rows: Tensor, codes: Tensor) -> None:
        """Move the centroids to the means of their rows, and dead ones to random rows."""
        chosen = torch.zeros(len(self.centroids)).index_add_(0, codes, torch.ones(len(codes)))
        added = torch.zeros_like(self.sums).index_add_(0, codes, rows)
        self.counts.mul_(DECAY).add_(chosen, alpha=1 - DECAY)
        self.sums.mul_(DECAY).add_(added, alpha=1 - DECAY)
        dead = self.counts < _DEAD
        drawn = rows[torch.randint(len(rows), (int(dead.sum()),), generator=self._random)]
        self.counts[dead], self.sums[dead] = 1.0, drawn
        self.centroids.copy_(self.sums / self.counts[:, None])


def _network(sizes: list[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for number, (before, after) in enumerate(pairwise(sizes), 1):
        layers += [nn.Linear(before, after), *([nn.ReLU()] if number + 1 < len(sizes) else [])]
    return nn.Sequential(*layers)


def fit_rq_vae(
    embeddings: np.ndarray, *, num_levels: int, codebook_size: int, seed: int, steps: int = STEPS
) -> tuple[np.ndarray, np.ndarray]:
    """Train an RQ-VAE, and return codes (I, L) int64 and decoded embeddings (I, D) float32.

    Args:
        embeddings: (I, D) float32 of unit L2 norm.
        num_levels: Number L of levels.
        codebook_size: Number K of centroids in a level.
        seed: Seed of weights, order and resets.
        steps: Number of steps, above 200.
    """
    torch.manual_seed(seed)
    rows, dim = torch.from_numpy(embeddings) * embeddings.shape[1] ** 0.5, embeddings.shape[1]
    encoder, decoder = _network([dim, *HIDDEN, LATENT_DIM]), _network([LATENT_DIM, *HIDDEN[::-1], dim])
    optimizer = torch.optim.AdamW([*encoder.parameters(), *decoder.parameters()], lr=_RATE, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    codebooks: list[Codebook] = []
    for step in range(steps):
        batch = rows[torch.randint(len(rows), (_BATCH,))]
        latent = encoder(batch)
        if step == _WARM_UP:
            codebooks = _start(encoder, rows, num_levels, codebook_size, seed)
        quantized, commitment = latent, latent.new_zeros(())
        if codebooks:
            quantized, commitment = _quantize(latent, codebooks)
        loss = nn.functional.mse_loss(decoder(quantized), batch) + COMMITMENT * commitment
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
    return _all_codes(encoder, decoder, codebooks, rows)


@torch.no_grad()
def _start(encoder: nn.Module, rows: Tensor, num_levels: int, size: int, seed: int) -> list[Codebook]:
    residual, codebooks = encoder(rows[torch.randperm(len(rows))[: 20 * size]]), []
    for level in range(num_levels):
        codebooks.append(Codebook(residual, size, seed * num_levels + level))
        residual = residual - codebooks[-1].centroids[codebooks[-1](residual)]
    return codebooks


def _quantize(latent: Tensor, codebooks: list[Codebook]) -> tuple[Tensor, Tensor]:
    """Return latents (B, d) of the codes, through which gradients pass, and the commitment; move the centroids."""
    residual, total, commitment = latent, torch.zeros_like(latent), latent.new_zeros(())
    for codebook in codebooks:
        codes = codebook(residual.detach())
        chosen = codebook.centroids[codes].clone()
        codebook.learn(residual.detach(), codes)
        commitment = commitment + nn.functional.mse_loss(residual, chosen)
        total, residual = total + chosen, residual - chosen
    return latent + (total - latent).detach(), commitment


@torch.no_grad()
def _all_codes(
    encoder: nn.Module, decoder: nn.Module, codebooks: list[Codebook], rows: Tensor
) -> tuple[np.ndarray, np.ndarray]:
    codes, decoded = [], []
    for part in rows.split(4096):
        residual, of_part = encoder(part), []
        total = torch.zeros_like(residual)
        for codebook in codebooks:
            of_part.append(codebook(residual))
            chosen = codebook.centroids[of_part[-1]]
            total, residual = total + chosen, residual - chosen
        codes.append(torch.stack(of_part, dim=1))
        decoded.append(decoder(total) / rows.shape[1] ** 0.5)
    return torch.cat(codes).numpy(), torch.cat(decoded).numpy()
