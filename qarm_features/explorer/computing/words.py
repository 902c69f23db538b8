"""The words that tell a prefix from the other items of its parent.

In: titles and texts of items. Out: for each prefix its most distinguishing words: those that a larger share of its items has
than of the other items of its parent, in the order of the log-likelihood ratio, which is near 0 for words that are frequent
everywhere, such as "the", and does not favor words that occur once.

Source: Dunning, Accurate Methods for the Statistics of Surprise and Coincidence, Computational Linguistics 1993, section 4.
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from qarm_features.explorer.computing.tree import of_each_level

_CHARACTERS, _WORDS_OF_ITEM, _LONGEST = 2_000, 200, 40
_LEAST_ITEMS, _LEAST_SCORE = 2, 2.71  # by chance, one word of ten reaches this score


def distinguishing_words(rows: DataFrame, tree: DataFrame, *, num_levels: int, most: int = 5) -> DataFrame:
    """Return the words of every prefix of at least two items.

    Args:
        rows: ``rq_codes`` (L), ``title`` and ``text`` of all items.
        tree: Rows of ``prefixes``.
        num_levels: L, at least 1.
        most: Highest number of words of a prefix.

    Returns:
        ``prefix``, ``words`` (those with the highest scores first). Prefixes without such words are left out.
    """
    words = rows.select("rq_codes", F.explode(_words()).alias("word"))
    leaves = words.groupBy("rq_codes", "word").agg(F.count("*").alias("have"))
    of_prefix = of_each_level(leaves, num_levels=num_levels, least=0)
    counts = of_prefix.groupBy("prefix", "word").agg(F.sum("have").alias("have"))
    sizes = tree.select("prefix", "items")
    parents = counts.select(F.col("prefix").alias("parent"), "word", F.col("have").alias("parent_have"))
    scored = (
        counts.where((F.size("prefix") > 0) & (F.col("have") >= _LEAST_ITEMS))
        .withColumn("parent", F.slice("prefix", F.lit(1), F.size("prefix") - 1))
        .join(parents, on=["parent", "word"], how="inner")
        .join(sizes, on="prefix", how="inner")
        .join(sizes.toDF("parent", "parent_items"), on="parent", how="inner")
        .withColumn("score", _score())
        .where(F.col("score") >= _LEAST_SCORE)
    )
    best = Window.partitionBy("prefix").orderBy(F.desc("score"), "word")
    ranked = scored.withColumn("rank", F.row_number().over(best)).where(F.col("rank") <= most)
    in_order = F.array_sort(F.collect_list(F.struct("rank", "word")))
    return ranked.groupBy("prefix").agg(F.transform(in_order, lambda one: one["word"]).alias("words"))


def _words() -> Column:
    """Return the different words of an item, of which each counts once."""
    said = F.lower(F.concat_ws(" ", "title", F.substring("text", 1, _CHARACTERS)))
    words = F.array_distinct(F.split(said, r"[^\p{L}\p{N}]+"))
    return F.slice(F.filter(words, lambda word: F.length(word).between(2, _LONGEST)), 1, _WORDS_OF_ITEM)


def _score() -> Column:
    """Return the log-likelihood ratio of a word; 0 if the other items of the parent have it as often or more."""
    items, others = F.col("items"), F.col("parent_items") - F.col("items")
    have, others_have = F.col("have"), F.col("parent_have") - F.col("have")
    share = F.col("parent_have") / F.col("parent_items")
    parts = [
        _surprise(have, items * share),
        _surprise(items - have, items * (1 - share)),
        _surprise(others_have, others * share),
        _surprise(others - others_have, others * (1 - share)),
    ]
    return F.when(have * others > others_have * items, F.round(2 * sum(parts[1:], parts[0]), 6)).otherwise(0.0)


def _surprise(seen: Column, expected: Column) -> Column:
    return F.when(seen > 0, seen * F.log(seen / expected)).otherwise(0.0)
