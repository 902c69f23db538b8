"""The buffers of numpy's BLAS, touched once in a process, so that small products run as fast as large ones.

OpenBLAS packs its operands into a buffer of its own and prefetches ahead in it. Where products are small, the pages ahead are
never touched and so never mapped, and on some CPUs, virtual ones above all, each prefetch then walks the page tables in vain:
rows (1024, 129) by centroids (129, 256) ran at 12 GFLOP/s on an AMD EPYC of the first generation, and at 36 after a single
product that is large enough to touch the buffer.
"""

from __future__ import annotations

import functools

import numpy as np

_SIZE = 512


@functools.cache
def touch_blas_buffers() -> None:
    """Makes one product that touches the buffers, 10 to 20 ms; later calls do nothing."""
    square = np.ones((_SIZE, _SIZE), np.float32)
    np.matmul(square, square)
