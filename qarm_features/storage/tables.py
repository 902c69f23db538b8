"""One ``Table`` per Delta table: its key, its columns with their meaning, and the job that writes it.

In: nothing. Out: the names that the jobs and the ``Warehouse`` share. A new column is one line here.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        name: Name of the column.
        type: Spark type. ``<item_id>`` and ``<user_id>`` stand for the ID types of the settings.
        doc: Meaning of the column.
        optional: True for a column that was introduced after its table. It is null in older rows and tables.
    """

    name: str
    type: str
    doc: str
    optional: bool = False


@dataclass(frozen=True)
class Table:
    """A Delta table.

    Attributes:
        name: Name of the table.
        key: Columns that identify a row. Empty for a table without a key.
        columns: Columns, in the order of the table.
        written_by: Name of the command that writes the table.
        doc: Meaning of a row.
        partition_by: Columns that the files are partitioned by.
        always_written: False for a table that is written only where a setting asks for it.
    """

    name: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]
    written_by: str
    doc: str
    partition_by: tuple[str, ...] = ()
    always_written: bool = True

    def column(self, name: str) -> Column:
        """Return the column with the given name."""
        return next(column for column in self.columns if column.name == name)


ORDER_IN_MOMENT = "order_in_moment"
_ITEM_ID = Column("item_id", "<item_id>", "ID of the item in the catalog.")
_USER_ID = Column("user_id", "<user_id>", "ID of the user in the click log.")
_ENCODER_VERSION = Column("encoder_version", "int", "Version of the encoder that made the embedding, from 0.")
_FINGERPRINT = "Fingerprint of the {} that made the row, as their manifest has it. Null in rows of earlier releases."
_JUST_AFTER = Column(
    "event_timestamp",
    "timestamp",
    "One microsecond after the last event in the row, so that a join at time t sees only events before t.",
)
_CODEBOOK_VERSION = Column("codebook_version", "int", "Version of the codebooks that the codes belong to, from 0.")

ITEMS = Table(
    "items",
    ("item_id",),
    (
        _ITEM_ID,
        Column("title", "string", "Title that people are shown. It may be null."),
        Column("text", "string", "Text that the text encoder reads. Null where the item has no text."),
        Column("image", "binary", "JPEG, PNG or WebP. Null where the item has no image or image_uri names its file."),
        Column("image_uri", "string", "Path or URI of the image, under encoder.media_roots."),
        Column("audio", "binary", "WAV, FLAC or OGG. Null where the item has no audio or audio_uri names its file."),
        Column("audio_uri", "string", "Path or URI of the audio, under encoder.media_roots."),
        Column("precomputed", "array<float>", "Vector that the user supplies, of items.precomputed_dim numbers."),
        Column(
            "content_hash",
            "string",
            "SHA-256 of the content; size and time stand for a local file. An item whose hash is unchanged is not encoded "
            "again.",
        ),
    ),
    "ingest-catalog",
    "The catalog.",
)
DELETED_ITEMS = Table(
    "deleted_items",
    ("item_id",),
    (_ITEM_ID,),
    "ingest-catalog",
    "Items that the catalog says are deleted, by the column items.deleted. Later jobs delete their embeddings and codes.",
    always_written=False,
)
ITEM_CONTENT = ("text", "image", "image_uri", "audio", "audio_uri", "precomputed")  # columns that encoders read
INTERACTIONS = Table(
    "interactions",
    ("user_id", "item_id", "event_timestamp"),
    (
        _USER_ID,
        _ITEM_ID,
        Column("event_timestamp", "timestamp", "Time of the interaction, UTC."),
        Column("label", "int", "1 for a positive, 0 for a negative."),
        Column(
            ORDER_IN_MOMENT,
            "bigint",
            "Order of the row among those of its user with the same event_timestamp, from interactions.order_by.",
            optional=True,
        ),
    ),
    "ingest-catalog",
    "The click log: one labeled impression a row.",
)
ITEM_PAIRS = Table(
    "item_pairs",
    ("trigger_item_id", "target_item_id", "source"),
    (
        Column("trigger_item_id", "<item_id>", "Item that a user interacted with before the target item."),
        Column("target_item_id", "<item_id>", "Item that is similar to the trigger item for users."),
        Column(
            "source",
            "string",
            "item-to-item (Swing) or user-to-item (the most similar item among a user's latest positives).",
        ),
        Column("weight", "double", "Score of Swing, or number of users who made the pair. Above 0."),
        Column("event_timestamp", "timestamp", "Time of the latest interaction that supports the pair."),
    ),
    "mine-item-pairs",
    "Positive item pairs on which the item encoder is aligned.",
    partition_by=("source",),
)
REJECTED_ROWS = Table(
    "rejected_rows",
    (),
    (
        Column("table", "string", "Name of the table that the row was meant for."),
        Column("row", "string", "The source row as it stands in its text file, otherwise as JSON."),
        Column("reason", "string", "Reason for which the row was rejected."),
        Column("file", "string", "File of the source row. Null for a table.", optional=True),
        Column("line", "bigint", "Line of the row in its text file, from 1. Null for other formats.", optional=True),
    ),
    "ingest-catalog",
    "Source rows that could not be used. Rows in = rows out + rows rejected.",
    partition_by=("table",),
)
ITEM_EMBEDDINGS = Table(
    "item_embeddings",
    ("item_id", "encoder_version"),
    (
        _ITEM_ID,
        Column("embedding", "array<float>", "(D,), unit L2 norm."),
        Column("content_hash", "string", "Hash of the content that was encoded."),
        _ENCODER_VERSION,
        Column("encoder_fingerprint", "string", _FINGERPRINT.format("encoder's files"), optional=True),
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
        Column("modalities", "array<string>", "The M modalities that the backbones read."),
        Column("dims", "array<int>", "Dimension D of the tokens of each modality."),
        Column("num_tokens", "array<int>", "Number N of tokens of each modality, 0 where the item lacks the modality."),
        Column("tokens", "binary", "Tokens (N, D) of each modality in turn, little-endian float16."),
        Column("content_hash", "string", "Hash of the content that was encoded."),
        Column("backbones", "string", "Fingerprint of the weights, the settings and the maximum number of tokens."),
    ),
    "write-content-tokens",
    "Tokens from frozen backbones: the input of a Fusion-Q-Former that a ranking model trains.",
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
        Column("event_timestamp", "timestamp", "Always 1970-01-01, because a semantic ID is valid at every time."),
        Column(
            "collision_index", "int", "Number of the item among the items with its semantic ID, from 0.", optional=True
        ),
        Column("codebook_fingerprint", "string", _FINGERPRINT.format("codebooks"), optional=True),
        Column(
            "added_after_fit",
            "boolean",
            "False if the item got its ID in the first assignment after the fit, True if it came later.",
            optional=True,
        ),
    ),
    "assign-semantic-ids",
    "Semantic IDs by codebook version. A written row never changes; it leaves only with an item that is deleted.",
    partition_by=("codebook_version",),
)
ITEM_NEAREST_ITEMS = Table(
    "item_nearest_items",
    ("item_id", "bank_version"),
    (
        _ITEM_ID,
        Column(
            "vq_codes",
            "array<<item_id>>",
            "The VQ code: IDs of the at most k nearest items of the bank, the nearest first.",
        ),
        Column("vq_similarities", "array<float>", "Inner products of the nearest items with the item."),
        Column("bank_version", "int", "Version of the frozen bank that was searched, from 0."),
        _ENCODER_VERSION,
        Column("event_timestamp", "timestamp", "Always 1970-01-01, because a VQ code is valid at every time."),
        Column("bank_fingerprint", "string", _FINGERPRINT.format("bank's files"), optional=True),
    ),
    "find-nearest-items",
    "VQ codes by bank version. A written row never changes; it leaves only with an item that is deleted.",
    partition_by=("bank_version",),
)
USER_BEHAVIOR = Table(
    "user_behavior",
    ("user_id", "event_timestamp"),
    (
        _USER_ID,
        Column("behavior_item_ids", "array<<item_id>>", "IDs of the user's latest T positive items, the latest last."),
        Column("behavior_timestamps", "array<bigint>", "Times of these items, in seconds since 1970."),
        _JUST_AFTER,
    ),
    "build-user-behavior",
    "Behavior sequences: one row for every moment at which a user's sequence changed.",
)
USER_IMPRESSIONS = Table(
    "user_impressions",
    ("user_id", "event_timestamp"),
    (
        _USER_ID,
        Column(
            "impression_item_ids",
            "array<<item_id>>",
            "IDs of the latest T2 items that the user was shown, the latest last.",
        ),
        Column("impression_labels", "array<int>", "Labels of these items: 1 for a positive, 0 for a negative."),
        Column("impression_timestamps", "array<bigint>", "Times of these items, in seconds since 1970."),
        Column("user_positive_count", "bigint", "Number of the user's positives up to this moment."),
        Column("user_impression_count", "bigint", "Number of the user's impressions up to this moment."),
        _JUST_AFTER,
    ),
    "build-user-behavior",
    "One row for every moment at which a user was shown an item. Empty if behavior.impression_length is 0.",
)
ITEM_COUNTERS = Table(
    "item_counters",
    ("item_id", "event_timestamp"),
    (
        _ITEM_ID,
        Column("item_positive_count", "bigint", "Number of the item's positives up to this moment."),
        Column("item_impression_count", "bigint", "Number of the item's impressions up to this moment."),
        _JUST_AFTER,
    ),
    "build-user-behavior",
    "One row for every moment at which an item was shown. Empty if behavior.impression_length is 0.",
)
PUBLISHED_KEYS = Table(
    "published_keys",
    ("view", "key"),
    (
        Column("view", "string", "Name of the feature view."),
        Column("key", "string", "ID of the user or item, as text."),
    ),
    "publish-features",
    "The users and items that each feature view may hold in the online store, so that those who left can be deleted there.",
    partition_by=("view",),
)
TRAINING_ROWS = Table(
    "training_rows",
    ("user_id", "item_id", "event_timestamp", "codebook_version"),
    (
        _USER_ID,
        _ITEM_ID,
        Column("event_timestamp", "timestamp", "Time at which the item was shown."),
        Column("label", "int", "1 for a positive, 0 for a negative."),
        Column("item_codes", "array<int>", "The L codes of the target item. Null where it has none."),
        Column(
            "behavior_item_ids",
            "array<<item_id>>",
            "The user's latest positives strictly before. Null where there are none.",
        ),
        Column(
            "behavior_codes", "array<int>", "Codes of these items, flattened: L per item, -1 where an item has none."
        ),
        Column("behavior_timestamps", "array<bigint>", "Times of these items, in seconds since 1970.", optional=True),
        Column(
            "impression_item_ids",
            "array<<item_id>>",
            "The latest items shown strictly before. Null where there are none.",
            optional=True,
        ),
        Column("impression_labels", "array<int>", "Labels of these items.", optional=True),
        Column("impression_timestamps", "array<bigint>", "Times of these items, in seconds since 1970.", optional=True),
        Column("impression_codes", "array<int>", "Codes of these items, laid out like behavior_codes.", optional=True),
        Column("user_positive_count", "bigint", "Number of the user's positives strictly before.", optional=True),
        Column("user_impression_count", "bigint", "Number of the user's impressions strictly before.", optional=True),
        Column(
            "item_positive_count", "bigint", "Number of the target item's positives strictly before.", optional=True
        ),
        Column(
            "item_impression_count", "bigint", "Number of the target item's impressions strictly before.", optional=True
        ),
        Column("split", "string", "Part of the log by time: train, valid or test."),
        _CODEBOOK_VERSION,
    ),
    "build-training-set",
    "Labeled impressions with the features as they were at their time.",
    partition_by=("codebook_version", "split"),
)
TABLES = (
    ITEMS,
    DELETED_ITEMS,
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
    PUBLISHED_KEYS,
    TRAINING_ROWS,
)
TABLE_BY_NAME = {table.name: table for table in TABLES}
# A release names a Delta version of these, so their earlier versions must stay readable.
NAMED_BY_RELEASES = (ITEM_SEMANTIC_IDS, ITEM_EMBEDDINGS, ITEM_NEAREST_ITEMS)
# Later jobs read from the change feed of these what came since they ran last.
FED = (ITEMS, INTERACTIONS, ITEM_SEMANTIC_IDS, USER_BEHAVIOR, USER_IMPRESSIONS, ITEM_COUNTERS)
