"""The matrix products of the nearest centroid on a GPU, by torch, with the same codes as on the CPU.

In: rows (B, D) and centroids (K, D), float32. Out: codes (B,), and the gap (B,) between the best two scores. If the gap
is too small for float32, ``lloyd`` decides the row in float64 on the CPU. Hence a GPU gives the same codes, although
its products are rounded in another way.
"""

from __future__ import annotations

import numpy as np

DEVICES = ("cpu", "cuda", "auto", "torch-cpu")
_SCORE_BYTES = 256 << 20  # size of the scores (rows, K) of one block of rows


def torch_device(name: str, *, gpu: int = 0) -> str | None:
    """Return the torch device that this process uses, or None for numpy.

    Args:
        name: ``cpu`` (numpy), ``cuda``, ``auto`` (a GPU if there is one, else numpy) or ``torch-cpu``.
        gpu: Index of the GPU to use, at least 0.

    Raises:
        RuntimeError: The name is ``cuda`` and torch sees no GPU.
        ImportError: The name asks for torch, which is not installed.

    Example:
        >>> torch_device("cpu") is None
        True
    """
    if name in ("cpu", "torch-cpu"):
        return None if name == "cpu" else "cpu"
    try:
        import torch
    except ImportError as error:
        raise ImportError(
            f"device is {name}, which needs torch. Install it: pip install 'qarm-features[torch]'"
        ) from error

    if not torch.cuda.is_available():
        if name == "auto":
            return None
        raise RuntimeError("device is cuda, but torch finds no GPU on this executor. Set it to auto or cpu.")
    return f"cuda:{gpu}"


def nearest_by_torch(embeddings: np.ndarray, centroids: np.ndarray, device: str) -> tuple[np.ndarray, np.ndarray]:
    """Find the nearest centroid of each row.

    Args:
        embeddings: Rows (B, D) float32, finite.
        centroids: Centroids (K, D) float32, finite, K at least 2.
        device: Device of torch, such as ``cuda:0``.

    Returns:
        Codes (B,) int32 in [0, K), and the gap (B,) float32 to the score of the second nearest centroid. The score is
        ||c||^2 - 2 x.c.
    """
    import torch

    torch.set_float32_matmul_precision("highest")  # the bound on rounding errors holds for float32, not for TF32
    squares = np.einsum("kd,kd->k", centroids, centroids, dtype=np.float64).astype(np.float32)
    biases, factors = (torch.from_numpy(values).to(device) for values in (squares, -2 * centroids.T))
    codes, gaps = np.empty(len(embeddings), np.int32), np.empty(len(embeddings), np.float32)
    size = max(1, _SCORE_BYTES // (4 * len(centroids)))
    for start in range(0, len(embeddings), size):
        rows = torch.tensor(embeddings[start : start + size], device=device)
        best = torch.addmm(biases, rows, factors).topk(2, dim=1, largest=False)
        codes[start : start + size] = best.indices[:, 0].cpu().numpy()
        gaps[start : start + size] = (best.values[:, 1] - best.values[:, 0]).cpu().numpy()
    return codes, gaps
