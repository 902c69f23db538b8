"""Initial centroids of the levels of residual k-means.

In: a sample of rows (B, D), and the number of rows that each stands for. Out: initial centroids (K, D) float32 on the grid.

Source: k-means++, Arthur and Vassilvitskii, SODA 2007; k-means||, Bahmani et al., arXiv 1203.6402.
"""

from __future__ import annotations

import numpy as np

from qarm_features.quantizers.arrays.centroid_draws import draw, draw_centroids, squared_distances
from qarm_features.quantizers.arrays.lloyd import cluster_sums, nearest_codes, update_centroids
from qarm_features.quantizers.level_settings import LevelSettings
from qarm_features.quantizers.passes.embedding_files import EmbeddingFiles

_SAMPLE_BYTES = 64 << 20
_ROUNDS = 2  # number of rounds of k-means||
_OVERSAMPLING = 2.0


class Starts:
    """Gives each level its initial centroids.

    They are those of ``initial_codebooks``, or are drawn from one sample or, by k-means||, from all rows.
    """

    def __init__(self, files: EmbeddingFiles, settings: LevelSettings) -> None:
        """Take the sample, unless the settings have initial codebooks.

        Args:
            files: All rows of the fit, on the grid.
            settings: Settings of the fit.

        Raises:
            ValueError: The rows have fewer distinct values than level 0 has centroids.
        """
        self._files, self._settings = files, settings
        if settings.initial_codebooks is not None:
            return
        largest = max(settings.codebook_sizes)
        affordable = max(largest, _SAMPLE_BYTES // (4 * files.dim))
        sample = files.sample(min(max(20 * largest, 10_000), affordable), settings.seed)
        self._sample, self._weights = sample.rows, sample.weights
        # Later levels may have fewer distinct residuals than centroids.
        if len(self._sample) < settings.codebook_sizes[0]:
            raise ValueError(
                f"codebookSize is {settings.codebook_sizes[0]}, must be at most the number of distinct rows, "
                f"{len(self._sample)} of {files.facts().rows}. Lower it or fit on more items."
            )

    def centroids(self, level: int, generator: np.random.Generator) -> np.ndarray:
        """Return the initial centroids of a level.

        Args:
            level: Index of the level, from 0.
            generator: Generator of the draws.

        Returns:
            Centroids (K, D) float32 on the grid, fewer if there are fewer distinct residuals.
        """
        settings, size = self._settings, self._settings.codebook_sizes[level]
        if settings.initial_codebooks is not None:
            return self._files.grid.round(settings.initial_codebooks[level])
        if settings.init_mode == "random":
            first = np.unique(self._sample, axis=0)
            first = first[generator.permutation(len(first))[:size]]
        elif settings.init_mode == "k-means||":
            first = self._draw_from_all(size, generator)
        else:
            first = draw_centroids(self._sample, self._weights, size, generator)
        for _ in range(settings.warmup_iter):
            codes = nearest_codes(self._sample, first)
            sums, counts = cluster_sums(self._sample, codes, len(first), self._weights, self._files.grid.bits)
            sums = np.ldexp(sums.astype(np.float64), -self._files.grid.bits)
            first = update_centroids(sums, counts, first, self._files.grid.bits)
        return first

    def subtract(self, centroids: np.ndarray) -> None:
        """Go on to the next level, by subtracting from each row of the sample its nearest centroid (K, D)."""
        if self._settings.initial_codebooks is None:
            self._sample = self._sample - centroids[nearest_codes(self._sample, centroids)]

    def _draw_from_all(self, size: int, generator: np.random.Generator) -> np.ndarray:
        """Draw about 2 K rows per round from all rows, far from those of earlier rounds, then K of them by k-means++."""
        candidates = self._sample[draw(self._weights, 1, generator)]
        for _ in range(_ROUNDS):
            distances = squared_distances(self._sample, candidates)
            mean = float(
                (self._weights * distances).cumsum()[-1] / self._weights.sum()
            )  # mean of the sample, as an estimate for all rows
            if mean <= 0:
                break
            odds = _OVERSAMPLING * size / (self._files.facts().rows * mean)
            drawn = self._files.draw(candidates, int(generator.integers(0, 2**63)), odds)
            candidates = np.concatenate([candidates, drawn.rows])
        candidates = np.unique(candidates, axis=0)
        _, counts = self._files.step(candidates)
        if np.count_nonzero(counts) < size:
            return draw_centroids(self._sample, self._weights, size, generator)
        return draw_centroids(candidates[counts > 0], counts[counts > 0], size, generator)
