"""Encode images: by a patch transformer that is trained from scratch, or by a pretrained vision model.

In: B images as bytes or URIs. Out: ``Tokens`` of shape (B, N, D); N is the number of patches of an image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from qarm_features.encoders.backbone_files import CONFIG_FILES, PROCESSOR_FILES, pin_backbone, pins, recorded_files
from qarm_features.encoders.media_limits import ImageLimits, decode_image, to_tensor
from qarm_features.encoders.patch_transformer import PatchTransformer, augment_images
from qarm_features.encoders.pretrained import PretrainedBackbone, load_backbone, preprocessor_config
from qarm_features.fusion.tokens import Tokens

_FROM_SCRATCH = "patch-transformer"
_BICUBIC = 3  # Pillow's number of the bicubic filter


class ImageEncoder(nn.Module):
    """Encode images.

    Args:
        backbone: ``patch-transformer``, which is trained from scratch, or a folder or Hugging Face name of a vision
            model. For a model of images and text (CLIP, SigLIP) its vision tower is used.
        sha256: Expected hash of the pretrained weights; None accepts any weights.
        revision: Commit of the hub to load; None takes the one that the name stands for.
        files: Expected SHA-256 of the files of preprocessing and configuration, by name; None accepts any.
        lora_rank: Rank of LoRA in the attention of a pretrained backbone; 0 keeps the backbone frozen.
        dim: D of ``patch-transformer``; a pretrained backbone has its own D.
        image_size: Side of an image for ``patch-transformer`` in pixels, a multiple of 8; a pretrained backbone has its
            own size.
        media_roots: Folders and URI prefixes under which images may be read.
        max_media_bytes: Greatest size of a file, in bytes; a larger one is refused.
        max_image_pixels: Greatest number of pixels of an image; a larger one is refused without being decoded.
        max_image_scans: Greatest number of scans of a progressive JPEG; one with more is refused without being decoded.
        max_decoded_bytes: Greatest number of bytes that decoding one image may need.
        max_decode_seconds: Longest processor time of decoding one image, in seconds.

    Raises:
        ValueError: The backbone cannot be loaded, its hash differs, or ``image_size`` or ``dim`` is out of range.

    Example:
        >>> import io
        >>> from PIL import Image
        >>> file = io.BytesIO()
        >>> Image.new("RGB", (40, 30), "red").save(file, "PNG")
        >>> encoder = ImageEncoder("patch-transformer", dim=16, image_size=32).eval()
        >>> tokens = encoder([encoder.decode(file.getvalue())])
        >>> tuple(tokens.values.shape)
        (1, 16, 16)
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        backbone: str,
        *,
        sha256: str | None = None,
        revision: str | None = None,
        files: Mapping[str, str] | None = None,
        lora_rank: int = 0,
        dim: int = 128,
        image_size: int = 64,
        media_roots: Sequence[str] = (),
        max_media_bytes: int = 20_000_000,
        max_image_pixels: int = 50_000_000,
        max_image_scans: int = 64,
        max_decoded_bytes: int = 400_000_000,
        max_decode_seconds: float = 10.0,
    ) -> None:
        super().__init__()
        self.backbone: PatchTransformer | PretrainedBackbone
        self.size: tuple[int, int]
        self.shortest_edge: int | None = None
        self.resample: int = _BICUBIC
        self.from_scratch = backbone == _FROM_SCRATCH
        own: dict[str, Any]
        if self.from_scratch:
            self.backbone = PatchTransformer(dim=dim, image_size=image_size)
            self.size, mean, std = (image_size, image_size), [0.5] * 3, [0.5] * 3
            self.trained, loaded_sha256, own = True, None, {"dim": dim, "image_size": image_size}
        else:
            setting = "encoder.image_backbone"
            pinned, revision = pin_backbone(backbone, revision, setting=setting)
            self.backbone = load_backbone(
                pinned, setting=setting, tower="vision_model", sha256=sha256, lora_rank=lora_rank
            )
            preprocessing = preprocessor_config(pinned, "image_processor")
            mean, std = self._set_preprocessing(preprocessing, self.backbone.model.config)
            self.trained, loaded_sha256 = self.backbone.trained, self.backbone.sha256
            files = recorded_files(pinned, (*CONFIG_FILES, *PROCESSOR_FILES), recorded=files, setting=setting)
            own = {"lora_rank": lora_rank, **pins(revision, files)}
        self.register_buffer("mean", 255 * torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(std).view(3, 1, 1), persistent=False)
        self.limits = ImageLimits(
            tuple(media_roots),
            max_media_bytes,
            max_image_pixels,
            max_image_scans,
            max_decoded_bytes,
            max_decode_seconds,
        )
        self.config: dict[str, Any] = {
            "backbone": backbone,
            "sha256": loaded_sha256,
            **own,
            **self.limits.as_arguments(),
        }

    @property
    def dim(self) -> int:
        """Return D, the dimension of the tokens."""
        return self.backbone.dim

    def frozen_names(self) -> set[str]:
        """Return the names in ``state_dict()`` that are not saved, because the backbone's name and hash restore them."""
        if isinstance(self.backbone, PatchTransformer):
            return set()
        return {f"backbone.{name}" for name in self.backbone.frozen_names()}

    def decode(self, raw: bytes | str) -> Tensor:
        """Decode one image.

        Args:
            raw: The bytes of a JPEG, PNG or WebP file, or the URI of such a file.

        Returns:
            Pixels (3, height, width) uint8, of the size that the backbone takes.

        Raises:
            BrokenContent: The image cannot be read, is too large, or is truncated or damaged.
        """
        pixels = decode_image(
            raw, self.limits, size=self.size, shortest_edge=self.shortest_edge, resample=self.resample
        )
        return to_tensor(pixels)

    def forward(self, decoded: Sequence[Tensor]) -> Tokens:
        """Encode B images; in training mode the images are augmented for a backbone that is trained from scratch.

        Args:
            decoded: B tensors (3, height, width) uint8, as ``decode`` returns them.

        Returns:
            ``Tokens`` of shape (B, N, D).
        """
        images = torch.stack([*decoded]) if len(decoded) else torch.empty(0, 3, *self.size)
        images = images.to(self.mean.device).float()
        if isinstance(self.backbone, PatchTransformer):
            if self.training and len(images):
                images = 255 * augment_images(images / 255)
            values = self.backbone((images - self.mean) / self.std)
        else:
            values = self.backbone(pixel_values=((images - self.mean) / self.std).to(self.backbone.dtype))
        return Tokens(values, torch.ones(values.shape[:2], dtype=torch.bool, device=values.device))

    def _set_preprocessing(self, given: Mapping[str, Any], model_config: Any) -> tuple[list[float], list[float]]:
        """Set size, crop and filter from a preprocessor's configuration, and return its mean and standard deviation."""
        size, crop = given.get("size"), given.get("crop_size")
        self.resample = given.get("resample", _BICUBIC)
        edge = size.get("shortest_edge") if isinstance(size, dict) else None
        if given.get("do_center_crop") and crop is not None:
            self.size, self.shortest_edge = _height_width(crop), edge or min(_height_width(size or crop))
        else:
            self.size = _height_width(size if size is not None else model_config.image_size)
            self.shortest_edge = edge
        if given.get("do_normalize") is False:
            return [0.0] * 3, [1.0] * 3
        return given.get("image_mean") or [0.5] * 3, given.get("image_std") or [0.5] * 3


def _height_width(size: int | Sequence[int] | dict[str, int]) -> tuple[int, int]:
    """Return height and width in pixels from the forms in which preprocessors name a size."""
    if isinstance(size, dict):
        edge = size.get("shortest_edge")
        return (edge, edge) if edge else (size["height"], size["width"])
    if isinstance(size, int):
        return size, size
    height, width = size
    return height, width
