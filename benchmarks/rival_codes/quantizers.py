"""The quantizers that are compared. Each turns embeddings into codes, and says how it would decode them.

In: a catalog, a number of levels and codes per level, and a seed. Out: ``Codes``.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import faiss
import numpy as np

from .catalogs import Catalog
from .rq_vae import fit_rq_vae

LEVELS = 3


class Codes(NamedTuple):
    """Codes of I items.

    Attributes:
        codes: (I, L) int64, from 0.
        sizes: Number of possible codes at each level.
        decoded: (I, D) float32 embeddings that the quantizer decodes from the codes, or None if it decodes nothing.
        ordered: True if levels go from coarse to fine, so that a common prefix means more than other common codes.
        seconds: Seconds of the fit and of the codes of all items.
    """

    codes: np.ndarray
    sizes: list[int]
    decoded: np.ndarray | None
    ordered: bool
    seconds: float


class Rival(NamedTuple):
    """A quantizer.

    Attributes:
        name: Printed name.
        quantize: Function of a catalog and a seed.
        seeded: False if every seed gives the same codes.
        needs_hierarchy: True if only a catalog with a hierarchy has such codes.
    """

    name: str
    quantize: Callable[[Catalog, int], Codes]
    seeded: bool = True
    needs_hierarchy: bool = False


def halved_sizes(codebook_size: int) -> list[int]:
    """Return sizes that halve from level to level, as many bits in all as three levels of the codebook size.

    Example:
        >>> halved_sizes(256), halved_sizes(64)
        ([256, 128, 64, 8], [64, 32, 16, 8])
    """
    bits, size, sizes = LEVELS * (codebook_size.bit_length() - 1), codebook_size, []
    while bits:
        size = min(size, 2**bits)
        sizes.append(size)
        bits -= size.bit_length() - 1
        size = max(2, size // 2)
    return sizes


def residual_kmeans(options: Callable[[int], dict[str, Any]]) -> Callable[[Catalog, int], Codes]:
    """Return a quantizer by this package's estimators, in the Spark session that is open.

    Args:
        options: Function from the codebook size to params of ``ResidualKMeans``. With ``last_levels`` the last level is
            finite scalar quantization.
    """

    last: dict[tuple[str, int], Codes] = {}

    def quantize(catalog: Catalog, seed: int) -> Codes:
        if (catalog.name, seed) not in last:
            last.clear()
            last[catalog.name, seed] = fit(catalog, seed)
        return last[catalog.name, seed]

    def fit(catalog: Catalog, seed: int) -> Codes:
        from pyspark.sql import SparkSession

        from qarm_features.evaluation.neighborhoods import decode
        from qarm_features.quantizers import ResidualKMeans
        from qarm_features.quantizers.arrays.lloyd import assign_codes

        spark = SparkSession.getActiveSession()
        assert spark is not None  # the benchmark has started it
        rows = [(vector.tolist(),) for vector in catalog.embeddings]
        frame = spark.createDataFrame(rows, "embedding array<float>").persist()
        frame.count()
        started = time.perf_counter()
        model = ResidualKMeans(seed=seed, **options(catalog.codebook_size)).fit(frame)
        codes = assign_codes(catalog.embeddings, model.codebooks).astype(np.int64)
        seconds = time.perf_counter() - started
        frame.unpersist()
        return Codes(codes, model.level_sizes, decode(codes, np.nan_to_num(model.codebooks)), True, seconds)

    return quantize


def rq_vae(catalog: Catalog, seed: int) -> Codes:
    """Quantize by an RQ-VAE."""
    started = time.perf_counter()
    codes, decoded = fit_rq_vae(catalog.embeddings, num_levels=LEVELS, codebook_size=catalog.codebook_size, seed=seed)
    seconds = time.perf_counter() - started
    return Codes(codes, [catalog.codebook_size] * LEVELS, decoded, True, seconds)


def opq(catalog: Catalog, seed: int) -> Codes:
    """Quantize by optimized product quantization of faiss: a rotation, then one codebook for each third of the numbers."""
    started = time.perf_counter()
    embeddings, size = catalog.embeddings, catalog.codebook_size
    dim = embeddings.shape[1] - embeddings.shape[1] % LEVELS
    rotation = faiss.OPQMatrix(embeddings.shape[1], LEVELS, dim)
    inner, pq = (faiss.ProductQuantizer(dim, LEVELS, size.bit_length() - 1) for _ in range(2))
    for one in (inner, pq):
        one.cp.seed, one.cp.min_points_per_centroid, one.cp.max_points_per_centroid = seed, 1, len(embeddings)
    rotation.pq = inner  # else it is trained for 256 codes, whatever the size is
    rotation.niter, rotation.max_train_points = 25, len(embeddings)
    # faiss draws its first rotation from a fixed seed, so the order of the rows carries ours.
    rows = embeddings[np.random.default_rng(seed).permutation(len(embeddings))]
    rotation.train(rows)
    pq.train(rotation.apply(rows))
    packed = pq.compute_codes(rotation.apply(embeddings))
    decoded = rotation.reverse_transform(pq.decode(packed))
    codes = _unpacked(packed, size.bit_length() - 1)
    return Codes(codes, [size] * LEVELS, decoded, False, time.perf_counter() - started)


def _unpacked(packed: np.ndarray, bits: int) -> np.ndarray:
    """Return codes (I, 3) of the packed ones (I, bytes), which fill bytes from their lowest bit."""
    ones = np.unpackbits(packed, axis=1, bitorder="little")[:, : LEVELS * bits].reshape(len(packed), LEVELS, bits)
    return (ones.astype(np.int64) << np.arange(bits)).sum(axis=2)


_ours = residual_kmeans(lambda size: {"numLevels": LEVELS, "codebookSize": size})


def exchanged(catalog: Catalog, seed: int) -> Codes:
    """Return the codes of residual k-means, exchanged at random among the items: its balance without its content."""
    own = _ours(catalog, seed)
    order = np.random.default_rng([seed, 7]).permutation(len(own.codes))
    return own._replace(codes=own.codes[order], decoded=None)


def random_codes(catalog: Catalog, seed: int) -> Codes:
    """Draw every code at random."""
    started = time.perf_counter()
    shape = len(catalog.item_id), LEVELS
    codes = np.random.default_rng([seed, 8]).integers(0, catalog.codebook_size, shape)
    return Codes(codes, [catalog.codebook_size] * LEVELS, None, True, time.perf_counter() - started)


def hashed_ids(catalog: Catalog, seed: int) -> Codes:
    """Hash item IDs, one hash for each level."""
    started = time.perf_counter()
    digests = [hashlib.blake2b(f"{one}".encode(), digest_size=4 * LEVELS).digest() for one in catalog.item_id]
    numbers = np.frombuffer(b"".join(digests), np.uint32).reshape(-1, LEVELS)
    codes = (numbers % catalog.codebook_size).astype(np.int64)
    return Codes(codes, [catalog.codebook_size] * LEVELS, None, True, time.perf_counter() - started)


def own_hierarchy(catalog: Catalog, seed: int) -> Codes:
    """Return the catalog's own hierarchy as codes."""
    assert catalog.hierarchy is not None  # the table skips it elsewhere
    sizes = (catalog.hierarchy.max(axis=0) + 1).tolist()
    return Codes(catalog.hierarchy, sizes, None, True, 0.0)


OURS = "residual k-means"
RIVALS = (
    Rival(OURS, _ours),
    Rival(
        "residual k-means, halved sizes",
        residual_kmeans(lambda size: {"numLevels": len(halved_sizes(size)), "codebookSizes": halved_sizes(size)}),
    ),
    Rival(
        "residual k-means, capacity 2",
        residual_kmeans(lambda size: {"numLevels": LEVELS, "codebookSize": size, "capacity": 2.0}),
    ),
    Rival("RQ-VAE", rq_vae),
    Rival("OPQ", opq),
    Rival("own codes, exchanged", exchanged),
    Rival("random codes", random_codes),
    Rival("hashed item IDs", hashed_ids, seeded=False),
    Rival("the catalog's hierarchy", own_hierarchy, seeded=False, needs_hierarchy=True),
)
