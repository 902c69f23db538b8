"""A small audio backbone that is trained here, by alignment, from nothing.

In: log-mel frames (B, bands, frames). Out: tokens (B, N, D), one for every eight frames (160 ms). Three strided
convolutions over (band, frame) come before the transformer. Source: AST, arXiv 2104.01778, with early convolutions,
arXiv 2106.14881.
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from qarm_features.encoders.attention_blocks import attention_blocks
from qarm_features.encoders.log_mel import NUM_BANDS

FRAMES_PER_TOKEN = 8
_BANDS_LEFT = NUM_BANDS // 8


class LogMelTransformer(nn.Module):
    """Encodes log-mel frames.

    Args:
        dim: D, a multiple of ``num_heads``.
        max_tokens: Most tokens of a clip, at least 1.
        num_layers: Transformer blocks.
        num_heads: H.

    Raises:
        ValueError: ``dim`` is no such multiple.
    """

    def __init__(self, *, dim: int = 128, max_tokens: int, num_layers: int = 2, num_heads: int = 4):
        super().__init__()
        if dim < 1 or dim % num_heads:
            raise ValueError(f"dim is {dim}, must be a multiple of num_heads, {num_heads}.")
        self.dim = dim
        widths = (1, 16, 32, 64)
        self.stem = nn.Sequential(
            *(
                layer
                for before, after in itertools.pairwise(widths)
                for layer in (nn.Conv2d(before, after, 3, stride=2, padding=1), nn.GroupNorm(8, after), nn.GELU())
            )
        )
        self.project = nn.Linear(widths[-1] * _BANDS_LEFT, dim)
        self.positions = nn.Parameter(0.02 * torch.randn(max_tokens, dim))
        self.blocks = attention_blocks(dim, num_layers=num_layers, num_heads=num_heads)

    def forward(self, frames: Tensor, mask: Tensor) -> Tensor:
        """Encodes clips.

        Args:
            frames: (B, bands, frames) float, about zero; frames a multiple of 8.
            mask: (B, N) bool, True where a token stands.

        Returns:
            (B, N, D).
        """
        features = self.stem(frames[:, None])  # (B, C, bands / 8, N)
        tokens = self.project(features.flatten(1, 2).transpose(1, 2)) + self.positions[: features.shape[-1]]
        return self.blocks(tokens, src_key_padding_mask=~mask)


def standardize(frames: Tensor, lengths: Tensor) -> Tensor:
    """Shifts and scales each clip to mean 0 and standard deviation 1, whatever its loudness; padding becomes 0.

    Args:
        frames: (B, bands, frames).
        lengths: (B,) frames that stand in each clip.

    Returns:
        (B, bands, frames).
    """
    stands = (torch.arange(frames.shape[-1], device=frames.device) < lengths[:, None])[:, None].to(frames.dtype)
    count = stands.sum((1, 2), keepdim=True) * frames.shape[1]
    mean = (frames * stands).sum((1, 2), keepdim=True) / count
    centered = (frames - mean) * stands
    return centered / (centered.square().sum((1, 2), keepdim=True) / count + 1e-2).sqrt()


def augment_frames(frames: Tensor, lengths: Tensor) -> Tensor:
    """Draws, for every clip, a shift in time (around the end), and masks of bands and frames (SpecAugment).

    Args:
        frames: (B, bands, frames), standardized.
        lengths: (B,) frames that stand in each clip.

    Returns:
        (B, bands, frames).

    Source: SpecAugment, arXiv 1904.08779: two masks of up to an eighth of the bands, two of up to a fifth of the frames.
    """
    count, bands, total = frames.shape

    def draw(high: Tensor | float) -> Tensor:
        return torch.rand(count, 1, device=frames.device) * high

    at = torch.arange(total, device=frames.device)[None]
    long = lengths[:, None]
    source = torch.where(at < long, (at + draw(long).long()) % long, at)
    frames = frames.gather(2, source[:, None].expand_as(frames))
    band = torch.arange(bands, device=frames.device)[None]
    for _ in range(2):
        width = draw(bands / 8)
        start = draw(bands - width)
        frames = frames.masked_fill(((band >= start) & (band < start + width))[:, :, None], 0)
        width = draw(long / 5)
        start = draw(long - width)
        frames = frames.masked_fill(((at >= start) & (at < start + width))[:, None], 0)
    return frames


def pad_frames(clips: list[Tensor], frames: int) -> tuple[Tensor, Tensor]:
    """Stacks B clips of log-mel frames.

    Args:
        clips: B tensors (bands, frames of the clip), each of at least one frame.
        frames: Frames of the result; a longer clip is cut.

    Returns:
        (B, bands, frames) float32 and the lengths (B,).
    """
    cut = [clip[:, :frames].float() for clip in clips]
    padded = [functional.pad(clip, (0, frames - clip.shape[1])) for clip in cut]
    return torch.stack(padded), torch.tensor([clip.shape[1] for clip in cut])


def tokens_of(frames: int | Tensor) -> int | Tensor:
    """Returns how many tokens so many frames make: one for every eight that have begun."""
    if isinstance(frames, int):
        return math.ceil(frames / FRAMES_PER_TOKEN)
    return torch.div(frames + FRAMES_PER_TOKEN - 1, FRAMES_PER_TOKEN, rounding_mode="floor")
