"""Define a small image backbone that alignment trains from scratch.

In: images (B, 3, S, S). Out: tokens (B, N, D) with N = (S / 8)^2. Two strided convolutions come before the patches,
because plain patches learn slowly from few images. Source: ViT, arXiv 2010.11929; early convolutions, arXiv 2106.14881.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from qarm_features.encoders.attention_blocks import attention_blocks

_PATCH = 8  # side of a patch in pixels; each patch becomes one token


class PatchTransformer(nn.Module):
    """Encode images by patches.

    Args:
        dim: D, a multiple of ``num_heads``.
        image_size: S, the side of an image in pixels, a multiple of 8.
        num_layers: Number of transformer blocks, at least 1.
        num_heads: H, at least 1.

    Raises:
        ValueError: ``image_size`` is not a multiple of 8, or ``dim`` is not a multiple of ``num_heads``.
    """

    def __init__(self, *, dim: int = 128, image_size: int = 64, num_layers: int = 6, num_heads: int = 4) -> None:
        super().__init__()
        if image_size < _PATCH or image_size % _PATCH:
            raise ValueError(f"image_size is {image_size}, must be a multiple of {_PATCH}.")
        if dim < 1 or dim % num_heads:
            raise ValueError(f"dim is {dim}, must be a multiple of num_heads, {num_heads}.")
        self.dim = dim
        self.stem = nn.Sequential(
            nn.Conv2d(3, 32, 3, stride=2, padding=1),
            nn.GroupNorm(4, 32),
            nn.GELU(),
            nn.Conv2d(32, 64, 3, stride=2, padding=1),
            nn.GroupNorm(8, 64),
            nn.GELU(),
        )
        self.patches = nn.Conv2d(64, dim, _PATCH // 4, stride=_PATCH // 4)
        self.positions = nn.Parameter(0.02 * torch.randn(dim, image_size // _PATCH, image_size // _PATCH))
        self.blocks = attention_blocks(dim, num_layers=num_layers, num_heads=num_heads)

    def forward(self, images: Tensor) -> Tensor:
        """Encode images.

        Args:
            images: Pixels (B, 3, S, S) float with mean near 0.

        Returns:
            Tokens (B, N, D).
        """
        grid = self.patches(self.stem(images)) + self.positions
        return self.blocks(grid.flatten(2).transpose(1, 2))


def augment_images(images: Tensor) -> Tensor:
    """Crop, mirror and change the colors of each image at random, in one batch on the device of the images.

    The crop covers 50 to 100% of the area at an aspect ratio of 3/4 to 4/3 and is resized to the original size. Half of
    the images are mirrored. Brightness, contrast and saturation change by up to 30%.

    Args:
        images: Pixels (B, 3, S, S) in [0, 1].

    Returns:
        Pixels (B, 3, S, S) in [0, 1].

    Source: random resized crop, arXiv 1409.4842; the set of augmentations, SimCLR, arXiv 2002.05709.
    """
    count = len(images)

    def draw(low: float, high: float) -> Tensor:
        return torch.empty(count, device=images.device).uniform_(low, high)

    area, ratio = draw(0.5, 1.0), draw(math.log(3 / 4), math.log(4 / 3)).exp()
    width, height = (area * ratio).sqrt().clamp(max=1.0), (area / ratio).sqrt().clamp(max=1.0)
    left, top = draw(-1, 1) * (1 - width), draw(-1, 1) * (1 - height)
    mirror = torch.where(draw(0, 1) < 0.5, -1.0, 1.0)
    zero = torch.zeros_like(width)
    affine = torch.stack(
        [torch.stack([width * mirror, zero, left], 1), torch.stack([zero, height, top], 1)], 1
    )  # (B, 2, 3)
    grid = functional.affine_grid(affine, list(images.shape), align_corners=False)
    images = functional.grid_sample(images, grid, padding_mode="reflection", align_corners=False)

    brightness, contrast, saturation = (draw(0.7, 1.3).view(-1, 1, 1, 1) for _ in range(3))
    images = images * brightness
    images = torch.lerp(images.mean((1, 2, 3), keepdim=True), images, contrast)
    return torch.lerp(images.mean(1, keepdim=True), images, saturation).clamp(0, 1)
