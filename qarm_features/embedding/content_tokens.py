"""What the frozen backbones see of every item is kept, so that a ranking model can train the fusion above them.

In: ``items``, an encoder version. Out: rows of ``item_content_tokens`` of the items that are new, whose content changed, or
that these backbones have not seen (EM3, arXiv 2404.06078, section 3.2). ::

    item_id  text       content_hash         item_id  modalities  dims   num_tokens  tokens     content_hash  backbones
    1        Toy Story  ab12            ->   1        [text]      [384]  [5]         3840 byte  ab12          9f3e...
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from qarm_features.embedding.on_executors import BUFFER_BYTES, BUFFER_ROWS, encode_on_executors
from qarm_features.encoders.item_encoder import ItemEncoder
from qarm_features.encoders.pretrained import weights_sha256
from qarm_features.fusion.tokens import average_tokens
from qarm_features.storage.artifacts import Artifact, fingerprint

_LARGEST = float(np.finfo(np.float16).max)


class Backbones(NamedTuple):
    """What makes an item's tokens.

    Attributes:
        fingerprint: Of weights, settings and ``tokens_kept``. Encoder versions above the same frozen backbones share it.
        token_dims: D by modality.
        tokens_kept: Most tokens of a modality; neighboring ones are averaged.
    """

    fingerprint: str
    token_dims: dict[str, int]
    tokens_kept: int


def backbones_of(encoder: Artifact, *, tokens_kept: int) -> Backbones:
    """Returns the backbones of an encoder version.

    Args:
        encoder: The version.
        tokens_kept: At least 1; that of an encoder with a Q-Former wins.
    """
    model = ItemEncoder.from_pretrained(str(encoder.path))
    kept = model.tokens_kept or tokens_kept
    configs = {name: model.config["modalities"][name] for name in model.encoders}
    trained = any(of.trained for of in model.encoders.values())
    weights = weights_sha256(model.encoders) if trained else None  # else config holds the hash of each
    return Backbones(fingerprint([configs, kept, weights]), {name: of.dim for name, of in model.encoders.items()}, kept)


def items_without_tokens(items: DataFrame, tokens: DataFrame, *, backbones: str) -> DataFrame:
    """Returns the items of which ``tokens`` has no row with their content under these backbones.

    Args:
        items: Rows of ``items``.
        tokens: Rows of ``item_content_tokens``.
        backbones: Their fingerprint.
    """
    done = tokens.where(F.col("backbones") == backbones).select("item_id", "content_hash")
    return items.join(done, on=["item_id", "content_hash"], how="left_anti")


def write_tokens(
    items: DataFrame,
    encoder: Artifact,
    backbones: Backbones,
    *,
    limits: Mapping[str, Mapping[str, Any]],
    batch_size: int,
    rows: int,
) -> DataFrame:
    """Encodes every row of ``items`` by the backbones alone.

    Args:
        items: ``item_id``, ``content_hash`` and the columns that the encoder reads.
        encoder: The version that holds the backbones.
        backbones: As ``backbones_of`` returns it.
        limits: What may be read and decoded, from ``media_limits``.
        batch_size: Items encoded at once.
        rows: About how many they are.

    Returns:
        Rows of ``item_content_tokens``, lazily; an item that cannot be encoded has none.
    """
    id_type = items.schema["item_id"].dataType.simpleString()
    schema = f"item_id {id_type}, num_tokens array<int>, tokens binary, content_hash string"
    widest = 2 * backbones.tokens_kept * sum(backbones.token_dims.values())  # bytes of an item
    encoded = encode_on_executors(
        items,
        encoder,
        functools.partial(_token_rows, tokens_kept=backbones.tokens_kept),
        schema=schema,
        limits=limits,
        batch_size=batch_size,
        rows=rows,
        buffer_rows=max(1, min(BUFFER_ROWS, BUFFER_BYTES // widest)),
    )
    known = {"modalities": [*backbones.token_dims], "dims": [*backbones.token_dims.values()]}
    constant = {name: F.array(*map(F.lit, values)) for name, values in known.items()}
    return encoded.withColumns({**constant, "backbones": F.lit(backbones.fingerprint)})


@torch.inference_mode()
def content_tokens(
    encoder: ItemEncoder, columns: Mapping[str, Sequence], *, batch_size: int, tokens_kept: int
) -> list[list[np.ndarray] | None]:
    """Encodes any number of rows in batches sorted by length of text, which pads least.

    Args:
        encoder: Of which only the backbones are used.
        columns: B values each: see ``columns`` of the encoder.
        batch_size: Rows decoded and encoded at once.
        tokens_kept: Most tokens of a modality.

    Returns:
        Of each row the tokens of each modality (N, D) float16, N from 0; None where it has none, is broken or not finite.
    """
    texts = columns.get("text") or [None] * len(next(iter(columns.values())))
    order = sorted(range(len(texts)), key=lambda row: len(texts[row] or ""))
    found: list[list[np.ndarray] | None] = [None] * len(texts)
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        rows, _ = encoder.decode({name: [values[row] for row in batch] for name, values in columns.items()})
        kept = [(at, row) for at, row in zip(batch, rows) if row is not None]
        if not kept:
            continue
        blocks = []
        for tokens in encoder.tokens([row for _, row in kept]).values():
            values, mask = average_tokens(tokens, tokens_kept)
            blocks.append((values.float().cpu().numpy(), mask.cpu().numpy()))
        for number, (at, _) in enumerate(kept):
            of_item = [values[number][mask[number]] for values, mask in blocks]
            if all(np.isfinite(tokens).all() for tokens in of_item):
                found[at] = [tokens.clip(-_LARGEST, _LARGEST).astype(np.float16) for tokens in of_item]
    return found


def _token_rows(encoder: ItemEncoder, rows: pa.RecordBatch, batch_size: int, *, tokens_kept: int) -> pa.RecordBatch:
    columns = {name: rows[name].to_pylist() for name in encoder.columns}
    found = content_tokens(encoder, columns, batch_size=batch_size, tokens_kept=tokens_kept)
    kept = rows.filter(pa.array([of_item is not None for of_item in found]))
    encoded = [of_item for of_item in found if of_item is not None]
    counts = pa.array([[len(tokens) for tokens in of_item] for of_item in encoded], pa.list_(pa.int32()))
    blocks = pa.array([b"".join(tokens.tobytes() for tokens in of_item) for of_item in encoded], pa.binary())
    return pa.RecordBatch.from_arrays(
        [kept["item_id"], counts, blocks, kept["content_hash"]], ["item_id", "num_tokens", "tokens", "content_hash"]
    )
