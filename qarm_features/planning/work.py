"""The work of each stage: rows, floating-point operations, and the units by which its seconds and bytes grow.

In: ``Sizes``. Out: one ``Work`` per stage, in the order of ``qarm run``. A unit is a number to which processor seconds and
bytes are proportional; ``benchmarks/calibrate.py`` measures how many of them a unit takes. Each formula reads as its stage
does: what it goes over once has the rows as its unit, what is multiplied has the multiplications.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from qarm_features.planning.sizes import Sizes

SHARD_ROWS = 65_536  # rows of a shard of a bank
ITEM_ROW_BYTES = 76  # ID, hash of the content and offsets beside the vector of an item
TRAIN_SHARE = 0.8
BATCH_ROWS = 1_024
SPARSE_FROM = 1_000_000  # that of ranking/train/training_options.py, which imports torch
_SAMPLE_BYTES, _MOST_DRAWS = 64 << 20, 32_768  # of the draw of initial centroids
_ALIGN_EPOCHS, _PAIRS_PER_ITEM = 12, 20


@dataclass(frozen=True)
class Work:
    """The work of a stage.

    Attributes:
        stage: Name of the job.
        rows_in: Number of rows that it reads.
        rows_out: Number of rows that it writes.
        units: Amounts of work that executors share, by the name of the unit.
        driver_units: Amounts of work that one process does alone.
        flops: Floating-point operations; None where they say nothing about the stage.
        in_run: True if ``qarm run`` takes the stage by default.
        one_process: True if all of the work is done by one process.
    """

    stage: str
    rows_in: float
    rows_out: float
    units: Mapping[str, float]
    driver_units: Mapping[str, float] = field(default_factory=dict)
    flops: float | None = None
    in_run: bool = True
    one_process: bool = False


def works(sizes: Sizes) -> list[Work]:
    """Returns the work of all stages in their order."""
    return [work_of(sizes) for work_of in _STAGES]


def item_table_bytes(sizes: Sizes) -> float:
    """Returns the bytes of ``items`` or ``item_embeddings``: floats, which do not compress, beside ID and hash."""
    return sizes.items * (4 * sizes.dim + ITEM_ROW_BYTES)


def codebook_bytes(sizes: Sizes) -> int:
    """Returns the bytes of the centroids (L, K, D) float32."""
    return 4 * sizes.levels * sizes.codebook_size * sizes.dim


def mean_sequence_length(rows_per_user: float, most: int) -> float:
    """Returns the mean length of a user's sequence over its moments, of which each adds a row until there are ``most``.

    Example:
        >>> mean_sequence_length(4, 50), mean_sequence_length(4, 2)
        (2.5, 1.75)
    """
    rows = max(1.0, rows_per_user)
    if rows <= most:
        return (rows + 1) / 2
    return (most * (most + 1) / 2 + (rows - most) * most) / rows


def distinct_items(rows: float, items: float) -> float:
    """Returns the number of items that rows of the log name, if all items were equally frequent. In a real log it is smaller.

    Example:
        >>> round(distinct_items(100, 1_000_000)), round(distinct_items(1_000_000, 100))
        (100, 100)
    """
    return -items * math.expm1(-rows / items)


def sequence_values(sizes: Sizes) -> float:
    """Returns the number of entries of all rows of ``user_behavior`` and ``user_impressions``."""
    positives = sizes.positives * mean_sequence_length(sizes.positives / sizes.users, sizes.behaviors)
    if not sizes.impressions:
        return positives
    return positives + sizes.events * mean_sequence_length(sizes.events / sizes.users, sizes.impressions)


def lloyd_multiply_adds(sizes: Sizes, steps: int) -> float:
    """Returns the multiply-adds of comparing all items with all centroids of a level a number of times."""
    return float(sizes.items) * sizes.codebook_size * (sizes.dim + 1) * steps


def start_multiply_adds(sizes: Sizes) -> float:
    """Returns the multiply-adds of drawing the initial centroids of all levels from a sample, on the driver."""
    size = sizes.codebook_size
    sample = min(sizes.items, max(20 * size, 10_000), max(size, _SAMPLE_BYTES // (4 * sizes.dim)))
    draws = max(2, min(2 + int(math.log(size)), _MOST_DRAWS // size))
    return float(sample) * size * (draws + 1) * sizes.dim * sizes.levels


def search_multiply_adds(sizes: Sizes) -> float:
    """Returns the multiply-adds of the search for nearest items, in which each item visits every shard."""
    if sizes.items <= sizes.exact_up_to:
        return float(sizes.items) ** 2 * sizes.dim
    root = math.sqrt(min(sizes.items, SHARD_ROWS))  # a shard has 2 root lists of root / 2 rows
    compared = 2 * root + min(sizes.probes, 2 * root) * root / 2
    return float(sizes.items) * shards(sizes) * compared * sizes.dim


def shards(sizes: Sizes) -> int:
    """Returns the number of shards of a bank."""
    return -(-sizes.items // SHARD_ROWS)


def bank_bytes(sizes: Sizes) -> float:
    """Returns the bytes of a bank: vectors, IDs and numbers of copies; and lists, which hold the vectors again."""
    lists = 0.0
    if sizes.items > sizes.exact_up_to:
        centers = shards(sizes) * 2 * math.sqrt(min(sizes.items, SHARD_ROWS))
        lists = centers * sizes.dim * 4 + sizes.items * (4.0 * sizes.dim + 8)
    return sizes.items * (4.0 * sizes.dim + 8 + 4) + lists


def token_bytes(sizes: Sizes) -> float:
    """Returns the bytes of the content tokens of all items, float16."""
    return 2.0 * sizes.items * sizes.tokens_per_item * sizes.token_dim


def table_updates(sizes: Sizes) -> float:
    """Returns how often a weight of the table of item IDs is updated.

    In each batch AdamW goes over the whole table. From ``SPARSE_FROM`` items on, only rows are updated that a batch names.
    """
    batches = sizes.events * TRAIN_SHARE / BATCH_ROWS * sizes.epochs
    rows = sizes.items if sizes.items < SPARSE_FROM else min(sizes.items, BATCH_ROWS * (1 + sizes.behaviors))
    return batches * rows * sizes.item_dim * sizes.variants


def _ingest(sizes: Sizes) -> Work:
    rows = float(sizes.items + sizes.events)
    units = {"item_bytes": item_table_bytes(sizes), "event_rows": float(sizes.events)}
    return Work("ingest_catalog", rows, rows, units)


def _mine(sizes: Sizes) -> Work:
    mined_from = sizes.positives * TRAIN_SHARE
    most = mined_from + min(mined_from, float(_PAIRS_PER_ITEM * sizes.items))  # user-to-item and item-to-item
    units = {"positive_rows": mined_from, "trigger_items": distinct_items(mined_from, sizes.items)}
    return Work("mine_item_pairs", mined_from, most, units, in_run=False)


def _align(sizes: Sizes) -> Work:
    pairs = _mine(sizes).rows_out
    passes = {"pair_passes": pairs * _ALIGN_EPOCHS}
    return Work("align_encoder", pairs, 1, {}, passes, in_run=False, one_process=True)


def _embed(sizes: Sizes) -> Work:
    flops = 1e9 * sizes.encoder_gflops_per_item * sizes.items
    chunks = -(-sizes.items // sizes.items_per_commit)
    units = {
        "item_bytes": item_table_bytes(sizes),
        "encoder_flops": flops,
        "rescanned_bytes": (chunks - 1) * item_table_bytes(sizes),
    }
    return Work("embed_items", sizes.items, sizes.items, units, flops=flops)


def _fit(sizes: Sizes) -> Work:
    products = lloyd_multiply_adds(sizes, sizes.levels * (sizes.max_iter + 1))  # and once to subtract
    units = {"multiply_adds": products, "item_bytes": item_table_bytes(sizes)}
    starts = {"start_multiply_adds": start_multiply_adds(sizes)}
    return Work("fit_codebooks", sizes.items, sizes.levels * sizes.codebook_size, units, starts, flops=2 * products)


def _assign(sizes: Sizes) -> Work:
    products = lloyd_multiply_adds(sizes, sizes.levels)
    units = {"multiply_adds": products, "item_bytes": item_table_bytes(sizes)}
    return Work("assign_semantic_ids", sizes.items, sizes.items, units, flops=2 * products)


def _find_nearest(sizes: Sizes) -> Work:
    products = search_multiply_adds(sizes)
    units = {"search_multiply_adds": products, "item_bytes": item_table_bytes(sizes)}
    return Work("find_nearest_items", sizes.items, sizes.items, units, flops=2 * products, in_run=False)


def _content_tokens(sizes: Sizes) -> Work:
    size = token_bytes(sizes)
    flops = 1e9 * sizes.encoder_gflops_per_item * sizes.items
    units = {"item_bytes": size, "encoder_flops": flops}
    laid_out = {"laid_out_bytes": size}
    return Work("write_content_tokens", sizes.items, sizes.items, units, laid_out, flops=flops, in_run=False)


def _behavior(sizes: Sizes) -> Work:
    rows = sizes.positives + (2.0 * sizes.events if sizes.impressions else 0.0)
    return Work("build_user_behavior", sizes.events, rows, {"sequence_values": sequence_values(sizes)})


def _publish(sizes: Sizes) -> Work:
    views = 2 if sizes.impressions else 1  # of items as of users
    units = {"item_rows": float(sizes.items), "sequence_values": sequence_values(sizes)}
    rows_in, rows_out = _behavior(sizes).rows_out + sizes.items, float(views * (sizes.items + sizes.users))
    counted = {"counted_keys": float(sizes.items)}  # the driver counts the release in the online store
    return Work("publish_features", rows_in, rows_out, units, counted)


def _training_set(sizes: Sizes) -> Work:
    units = {"sequence_values": sequence_values(sizes)}
    return Work("build_training_set", _behavior(sizes).rows_out + sizes.events, sizes.events, units)


def _train(sizes: Sizes) -> Work:
    passes = float(sizes.events) * sizes.epochs * sizes.variants
    alone = {"row_passes": passes, "table_updates": table_updates(sizes)}
    return Work("train_ranking_model", sizes.events, sizes.variants, {}, alone, one_process=True)


def _report(sizes: Sizes) -> Work:
    units = {"item_rows": float(sizes.items), "event_rows": float(sizes.events)}
    return Work("write_report", sizes.items + sizes.events, 1, units)


_STAGES: tuple[Callable[[Sizes], Work], ...] = (
    _ingest,
    _mine,
    _align,
    _embed,
    _fit,
    _assign,
    _find_nearest,
    _content_tokens,
    _behavior,
    _publish,
    _training_set,
    _train,
    _report,
)
