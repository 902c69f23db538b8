"""First rows of a ``SemanticIDEmbedding`` from centroids, and its rows under new codebooks.

In: codebooks (L, K, D); a level with fewer centroids ends in rows of NaN. Out: table rows, or the next table.
"""

import numpy as np
import torch
from torch import Tensor

from qarm_features.ranking.modules.code_lookup import INITIAL_STD
from qarm_features.ranking.modules.semantic_id_embedding import SemanticIDEmbedding

_CHUNK_DISTANCES = 2**24  # held at once: 128 MiB


def centroid_table(
    codebooks: Tensor | np.ndarray, embedding_dim: int, *, seed: int = 0, std: float = INITIAL_STD
) -> Tensor:
    """Returns table rows that are as near to each other as the centroids of their level.

    For each level, the mean of its centroids is subtracted, and the centroids are projected on their first embedding_dim
    principal axes. All numbers of the level are then scaled so that their root mean square is std. The sign of an axis is
    chosen so that its largest component is positive. Centroids have min(K, D) axes. Dimensions beyond these, and the rows
    for missing items, are drawn from N(0, std**2) as in a new table.

    Args:
        codebooks: (L, K, D) float; rows of NaN where a level has fewer centroids.
        embedding_dim: Width of a row, at least 1.
        seed: Seed of the random numbers.
        std: Standard deviation of the rows, above 0.

    Returns:
        (L*(K+1), embedding_dim) float32 in the order of ``SemanticIDEmbedding.table``; 0 for a row of NaN.

    Raises:
        ValueError: If codebooks do not have this shape, or embedding_dim or std is outside its range.

    Example:
        >>> centroid_table(np.eye(4, dtype=np.float32)[None], embedding_dim=3).shape  # one level of 4 codes
        torch.Size([5, 3])
    """
    if embedding_dim < 1:
        raise ValueError(f"embedding_dim is {embedding_dim}, must be at least 1.")
    if not std > 0:
        raise ValueError(f"std is {std}, must be above 0.")
    codebooks, used = _checked_codebooks(codebooks, name="codebooks")
    num_levels, codebook_size, _ = codebooks.shape
    generator = torch.Generator().manual_seed(seed)
    table = torch.randn(num_levels, codebook_size + 1, embedding_dim, generator=generator) * std
    for level in range(num_levels):
        axes = _principal_coordinates(codebooks[level, used[level]], embedding_dim, std=std)  # (K, <= embedding_dim)
        codes = table[level, 1:]
        codes[used[level], : axes.shape[1]] = axes.float()
        codes[~used[level]] = 0.0
    return table.flatten(0, 1)


def start_from_centroids(
    embedding: SemanticIDEmbedding, codebooks: Tensor | np.ndarray, *, seed: int = 0, std: float = INITIAL_STD
) -> None:
    """Writes the rows of ``centroid_table`` into an embedding, before it is trained.

    Args:
        embedding: Table of L levels and K codes; it is changed in place.
        codebooks: (L, K, D) float, the codebooks its codes come from.
        seed: Seed of the random numbers.
        std: Standard deviation of the rows, above 0.

    Raises:
        ValueError: If codebooks have another L or K, or ``centroid_table`` refuses them.

    Example:
        >>> embedding = SemanticIDEmbedding(num_levels=1, codebook_size=4, embedding_dim=3)
        >>> start_from_centroids(embedding, np.eye(4, dtype=np.float32)[None])
    """
    _check_sizes(embedding, codebooks, name="codebooks")
    rows = centroid_table(codebooks, embedding.table.embedding_dim, seed=seed, std=std)
    with torch.no_grad():
        embedding.table.weight.copy_(rows)


def remap(
    embedding: SemanticIDEmbedding,
    old_codebooks: Tensor | np.ndarray,
    new_codebooks: Tensor | np.ndarray,
    *,
    codebook_version: int,
) -> SemanticIDEmbedding:
    """Returns the table for the next codebooks: each new code starts from the row of the nearest old centroid.

    Nearest means the smallest Euclidean distance within the level; of equally near centroids the one with the lowest code is
    taken. Rows for missing items are copied. If the new codebooks hold the old centroids in another order, the embedding of
    an item does not change. Build the optimizer anew, because the table is a new parameter.

    Args:
        embedding: Table that was trained on old_codebooks; it is not changed.
        old_codebooks: (L, K, D) float; rows of NaN where a level has fewer centroids.
        new_codebooks: (L, K', D) float; rows of NaN where a level has fewer centroids.
        codebook_version: Version of new_codebooks, from 0, other than the embedding's.

    Returns:
        A table of K' codes per level, with the device, pooling, number type and training mode of the embedding.

    Raises:
        ValueError: If codebooks do not have these shapes, if L or D differ, if old_codebooks do not have the embedding's
            L and K, or if codebook_version is negative or the embedding's own.

    Example:
        >>> embedding = SemanticIDEmbedding(num_levels=1, codebook_size=4, embedding_dim=3, codebook_version=0)
        >>> old = np.eye(4, dtype=np.float32)[None]
        >>> remapped = remap(embedding, old, old[:, ::-1], codebook_version=1)
        >>> torch.equal(remapped(torch.tensor([[3]])), embedding(torch.tensor([[0]])))
        True
    """
    _check_next_version(embedding, codebook_version)
    _check_sizes(embedding, old_codebooks, name="old_codebooks")
    old, old_used = _checked_codebooks(old_codebooks, name="old_codebooks")
    new, new_used = _checked_codebooks(new_codebooks, name="new_codebooks")
    for letter, axis in {"L": 0, "D": 2}.items():
        if new.shape[axis] != old.shape[axis]:
            raise ValueError(
                f"new_codebooks have {letter} = {new.shape[axis]}, must be old_codebooks' {old.shape[axis]}. "
                "Train a new table instead."
            )
    weight = embedding.table.weight.detach()
    old_rows = weight.unflatten(0, (len(old), -1))  # (L, K+1, width)
    new_rows = weight.new_zeros(len(new), new.shape[1] + 1, weight.shape[1])
    new_rows[:, 0] = old_rows[:, 0]
    for level, used in enumerate(new_used):
        nearest = _nearest(new[level, used], old[level].masked_fill(~old_used[level].unsqueeze(1), torch.inf))
        new_rows[level, 1:][used.to(weight.device)] = old_rows[level, 1:][nearest.to(weight.device)]
    remapped = SemanticIDEmbedding(
        len(new), new.shape[1], weight.shape[1], codebook_version=codebook_version, pooling=embedding.pooling
    ).to(device=weight.device, dtype=weight.dtype)
    with torch.no_grad():
        remapped.table.weight.copy_(new_rows.flatten(0, 1))
    remapped.table.weight.requires_grad_(embedding.table.weight.requires_grad)
    return remapped.train(embedding.training)


def _principal_coordinates(centroids: Tensor, embedding_dim: int, *, std: float) -> Tensor:
    """Returns coordinates (K, min(K, D, embedding_dim)) float64; all 0 if the centroids are one point."""
    left, scales, axes = torch.linalg.svd(centroids - centroids.mean(dim=0), full_matrices=False)
    size = axes.abs()
    # Components within a millionth count as equally large, so that rounding does not choose between them.
    largest = (size >= (1 - 1e-6) * size.amax(dim=1, keepdim=True)).int().argmax(dim=1, keepdim=True)
    signs = torch.where(axes.gather(1, largest).squeeze(1) < 0, -1.0, 1.0)
    coordinates = (left * scales * signs)[:, :embedding_dim]
    size = coordinates.square().mean().sqrt()
    one_point = size <= 1e-12 * centroids.abs().max()  # smaller differences are rounding errors
    return coordinates * (0.0 if one_point else std / size)


def _nearest(rows: Tensor, centroids: Tensor) -> Tensor:
    """Returns the index (N,) int64 of the nearest centroid of each row; the lowest of equally near ones."""
    chunks = rows.split(max(1, _CHUNK_DISTANCES // len(centroids)))
    # No matrix products: with their rounding, a neighbor could be nearer than the very same centroid.
    exact = "donot_use_mm_for_euclid_dist"
    return torch.cat([torch.cdist(chunk, centroids, compute_mode=exact).min(dim=1).indices for chunk in chunks])


def _check_next_version(embedding: SemanticIDEmbedding, codebook_version: int) -> None:
    if codebook_version < 0:
        raise ValueError(f"codebook_version is {codebook_version}, must be at least 0.")
    if codebook_version == int(embedding.codebook_version):
        raise ValueError(
            f"codebook_version is {codebook_version}, must differ from the embedding's own. Give that of new_codebooks."
        )


def _check_sizes(embedding: SemanticIDEmbedding, codebooks: Tensor | np.ndarray, *, name: str) -> None:
    sizes = (embedding.num_levels, embedding.codebook_size)
    if tuple(codebooks.shape[:2]) != sizes:
        raise ValueError(
            f"{name} have shape {tuple(codebooks.shape)}, must be ({sizes[0]}, {sizes[1]}, D) as the embedding. "
            "Give the codebooks its codes come from."
        )


def _checked_codebooks(codebooks: Tensor | np.ndarray, *, name: str) -> tuple[Tensor, Tensor]:
    """Returns codebooks (L, K, D) float64 on the CPU and which of their rows are centroids, (L, K) bool."""
    if isinstance(codebooks, Tensor):
        codebooks = codebooks.detach().cpu().numpy()
    codebooks = torch.from_numpy(np.array(codebooks, dtype=np.float64))
    if codebooks.ndim != 3 or 0 in codebooks.shape:
        raise ValueError(f"{name} have shape {tuple(codebooks.shape)}, must be (L, K, D), each at least 1.")
    used = ~codebooks.isnan().all(dim=2)
    bad = int((~codebooks[used].isfinite()).any(dim=1).sum())
    if bad:
        raise ValueError(f"{name} have {bad} rows with a NaN or infinite number, must be finite or all NaN. Fit again.")
    if not bool(used.any(dim=1).all()):
        empty = int((~used.any(dim=1)).int().argmax())
        raise ValueError(f"{name} have no centroid in level {empty}, must have at least one. Fit again.")
    return codebooks, used
