"""Write the tokens of the frozen backbones for every item, so that a ranking model can train the fusion above them.

In: ``items`` and an encoder version. Out: rows of ``item_content_tokens`` for the items that are new, have changed content,
or were not yet encoded by these backbones (EM3, arXiv 2404.06078, section 3.2). ::

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

from qarm_features.embedding.on_executors import BUFFER_BYTES, BUFFER_ROWS, distinct_content, encode_on_executors
from qarm_features.encoders.item_encoder import ItemEncoder, batches_by_length
from qarm_features.encoders.one_by_one import encode_accepted
from qarm_features.encoders.pretrained import weights_sha256
from qarm_features.encoders.recipe import described
from qarm_features.storage.artifacts import Artifact, fingerprint

_LARGEST = float(np.finfo(np.float16).max)


class Backbones(NamedTuple):
    """Describe the backbones that make the content tokens of an item.

    Attributes:
        fingerprint: Hash of the weights, the settings and ``tokens_kept``; encoder versions with the same frozen backbones
            share it.
        token_dims: D of the tokens by modality.
        tokens_kept: Greatest number of tokens of a modality; neighboring tokens are averaged.
    """

    fingerprint: str
    token_dims: dict[str, int]
    tokens_kept: int


def backbones_of(encoder: Artifact, *, tokens_kept: int) -> Backbones:
    """Return the backbones of an encoder version.

    Args:
        encoder: The encoder version.
        tokens_kept: Greatest number of tokens of a modality, at least 1; used if the encoder has no Q-Former, else the
            number of the encoder is used.

    Returns:
        The backbones.
    """
    model = ItemEncoder.from_pretrained(str(encoder.path))
    encoders, most = model.by_modality, model.tokens_kept or tokens_kept
    configs = {name: described(model.config["modalities"][name]) for name in encoders}
    trained = any(modality.trained for modality in encoders.values())
    weights = weights_sha256(model.encoders) if trained else None  # the configs hold the hashes of frozen backbones
    token_dims = {name: modality.dim for name, modality in encoders.items()}
    return Backbones(fingerprint([configs, most, weights]), token_dims, most)


def items_without_tokens(items: DataFrame, tokens: DataFrame, *, backbones: str) -> DataFrame:
    """Return the items that have no tokens of their present content by these backbones.

    Args:
        items: Rows of ``items``.
        tokens: Rows of ``item_content_tokens``.
        backbones: Fingerprint of the backbones.

    Returns:
        Rows of ``items``.
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
    """Encode every row of ``items`` by the backbones, without the Q-Former.

    Args:
        items: Rows with ``item_id``, ``content_hash`` and the columns that the encoder reads.
        encoder: The encoder version that holds the backbones.
        backbones: Backbones from ``backbones_of``.
        limits: Limits of what may be read and decoded, from ``media_limits``.
        batch_size: Number of items that are encoded at once, at least 1.
        rows: Approximate number of items.

    Returns:
        A lazy DataFrame with rows of ``item_content_tokens``; an item that cannot be encoded has no row.
    """
    id_type = items.schema["item_id"].dataType.simpleString()
    schema = f"item_id {id_type}, num_tokens array<int>, tokens binary, content_hash string"
    widest = 2 * backbones.tokens_kept * sum(backbones.token_dims.values())  # bytes for each item
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
    known: dict[str, list[Any]] = {"modalities": [*backbones.token_dims], "dims": [*backbones.token_dims.values()]}
    constant = {name: F.array(*[F.lit(value) for value in values]) for name, values in known.items()}
    return encoded.withColumns({**constant, "backbones": F.lit(backbones.fingerprint)})


@torch.inference_mode()
def content_tokens(
    encoder: ItemEncoder, columns: Mapping[str, Sequence[Any]], *, batch_size: int, tokens_kept: int
) -> list[list[np.ndarray] | None]:
    """Encode any number of rows, in batches of texts of similar length, so that little is padded.

    Args:
        encoder: Encoder of which only the backbones are used.
        columns: B values of each raw column, of some or all of ``encoder.columns``.
        batch_size: Number of rows that are decoded and encoded at once, at least 1.
        tokens_kept: Greatest number of tokens of a modality, at least 1.

    Returns:
        For each row the tokens (N, D) float16 of each modality, with N of at least 0; None for a row that has no content,
        has broken content, or has tokens that are not finite.
    """
    found: list[list[np.ndarray] | None] = [None] * len(next(iter(columns.values())))
    for places in batches_by_length(columns, batch_size):
        decoded, _ = encoder.decode({name: [values[place] for place in places] for name, values in columns.items()})
        valid = [(place, row) for place, row in zip(places, decoded) if row is not None]
        if not valid:
            continue
        encode = functools.partial(encoder.tokens, most=tokens_kept)
        computed, refused = encode_accepted(encode, [row for _, row in valid])
        valid = [pair for pair, reason in zip(valid, refused) if reason is None]
        blocks = []
        for values, mask in (computed or {}).values():
            blocks.append((values.float().cpu().numpy(), mask.cpu().numpy()))
        for number, (place, _) in enumerate(valid):
            item_tokens = [values[number][mask[number]] for values, mask in blocks]
            if all(np.isfinite(tokens).all() for tokens in item_tokens):
                found[place] = [tokens.clip(-_LARGEST, _LARGEST).astype(np.float16) for tokens in item_tokens]
    return found


def _token_rows(encoder: ItemEncoder, rows: pa.RecordBatch, batch_size: int, *, tokens_kept: int) -> pa.RecordBatch:
    distinct, number = distinct_content(rows)
    columns = {name: distinct[name].to_pylist() for name in encoder.columns}
    of_content = content_tokens(encoder, columns, batch_size=batch_size, tokens_kept=tokens_kept)
    found = [of_content[place] for place in number]
    encoded_rows = rows.filter(pa.array([item_tokens is not None for item_tokens in found]))
    encoded = [item_tokens for item_tokens in found if item_tokens is not None]
    counts = pa.array([[len(tokens) for tokens in item_tokens] for item_tokens in encoded], pa.list_(pa.int32()))
    blocks = pa.array([b"".join(tokens.tobytes() for tokens in item_tokens) for item_tokens in encoded], pa.binary())
    return pa.RecordBatch.from_arrays(
        [encoded_rows["item_id"], counts, blocks, encoded_rows["content_hash"]],
        ["item_id", "num_tokens", "tokens", "content_hash"],
    )
