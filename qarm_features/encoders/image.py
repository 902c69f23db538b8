"""Images become tokens: patches of a transformer trained here, or the last hidden states of a pretrained one.

In: B pictures as bytes or URIs. Out: ``Tokens`` of shape (B, N, D), N the patches of a picture.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from qarm_features.encoders.media import media_bytes
from qarm_features.encoders.patch_transformer import PatchTransformer, augment_images
from qarm_features.encoders.pictures import decode_picture, fit_picture, to_tensor
from qarm_features.encoders.pretrained import load_backbone, locate_backbone, preprocessor_config
from qarm_features.fusion.tokens import Tokens

_FROM_SCRATCH = "patch-transformer"
_BICUBIC = 3  # Pillow's number of the filter


class ImageEncoder(nn.Module):
    """Encodes images.

    Args:
        backbone: ``patch-transformer``, trained here, or a folder or Hugging Face name of a vision model; of a model of
            pictures and text (CLIP, SigLIP) the vision tower is used.
        sha256: The pretrained weights' expected hash; None accepts any.
        lora_rank: Rank of LoRA in a pretrained backbone's attention; 0 keeps it frozen.
        dim: D of ``patch-transformer``; a pretrained backbone has its own.
        image_size: Pixels of a side for ``patch-transformer``, a multiple of 8; a pretrained backbone has its own.
        media_roots: Folders and URI prefixes under which images may be read.
        max_media_bytes: Larger files are refused.
        max_image_pixels: Images of more pixels are refused, not decoded.

    Raises:
        ValueError: The backbone cannot be loaded, its hash differs, or ``image_size`` or ``dim`` does not fit.
    """

    def __init__(
        self,
        backbone: str,
        *,
        sha256: str | None = None,
        lora_rank: int = 0,
        dim: int = 128,
        image_size: int = 64,
        media_roots: Sequence[str] = (),
        max_media_bytes: int = 20_000_000,
        max_image_pixels: int = 50_000_000,
    ):
        super().__init__()
        self.from_scratch = backbone == _FROM_SCRATCH
        self.shortest_edge, self.resample = None, _BICUBIC
        if self.from_scratch:
            self.backbone = PatchTransformer(dim=dim, image_size=image_size)
            self.size, mean, std = (image_size, image_size), [0.5] * 3, [0.5] * 3
        else:
            self.backbone = load_backbone(
                backbone, setting="encoder.image_backbone", tower="vision_model", sha256=sha256, lora_rank=lora_rank
            )
            mean, std = self._prepare_as(preprocessor_config(locate_backbone(backbone), "image_processor"))
        self.register_buffer("mean", 255 * torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(std).view(3, 1, 1), persistent=False)
        self.trained = self.from_scratch or self.backbone.trained
        self.media_roots = tuple(media_roots)
        self.max_media_bytes, self.max_image_pixels = max_media_bytes, max_image_pixels
        own = {"dim": dim, "image_size": image_size} if self.from_scratch else {"lora_rank": lora_rank}
        self.config = {
            "backbone": backbone,
            "sha256": None if self.from_scratch else self.backbone.sha256,
            **own,
            "media_roots": list(media_roots),
            "max_media_bytes": max_media_bytes,
            "max_image_pixels": max_image_pixels,
        }

    @property
    def dim(self) -> int:
        """D of the tokens."""
        return self.backbone.dim

    def frozen_names(self) -> set[str]:
        """Returns the names in ``state_dict()`` that are restored by the backbone's name and hash."""
        return set() if self.from_scratch else {f"backbone.{name}" for name in self.backbone.frozen_names()}

    def decode(self, raw: bytes | str) -> Tensor:
        """Decodes one image.

        Args:
            raw: The bytes of a JPEG, PNG or WebP file, or the URI of one.

        Returns:
            (3, height, width) uint8, of the size that the backbone takes.

        Raises:
            BrokenContent: The image cannot be read, is too large, or is truncated or damaged.
        """
        content = media_bytes(raw, medium="image", roots=self.media_roots, max_bytes=self.max_media_bytes)
        draft = 2 * max(*self.size, self.shortest_edge or 0)
        picture = decode_picture(content, max_pixels=self.max_image_pixels, draft=draft)
        return to_tensor(fit_picture(picture, self.size, shortest_edge=self.shortest_edge, resample=self.resample))

    def forward(self, decoded: Sequence[Tensor]) -> Tokens:
        """Encodes B images; in training mode a backbone trained here sees them augmented.

        Args:
            decoded: B tensors (3, height, width) uint8.

        Returns:
            ``Tokens`` of shape (B, N, D).
        """
        images = torch.stack([*decoded]) if len(decoded) else torch.empty(0, 3, *self.size)
        images = images.to(self.mean.device).float()
        if self.from_scratch:
            if self.training and len(images):
                images = 255 * augment_images(images / 255)
            values = self.backbone((images - self.mean) / self.std)
        else:
            values = self.backbone(pixel_values=((images - self.mean) / self.std).to(self.backbone.dtype))
        return Tokens(values, torch.ones(values.shape[:2], dtype=torch.bool, device=values.device))

    def _prepare_as(self, given: dict) -> tuple[list[float], list[float]]:
        """Takes size, crop and filter of a preprocessor's configuration; returns its mean and standard deviation."""
        size, crop = given.get("size"), given.get("crop_size")
        self.resample = given.get("resample", _BICUBIC)
        edge = size.get("shortest_edge") if isinstance(size, dict) else None
        if given.get("do_center_crop") and crop is not None:
            self.size, self.shortest_edge = _height_width(crop), edge or min(_height_width(size or crop))
        else:
            self.size = _height_width(size if size is not None else self.backbone.model.config.image_size)
            self.shortest_edge = edge
        if given.get("do_normalize") is False:
            return [0.0] * 3, [1.0] * 3
        return given.get("image_mean") or [0.5] * 3, given.get("image_std") or [0.5] * 3


def _height_width(size: int | Sequence[int] | dict) -> tuple[int, int]:
    if isinstance(size, dict):
        edge = size.get("shortest_edge")
        return (edge, edge) if edge else (size["height"], size["width"])
    return (size, size) if isinstance(size, int) else tuple(size)
