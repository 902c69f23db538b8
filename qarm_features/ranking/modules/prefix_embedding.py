"""Embeddings of the prefixes of semantic IDs: items that share a prefix share the rows of that prefix.

In: codes (..., L) int64, -1 where the item has none, or bags of items. Out: (..., D) or (..., P*D) float32.

Source: "Enhancing Embedding Representation Stability in Recommendation Systems with Semantic ID", arXiv 2504.02137,
prefix-ngram. "Better Generalization with Semantic IDs", arXiv 2306.08121, describes the n-grams it grew from.
"""

from typing import Literal

import torch
from torch import Tensor

from qarm_features.ranking.modules.code_lookup import CodeLookup

_WORD = 2**32
_GOLDEN = 0x9E3779B9


class PrefixEmbedding(CodeLookup):
    """Looks up one trainable vector per prefix (c_0), (c_0, c_1), ... to depth P.

    A code of level 1 means nothing without the code of level 0, so the rows belong to prefixes and not to codes. Many items
    share a prefix of depth 1, few share one of depth L. Depth d has one row for missing items and one for each of its K**d
    prefixes if these are at most num_rows. Deeper prefixes share num_rows rows by ``hash_prefixes``. All depths are
    stacked into one table, so that a look-up is one gather. Levels from P on are not read.

    Args:
        num_levels: L, at least 1.
        codebook_size: K, in [1, 2**32].
        embedding_dim: D, the width of one prefix's vector, at least 1.
        max_depth: P, the longest prefix, in [1, L]; None means L.
        num_rows: Largest number of rows of one depth, in [1, 2**31].
        seed: Seed of the hash, in [0, 2**32). It is stored with the weights, because it says which prefix a row belongs to.
        codebook_version: Version of the codebooks, from 0; None if unknown. It is stored with the weights.
        pooling: "sum", as in the paper, adds the P vectors of an item (..., D); "concat" joins them (..., P*D).

    Raises:
        ValueError: If a number is outside its range or pooling is neither "concat" nor "sum".

    Example:
        >>> embedding = PrefixEmbedding(num_levels=3, codebook_size=4, embedding_dim=8)
        >>> embedding(torch.tensor([[0, 1, 2], [-1, -1, -1]])).shape
        torch.Size([2, 8])

    Source: arXiv 2504.02137, prefix-ngram.
    """

    seed: Tensor  # () int64
    missing_rows: Tensor  # (P,) int64

    def __init__(
        self,
        num_levels: int,
        codebook_size: int,
        embedding_dim: int,
        *,
        max_depth: int | None = None,
        num_rows: int = 2**20,
        seed: int = 0,
        codebook_version: int | None = None,
        pooling: Literal["concat", "sum"] = "sum",
    ) -> None:
        for name, size in {"num_levels": num_levels, "embedding_dim": embedding_dim}.items():
            if size < 1:
                raise ValueError(f"{name} is {size}, must be at least 1.")
        max_depth = num_levels if max_depth is None else max_depth
        _check_between("codebook_size", codebook_size, low=1, high=_WORD)
        _check_between("max_depth", max_depth, low=1, high=num_levels)
        _check_between("num_rows", num_rows, low=1, high=2**31)
        _check_between("seed", seed, low=0, high=_WORD - 1)
        sizes = [1 + min(codebook_size**depth, num_rows) for depth in range(1, max_depth + 1)]
        super().__init__(
            num_levels,
            codebook_size,
            embedding_dim,
            num_vectors=max_depth,
            num_rows=sum(sizes),
            codebook_version=codebook_version,
            pooling=pooling,
        )
        self.max_depth, self.num_rows = max_depth, num_rows
        self.num_exact = sum(codebook_size**depth <= num_rows for depth in range(1, max_depth + 1))
        self.register_buffer("seed", torch.tensor(seed, dtype=torch.int64))
        missing_rows = torch.tensor([0, *sizes[:-1]]).cumsum(0)
        self.register_buffer("missing_rows", missing_rows, persistent=False)

    def rows(self, codes: Tensor) -> Tensor:
        """Returns the table row of each prefix, (..., P) int64.

        A prefix that holds -1 is missing. One that holds a code outside [-1, K) gets a number that is no row, so that
        it never reads another prefix's.
        """
        codes = codes[..., : self.max_depth].to(torch.int64)
        known = (codes >= 0).cumprod(-1).bool()  # (..., P): no code so far is missing
        inside = ((codes >= -1) & (codes < self.codebook_size)).cumprod(-1).bool()
        codes = codes.clamp(0, self.codebook_size - 1)  # so that no sum below leaves its range
        index, number = [], torch.zeros_like(codes[..., 0])
        for code in codes[..., : self.num_exact].unbind(-1):
            number = number * self.codebook_size + code
            index.append(number)
        if self.num_exact < self.max_depth:
            hashes = hash_prefixes(codes, seed=self.seed)[..., self.num_exact :]
            index += (hashes % self.num_rows).unbind(-1)
        rows = self.missing_rows + torch.where(known, 1 + torch.stack(index, dim=-1), 0)  # (..., P)
        return torch.where(inside, rows, self.table.num_embeddings)


def hash_prefixes(codes: Tensor, *, seed: int | Tensor) -> Tensor:
    """Hashes every prefix of codes to 32 bits; the same on every machine, device and version of torch.

    ``h_0 = mix(seed + 0x9E3779B9)``, ``h_d = mix(h_{d-1} xor c_{d-1})``, where ``mix`` is the 32-bit finalizer
    ``x ^= x >> 16; x *= 0x21f0aaad; x ^= x >> 15; x *= 0x735a2d97; x ^= x >> 15`` modulo 2**32. Both factors are below
    2**31 and x is below 2**32, so a product is below 2**63: int64 never overflows.

    Args:
        codes: (..., P) int64, each in [0, 2**32).
        seed: Seed of the hash, in [0, 2**32).

    Returns:
        (..., P) int64 in [0, 2**32): the hash of the first code, of the first two, ...

    Source: the mixing constants are from github.com/skeeto/hash-prospector.
    """
    state = _mix((torch.as_tensor(seed, device=codes.device) + _GOLDEN) & (_WORD - 1))
    hashes = []
    for code in codes.unbind(-1):
        state = _mix(state ^ code)
        hashes.append(state)
    return torch.stack(hashes, dim=-1)


def _mix(word: Tensor) -> Tensor:
    word = (word ^ (word >> 16)) * 0x21F0AAAD & (_WORD - 1)
    word = (word ^ (word >> 15)) * 0x735A2D97 & (_WORD - 1)
    return word ^ (word >> 15)


def _check_between(name: str, value: int, *, low: int, high: int) -> None:
    if not low <= value <= high:
        raise ValueError(f"{name} is {value}, must be in [{low}, {high}].")
