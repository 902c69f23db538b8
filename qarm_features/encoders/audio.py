"""Audio becomes tokens: log-mel frames through a transformer trained here, or a pretrained backbone's hidden states.

In: B recordings as bytes or URIs. Out: ``Tokens`` of shape (B, N, D), N stretches of time of the first
``clip_seconds``. Every clip is padded to that length, so what it is encoded to does not depend on its batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from qarm_features.encoders import log_mel
from qarm_features.encoders.log_mel_transformer import (
    FRAMES_PER_TOKEN,
    LogMelTransformer,
    augment_frames,
    pad_frames,
    standardize,
    tokens_of,
)
from qarm_features.encoders.media import media_bytes
from qarm_features.encoders.pretrained import load_backbone, locate_backbone
from qarm_features.encoders.sound import decode_sound
from qarm_features.fusion.tokens import Tokens

_FROM_SCRATCH = "log-mel-transformer"


class AudioEncoder(nn.Module):
    """Encodes audio.

    Args:
        backbone: ``log-mel-transformer``, trained here, or a folder or Hugging Face name of an audio model that takes
            ``input_values`` or ``input_features``; of Whisper the encoder is used, of CLAP the audio tower.
        sha256: The pretrained weights' expected hash; None accepts any.
        lora_rank: Rank of LoRA in a pretrained backbone's attention; 0 keeps it frozen.
        dim: D of ``log-mel-transformer``; a pretrained backbone has its own.
        clip_seconds: Seconds that are encoded, from the start.
        max_audio_seconds: Longer recordings are refused, not decoded.
        media_roots: Folders and URI prefixes under which audio may be read.
        max_media_bytes: Larger files are refused.

    Raises:
        ValueError: The backbone cannot be loaded, its hash differs, or ``clip_seconds`` or ``dim`` does not fit.
    """

    def __init__(
        self,
        backbone: str,
        *,
        sha256: str | None = None,
        lora_rank: int = 0,
        dim: int = 128,
        clip_seconds: float = 5.0,
        max_audio_seconds: float = 600.0,
        media_roots: Sequence[str] = (),
        max_media_bytes: int = 20_000_000,
    ):
        super().__init__()
        if not 0 < clip_seconds <= max_audio_seconds:
            raise ValueError(f"encoder.clip_seconds is {clip_seconds}, must be above 0 and at most max_audio_seconds.")
        self.from_scratch = backbone == _FROM_SCRATCH
        if self.from_scratch:
            self.sample_rate, self.extractor = log_mel.SAMPLE_RATE, None
            frames = 1 + math.ceil(clip_seconds * self.sample_rate) // log_mel.HOP
            self.num_tokens = tokens_of(frames)
            self.backbone = LogMelTransformer(dim=dim, max_tokens=self.num_tokens)
        else:
            self.backbone = load_backbone(
                backbone, setting="encoder.audio_backbone", tower="audio_model", sha256=sha256, lora_rank=lora_rank
            )
            self.extractor = _load_extractor(backbone)
            self.sample_rate = self.extractor.sampling_rate
            clip_seconds = min(clip_seconds, getattr(self.extractor, "max_length_s", clip_seconds))
        self.trained = self.from_scratch or self.backbone.trained
        self.clip_seconds, self.max_audio_seconds = clip_seconds, max_audio_seconds
        self.media_roots, self.max_media_bytes = tuple(media_roots), max_media_bytes
        own = {"dim": dim} if self.from_scratch else {"lora_rank": lora_rank}
        self.config = {
            "backbone": backbone,
            "sha256": None if self.from_scratch else self.backbone.sha256,
            **own,
            "clip_seconds": clip_seconds,
            "max_audio_seconds": max_audio_seconds,
            "media_roots": list(media_roots),
            "max_media_bytes": max_media_bytes,
        }

    @property
    def dim(self) -> int:
        """D of the tokens."""
        return self.backbone.dim

    def frozen_names(self) -> set[str]:
        """Returns the names in ``state_dict()`` that are restored by the backbone's name and hash."""
        return set() if self.from_scratch else {f"backbone.{name}" for name in self.backbone.frozen_names()}

    def decode(self, raw: bytes | str) -> Tensor:
        """Decodes the first ``clip_seconds`` of one recording.

        Args:
            raw: The bytes of a WAV, FLAC or OGG file, or the URI of one.

        Returns:
            Log-mel frames (bands, frames) float16 for the backbone trained here, else a waveform (samples,) float32.

        Raises:
            BrokenContent: The recording cannot be read, is too long, or is truncated or damaged.
        """
        content = media_bytes(raw, medium="audio", roots=self.media_roots, max_bytes=self.max_media_bytes)
        waveform = torch.from_numpy(
            decode_sound(
                content,
                sample_rate=self.sample_rate,
                max_seconds=self.max_audio_seconds,
                clip_seconds=self.clip_seconds,
            )
        )
        return log_mel.log_mel(waveform).half() if self.from_scratch else waveform

    def forward(self, decoded: Sequence[Tensor]) -> Tokens:
        """Encodes B clips; in training mode a backbone trained here sees them augmented.

        Args:
            decoded: B values of ``decode``.

        Returns:
            ``Tokens`` of shape (B, N, D).
        """
        if not self.from_scratch:
            return self._forward_pretrained(decoded)
        frames, lengths = pad_frames([*decoded], FRAMES_PER_TOKEN * self.num_tokens)
        device = self.backbone.positions.device
        frames, lengths = frames.to(device), lengths.to(device)
        frames = standardize(frames, lengths)
        if self.training:
            frames = augment_frames(frames, lengths)
        mask = torch.arange(self.num_tokens, device=device) < tokens_of(lengths)[:, None]
        return Tokens(self.backbone(frames, mask), mask)

    def _forward_pretrained(self, decoded: Sequence[Tensor]) -> Tokens:
        options = {}
        if self.extractor.model_input_names[0] == "input_values":  # the others pad to a length of their own
            samples = math.ceil(self.clip_seconds * self.sample_rate)
            options = {"padding": "max_length", "max_length": samples, "truncation": True}
        clips = [clip.numpy() for clip in decoded]
        lengths = torch.tensor([len(clip) for clip in clips])
        inputs = self.extractor(clips, sampling_rate=self.sample_rate, return_tensors="pt", **options)
        inputs = {
            name: value.to(self.backbone.device, self.backbone.dtype if value.is_floating_point() else None)
            for name, value in inputs.items()
            if name in ("input_values", "input_features", "attention_mask", "is_longer")
        }
        values = self.backbone(**inputs)
        return Tokens(values, self._token_mask(lengths, values))

    def _token_mask(self, lengths: Tensor, values: Tensor) -> Tensor:
        """Marks the tokens (B, N) of the samples that stand; all of them where the backbone does not tell."""
        count = getattr(self.backbone.model, "_get_feat_extract_output_lengths", None)
        if count is None:
            return torch.ones(values.shape[:2], dtype=torch.bool, device=values.device)
        hop = getattr(self.extractor, "hop_length", 1)  # of those that take frames, not samples
        standing = count(torch.div(lengths, hop, rounding_mode="floor")).clamp(min=1).to(values.device)
        return torch.arange(values.shape[1], device=values.device) < standing[:, None]


def _load_extractor(backbone: str):
    from transformers import AutoFeatureExtractor

    try:
        return AutoFeatureExtractor.from_pretrained(locate_backbone(backbone), trust_remote_code=False)
    except (OSError, ValueError, ImportError, TypeError) as error:
        raise ValueError(
            f"encoder.audio_backbone is {backbone}, must hold preprocessor_config.json. transformers says: {error}"
        ) from error
