"""One large matrix product per process, after which small products run as fast as large ones.

In: nothing. Out: nothing; the buffers of numpy's BLAS are mapped into memory.

OpenBLAS packs its operands into a buffer of its own and prefetches ahead in it. If all products are small, the pages
ahead are never touched, hence never mapped. On some CPUs, above all on virtual ones, each prefetch then walks the page
tables without a result. Rows (1024, 129) times centroids (129, 256) ran at 12 GFLOP/s on an AMD EPYC of the first
generation, and at 36 after one product that was large enough to touch the buffer.
"""

from __future__ import annotations

import functools

import numpy as np

_SIZE = 512


@functools.cache
def touch_blas_buffers() -> None:
    """Touch the buffers by one product, which takes 10 to 20 ms; later calls do nothing."""
    square = np.ones((_SIZE, _SIZE), np.float32)
    np.matmul(square, square)
