"""One ``Table`` per Delta table: its key, its columns, what each of them means and which job writes it.

In: nothing. Out: names that jobs and the `Warehouse` share. A new column is one line here.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Column:
    """A column: its Spark type, where ``<item_id>`` and ``<user_id>`` stand for the ID types of the settings.

    An optional one came later than its table: it is null in rows that lack it and in tables from before.
    """

    name: str
    type: str
    doc: str
    optional: bool = False


@dataclass(frozen=True)
class Table:
    """A Delta table: a row per ``key``, the job that writes it, and what each column means."""

    name: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]
    written_by: str
    doc: str
    partition_by: tuple[str, ...] = ()

    def column(self, name: str) -> Column:
        """Returns the column called ``name``."""
        return next(column for column in self.columns if column.name == name)


_ITEM_ID = Column("item_id", "<item_id>", "The item, as the catalog names it.")
_USER_ID = Column("user_id", "<user_id>", "The user, as the click log names them.")
_ENCODER_VERSION = Column("encoder_version", "int", "The encoder that made the embedding, from 0.")
_JUST_AFTER = Column(
    "event_timestamp", "timestamp", "One microsecond after the last of them: a join at t sees only before t."
)
_CODEBOOK_VERSION = Column("codebook_version", "int", "The codebooks that the codes belong to, from 0.")

ITEMS = Table(
    "items",
    ("item_id",),
    (
        _ITEM_ID,
        Column("title", "string", "What a person is shown; may be null."),
        Column("text", "string", "What the text encoder reads; null where the item has none."),
        Column("image", "binary", "JPEG, PNG or WebP; null where none or where image_uri says where it lies."),
        Column("image_uri", "string", "Where the image lies, under encoder.media_roots."),
        Column("audio", "binary", "WAV, FLAC or OGG; null where none or where audio_uri says where it lies."),
        Column("audio_uri", "string", "Where the audio lies, under encoder.media_roots."),
        Column("precomputed", "array<float>", "A vector of the user's own, of items.precomputed_dim numbers."),
        Column(
            "content_hash",
            "string",
            "SHA-256 of the content, of a local file its size and time; unchanged: not encoded again.",
        ),
    ),
    "ingest-catalog",
    "The catalog.",
)
ITEM_CONTENT = ("text", "image", "image_uri", "audio", "audio_uri", "precomputed")  # what encoders read of an item
INTERACTIONS = Table(
    "interactions",
    ("user_id", "item_id", "event_timestamp"),
    (
        _USER_ID,
        _ITEM_ID,
        Column("event_timestamp", "timestamp", "When it happened, UTC."),
        Column("label", "int", "1 positive, 0 negative."),
    ),
    "ingest-catalog",
    "The click log: labeled impressions.",
)
ITEM_PAIRS = Table(
    "item_pairs",
    ("trigger_item_id", "target_item_id", "source"),
    (
        Column("trigger_item_id", "<item_id>", "An item of the user's past."),
        Column("target_item_id", "<item_id>", "The item that users find similar to it."),
        Column(
            "source", "string", "item-to-item (Swing) or user-to-item (most similar among a user's latest positives)."
        ),
        Column("weight", "double", "Above 0: Swing's score, or the number of users who made the pair."),
        Column("event_timestamp", "timestamp", "The latest interaction that supports the pair."),
    ),
    "mine-item-pairs",
    "Positive pairs that align the item encoder.",
    partition_by=("source",),
)
REJECTED_ROWS = Table(
    "rejected_rows",
    (),
    (
        Column("table", "string", "The table that the row was meant for."),
        Column("row", "string", "The row as it came, as JSON."),
        Column("reason", "string", "Why it was rejected."),
    ),
    "ingest-catalog",
    "Rows that could not be used. Rows in = rows out + rows rejected.",
    partition_by=("table",),
)
ITEM_EMBEDDINGS = Table(
    "item_embeddings",
    ("item_id", "encoder_version"),
    (
        _ITEM_ID,
        Column("embedding", "array<float>", "(D,), unit L2 norm."),
        Column("content_hash", "string", "Of the content that was encoded."),
        _ENCODER_VERSION,
    ),
    "embed-items",
    "Item embeddings by encoder version.",
    partition_by=("encoder_version",),
)
ITEM_CONTENT_TOKENS = Table(
    "item_content_tokens",
    ("item_id", "backbones"),
    (
        _ITEM_ID,
        Column("modalities", "array<string>", "The modalities that the backbones read, M of them."),
        Column("dims", "array<int>", "D of the tokens of each modality."),
        Column("num_tokens", "array<int>", "N of each modality, 0 where the item lacks it."),
        Column("tokens", "binary", "(N, D) float16, little-endian, of one modality after the other."),
        Column("content_hash", "string", "Of the content that was encoded."),
        Column("backbones", "string", "Fingerprint of what made the tokens: weights, settings, most tokens kept."),
    ),
    "write-content-tokens",
    "What frozen backbones see of an item: the input of a Fusion-Q-Former that a ranking model trains.",
    partition_by=("backbones",),
)
ITEM_SEMANTIC_IDS = Table(
    "item_semantic_ids",
    ("item_id", "codebook_version"),
    (
        _ITEM_ID,
        Column("rq_codes", "array<int>", "The semantic ID: L codes in [0, K)."),
        _CODEBOOK_VERSION,
        _ENCODER_VERSION,
        Column("event_timestamp", "timestamp", "1970-01-01: a semantic ID holds for every time of its item."),
        Column("collision_index", "int", "Place among the items of its semantic ID, from 0.", optional=True),
    ),
    "assign-semantic-ids",
    "Semantic IDs by codebook version. A row once written never changes.",
    partition_by=("codebook_version",),
)
ITEM_NEAREST_ITEMS = Table(
    "item_nearest_items",
    ("item_id", "bank_version"),
    (
        _ITEM_ID,
        Column("vq_codes", "array<<item_id>>", "The VQ code: at most k nearest items of the bank, the nearest first."),
        Column("vq_similarities", "array<float>", "Their inner products with the item."),
        Column("bank_version", "int", "The frozen bank that was searched, from 0."),
        _ENCODER_VERSION,
        Column("event_timestamp", "timestamp", "1970-01-01: a VQ code holds for every time of its item."),
    ),
    "find-nearest-items",
    "VQ codes by bank version. A row once written never changes.",
    partition_by=("bank_version",),
)
USER_BEHAVIOR = Table(
    "user_behavior",
    ("user_id", "event_timestamp"),
    (
        _USER_ID,
        Column("behavior_item_ids", "array<<item_id>>", "The latest T positive items, the latest last."),
        Column("behavior_timestamps", "array<bigint>", "Their times, seconds since 1970."),
        _JUST_AFTER,
    ),
    "build-user-behavior",
    "A row for every moment at which a user's behavior sequence changed.",
)
USER_IMPRESSIONS = Table(
    "user_impressions",
    ("user_id", "event_timestamp"),
    (
        _USER_ID,
        Column("impression_item_ids", "array<<item_id>>", "The latest T2 items shown, the latest last."),
        Column("impression_labels", "array<int>", "Their labels: 1 positive, 0 negative."),
        Column("impression_timestamps", "array<bigint>", "Their times, seconds since 1970."),
        Column("user_positive_count", "bigint", "All positives of the user up to then."),
        Column("user_impression_count", "bigint", "All impressions of the user up to then."),
        _JUST_AFTER,
    ),
    "build-user-behavior",
    "A row for every moment at which a user was shown something; empty where behavior.impression_length is 0.",
)
ITEM_COUNTERS = Table(
    "item_counters",
    ("item_id", "event_timestamp"),
    (
        _ITEM_ID,
        Column("item_positive_count", "bigint", "All positives of the item up to then."),
        Column("item_impression_count", "bigint", "All impressions of the item up to then."),
        _JUST_AFTER,
    ),
    "build-user-behavior",
    "A row for every moment at which an item was shown; empty where behavior.impression_length is 0.",
)
TRAINING_ROWS = Table(
    "training_rows",
    ("user_id", "item_id", "event_timestamp", "codebook_version"),
    (
        _USER_ID,
        _ITEM_ID,
        Column("event_timestamp", "timestamp", "When the item was shown."),
        Column("label", "int", "1 positive, 0 negative."),
        Column("item_codes", "array<int>", "The target's L codes; null where it has none."),
        Column("behavior_item_ids", "array<<item_id>>", "The user's latest items strictly before; null where none."),
        Column("behavior_codes", "array<int>", "Their codes, flattened, L per item, -1 where an item has none."),
        Column("behavior_timestamps", "array<bigint>", "Their times, seconds since 1970.", optional=True),
        Column(
            "impression_item_ids", "array<<item_id>>", "The latest shown strictly before; null: none.", optional=True
        ),
        Column("impression_labels", "array<int>", "Their labels.", optional=True),
        Column("impression_timestamps", "array<bigint>", "Their times, seconds since 1970.", optional=True),
        Column("impression_codes", "array<int>", "Their codes, as those of behavior.", optional=True),
        Column("user_positive_count", "bigint", "Positives of the user strictly before.", optional=True),
        Column("user_impression_count", "bigint", "Impressions of the user strictly before.", optional=True),
        Column("item_positive_count", "bigint", "Positives of the target strictly before.", optional=True),
        Column("item_impression_count", "bigint", "Impressions of the target strictly before.", optional=True),
        Column("split", "string", "train, valid or test, by time."),
        _CODEBOOK_VERSION,
    ),
    "build-training-set",
    "Labeled impressions with the features as they were at that time.",
    partition_by=("codebook_version", "split"),
)
TABLES = (
    ITEMS,
    INTERACTIONS,
    REJECTED_ROWS,
    ITEM_PAIRS,
    ITEM_EMBEDDINGS,
    ITEM_CONTENT_TOKENS,
    ITEM_SEMANTIC_IDS,
    ITEM_NEAREST_ITEMS,
    USER_BEHAVIOR,
    USER_IMPRESSIONS,
    ITEM_COUNTERS,
    TRAINING_ROWS,
)
