"""Encode audio: by a transformer over log-mel frames that is trained from scratch, or by a pretrained backbone.

In: B recordings as bytes or URIs. Out: ``Tokens`` of shape (B, N, D); each token covers a stretch of the first
``clip_seconds``. Every clip is padded to that length, so its tokens do not depend on the other clips of the batch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from qarm_features.encoders import log_mel
from qarm_features.encoders.backbone_files import (
    CONFIG_FILES,
    PROCESSOR_FILES,
    pin_backbone,
    pins,
    place_of,
    recorded_files,
)
from qarm_features.encoders.log_mel_transformer import (
    FRAMES_PER_TOKEN,
    LogMelTransformer,
    augment_frames,
    count_tokens,
    pad_frames,
    standardize,
)
from qarm_features.encoders.media_limits import AudioLimits, decode_audio
from qarm_features.encoders.pretrained import PretrainedBackbone, load_backbone
from qarm_features.fusion.tokens import Tokens

_FROM_SCRATCH = "log-mel-transformer"


class AudioEncoder(nn.Module):
    """Encode audio.

    Args:
        backbone: ``log-mel-transformer``, which is trained from scratch, or a folder or Hugging Face name of an audio
            model that takes ``input_values`` or ``input_features``. For Whisper its encoder is used, for CLAP its audio
            tower.
        sha256: Expected hash of the pretrained weights; None accepts any weights.
        revision: Commit of the hub to load; None takes the one that the name stands for.
        files: Expected SHA-256 of the files of preprocessing and configuration, by name; None accepts any.
        lora_rank: Rank of LoRA in the attention of a pretrained backbone; 0 keeps the backbone frozen.
        dim: D of ``log-mel-transformer``; a pretrained backbone has its own D.
        clip_seconds: Length of the encoded clip from the start of the recording, in seconds.
        max_audio_seconds: Greatest length of a recording, in seconds; a longer one is refused without being decoded.
        media_roots: Folders and URI prefixes under which audio may be read.
        max_media_bytes: Greatest size of a file, in bytes; a larger one is refused.
        max_decoded_bytes: Greatest number of bytes that decoding one recording may need.
        max_decode_seconds: Longest processor time of decoding one recording, in seconds.

    Raises:
        ValueError: The backbone cannot be loaded, its hash differs, or ``clip_seconds`` or ``dim`` is out of range.

    Example:
        >>> import io, numpy, soundfile
        >>> file = io.BytesIO()
        >>> soundfile.write(file, numpy.sin(numpy.arange(8000) / 5), 8000, format="WAV")
        >>> encoder = AudioEncoder("log-mel-transformer", dim=16, clip_seconds=2.0).eval()
        >>> tokens = encoder([encoder.decode(file.getvalue())])
        >>> tuple(tokens.values.shape), int(tokens.mask.sum())
        ((1, 13, 16), 7)
    """

    def __init__(
        self,
        backbone: str,
        *,
        sha256: str | None = None,
        revision: str | None = None,
        files: Mapping[str, str] | None = None,
        lora_rank: int = 0,
        dim: int = 128,
        clip_seconds: float = 5.0,
        max_audio_seconds: float = 600.0,
        media_roots: Sequence[str] = (),
        max_media_bytes: int = 20_000_000,
        max_decoded_bytes: int = 400_000_000,
        max_decode_seconds: float = 10.0,
    ) -> None:
        super().__init__()
        if not 0 < clip_seconds <= max_audio_seconds:
            raise ValueError(f"encoder.clip_seconds is {clip_seconds}, must be above 0 and at most max_audio_seconds.")
        self.backbone: LogMelTransformer | PretrainedBackbone
        self.extractor: Any = None
        self.from_scratch = backbone == _FROM_SCRATCH
        own: dict[str, Any]
        if self.from_scratch:
            self.sample_rate: int = log_mel.SAMPLE_RATE
            frames = 1 + math.ceil(clip_seconds * self.sample_rate) // log_mel.HOP
            self.num_tokens = count_tokens(frames)
            self.backbone = LogMelTransformer(dim=dim, max_tokens=self.num_tokens)
            self.trained, loaded_sha256, own = True, None, {"dim": dim}
        else:
            setting = "encoder.audio_backbone"
            pinned, revision = pin_backbone(backbone, revision, setting=setting)
            self.backbone = load_backbone(
                pinned, setting=setting, tower="audio_model", sha256=sha256, lora_rank=lora_rank
            )
            self.extractor = _load_extractor(pinned)
            self.sample_rate = self.extractor.sampling_rate
            clip_seconds = min(clip_seconds, getattr(self.extractor, "max_length_s", clip_seconds))
            self.trained, loaded_sha256 = self.backbone.trained, self.backbone.sha256
            files = recorded_files(pinned, (*CONFIG_FILES, *PROCESSOR_FILES), recorded=files, setting=setting)
            own = {"lora_rank": lora_rank, **pins(revision, files)}
        self.clip_seconds = clip_seconds
        self.limits = AudioLimits(
            tuple(media_roots), max_media_bytes, max_audio_seconds, max_decoded_bytes, max_decode_seconds
        )
        self.config: dict[str, Any] = {
            "backbone": backbone,
            "sha256": loaded_sha256,
            **own,
            "clip_seconds": clip_seconds,
            **self.limits.as_arguments(),
        }

    @property
    def dim(self) -> int:
        """Return D, the dimension of the tokens."""
        return self.backbone.dim

    def frozen_names(self) -> set[str]:
        """Return the names in ``state_dict()`` that are not saved, because the backbone's name and hash restore them."""
        if isinstance(self.backbone, LogMelTransformer):
            return set()
        return {f"backbone.{name}" for name in self.backbone.frozen_names()}

    def decode(self, raw: bytes | str) -> Tensor:
        """Decode the first ``clip_seconds`` of one recording.

        Args:
            raw: The bytes of a WAV, FLAC or OGG file, or the URI of such a file.

        Returns:
            Log-mel frames (bands, frames) float16 for the backbone trained from scratch, else a waveform (samples,)
            float32.

        Raises:
            BrokenContent: The recording cannot be read, is too long, or is truncated or damaged.
        """
        clip = decode_audio(raw, self.limits, sample_rate=self.sample_rate, clip_seconds=self.clip_seconds)
        waveform = torch.from_numpy(clip)
        return log_mel.log_mel(waveform).half() if self.from_scratch else waveform

    def forward(self, decoded: Sequence[Tensor]) -> Tokens:
        """Encode B clips; in training mode the clips are augmented for a backbone that is trained from scratch.

        Args:
            decoded: B values that ``decode`` returned.

        Returns:
            ``Tokens`` of shape (B, N, D).
        """
        if isinstance(self.backbone, PretrainedBackbone):
            return self._forward_pretrained(decoded, self.backbone)
        frames, lengths = pad_frames([*decoded], FRAMES_PER_TOKEN * self.num_tokens)
        device = self.backbone.positions.device
        frames, lengths = frames.to(device), lengths.to(device)
        frames = standardize(frames, lengths)
        if self.training:
            frames = augment_frames(frames, lengths)
        mask = torch.arange(self.num_tokens, device=device) < count_tokens(lengths)[:, None]
        return Tokens(self.backbone(frames, mask), mask)

    def _forward_pretrained(self, decoded: Sequence[Tensor], backbone: PretrainedBackbone) -> Tokens:
        options: dict[str, Any] = {}
        if self.extractor.model_input_names[0] == "input_values":  # other extractors pad to a fixed length by default
            samples = math.ceil(self.clip_seconds * self.sample_rate)
            options = {"padding": "max_length", "max_length": samples, "truncation": True}
        clips = [clip.numpy() for clip in decoded]
        lengths = torch.tensor([len(clip) for clip in clips])
        inputs = self.extractor(clips, sampling_rate=self.sample_rate, return_tensors="pt", **options)
        inputs = {
            name: value.to(backbone.device, backbone.dtype if value.is_floating_point() else None)
            for name, value in inputs.items()
            if name in ("input_values", "input_features", "attention_mask", "is_longer")
        }
        values = backbone(**inputs)
        return Tokens(values, self._token_mask(lengths, values, backbone))

    def _token_mask(self, lengths: Tensor, values: Tensor, backbone: PretrainedBackbone) -> Tensor:
        """Return the mask (B, N) of tokens that cover sound; all True where the backbone cannot map samples to tokens."""
        count = getattr(backbone.model, "_get_feat_extract_output_lengths", None)
        if count is None:
            return torch.ones(values.shape[:2], dtype=torch.bool, device=values.device)
        hop = getattr(self.extractor, "hop_length", 1)  # set where the backbone counts frames instead of samples
        num_valid = count(torch.div(lengths, hop, rounding_mode="floor")).clamp(min=1).to(values.device)
        return torch.arange(values.shape[1], device=values.device) < num_valid[:, None]


def _load_extractor(backbone: str) -> Any:
    from transformers import AutoFeatureExtractor

    place = place_of(backbone, setting="encoder.audio_backbone")
    try:
        return AutoFeatureExtractor.from_pretrained(place.where, trust_remote_code=False, **place.options())
    except (OSError, ValueError, ImportError, TypeError) as error:
        raise ValueError(
            f"encoder.audio_backbone is {backbone}, must hold preprocessor_config.json. transformers says: {error}"
        ) from error
