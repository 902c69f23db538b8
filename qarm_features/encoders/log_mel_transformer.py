"""Define a small audio backbone that alignment trains from scratch.

In: log-mel frames (B, bands, frames). Out: tokens (B, N, D), one for every eight frames (160 ms). Three strided
convolutions over (band, frame) come before the transformer. Source: AST, arXiv 2104.01778; early convolutions,
arXiv 2106.14881.
"""

from __future__ import annotations

import itertools
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from qarm_features.encoders.attention_blocks import attention_blocks
from qarm_features.encoders.log_mel import NUM_BANDS

FRAMES_PER_TOKEN = 8
Frames = TypeVar("Frames", int, Tensor)
_BANDS_LEFT = NUM_BANDS // 8


class LogMelTransformer(nn.Module):
    """Encode log-mel frames.

    Args:
        dim: D, a multiple of ``num_heads``.
        max_tokens: Greatest number of tokens of a clip, at least 1.
        num_layers: Number of transformer blocks, at least 1.
        num_heads: H, at least 1.

    Raises:
        ValueError: ``dim`` is not a multiple of ``num_heads``.
    """

    def __init__(self, *, dim: int = 128, max_tokens: int, num_layers: int = 2, num_heads: int = 4) -> None:
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
        """Encode clips.

        Args:
            frames: Frames (B, bands, frames) float with mean near 0; their number is a multiple of 8.
            mask: Mask (B, N) bool, True for a valid token.

        Returns:
            Tokens (B, N, D).
        """
        features = self.stem(frames[:, None])  # (B, C, bands / 8, N)
        tokens = self.project(features.flatten(1, 2).transpose(1, 2)) + self.positions[: features.shape[-1]]
        return self.blocks(tokens, src_key_padding_mask=~mask)


def standardize(frames: Tensor, lengths: Tensor) -> Tensor:
    """Shift and scale each clip to mean 0 and standard deviation 1, so that its loudness does not matter.

    Args:
        frames: Frames (B, bands, frames).
        lengths: Number of valid frames of each clip (B,).

    Returns:
        Frames (B, bands, frames); padding is 0.
    """
    valid = (torch.arange(frames.shape[-1], device=frames.device) < lengths[:, None])[:, None].to(frames.dtype)
    count = valid.sum((1, 2), keepdim=True) * frames.shape[1]
    mean = (frames * valid).sum((1, 2), keepdim=True) / count
    centered = (frames - mean) * valid
    return centered / (centered.square().sum((1, 2), keepdim=True) / count + 1e-2).sqrt()


def augment_frames(frames: Tensor, lengths: Tensor) -> Tensor:
    """Augment each clip: rotate it in time by a random number of frames, and mask random bands and frames.

    Two masks cover up to an eighth of the bands each, two others up to a fifth of the frames each.

    Args:
        frames: Standardized frames (B, bands, frames).
        lengths: Number of valid frames of each clip (B,).

    Returns:
        Frames (B, bands, frames).

    Source: SpecAugment, arXiv 1904.08779.
    """
    count, bands, total = frames.shape

    def draw(high: Tensor | float) -> Tensor:
        return torch.rand(count, 1, device=frames.device) * high

    frame = torch.arange(total, device=frames.device)[None]
    length = lengths[:, None]
    source = torch.where(frame < length, (frame + draw(length).long()) % length, frame)
    frames = frames.gather(2, source[:, None].expand_as(frames))
    band = torch.arange(bands, device=frames.device)[None]
    for _ in range(2):
        width = draw(bands / 8)
        start = draw(bands - width)
        frames = frames.masked_fill(((band >= start) & (band < start + width))[:, :, None], 0)
        width = draw(length / 5)
        start = draw(length - width)
        frames = frames.masked_fill(((frame >= start) & (frame < start + width))[:, None], 0)
    return frames


def pad_frames(clips: list[Tensor], num_frames: int) -> tuple[Tensor, Tensor]:
    """Stack B clips of log-mel frames, padded or cut to one length.

    Args:
        clips: B tensors (bands, frames of the clip), each of at least one frame.
        num_frames: Number of frames of the result; a longer clip is cut.

    Returns:
        Frames (B, bands, num_frames) float32 and the number of valid frames of each clip (B,).
    """
    cut = [clip[:, :num_frames].float() for clip in clips]
    padded = [functional.pad(clip, (0, num_frames - clip.shape[1])) for clip in cut]
    return torch.stack(padded), torch.tensor([clip.shape[1] for clip in cut])


def count_tokens(num_frames: Frames) -> Frames:
    """Return the number of tokens of a number of frames: one for every eight frames, the last one for the rest.

    Args:
        num_frames: A number, or numbers (B,) int64, at least 0.

    Returns:
        A number or numbers (B,), like ``num_frames``.
    """
    return (num_frames + FRAMES_PER_TOKEN - 1) // FRAMES_PER_TOKEN
