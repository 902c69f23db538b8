"""The words that tell a prefix from the other items of its parent.

In: titles and texts of items. Out: for each prefix its most distinguishing words. A word is scored by the log-odds ratio of
"an item of the prefix has it" to "another item of the parent has it", with the whole catalog as prior, divided by its
standard deviation. Words that are frequent everywhere, such as "the", score near 0.

Source: Monroe, Colaresi, Quinn, Fightin' Words, Political Analysis 2008, equations 16 to 22.
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from qarm_features.explorer.build.tree import of_each_level

_PRIOR = 20.0  # items that the prior counts for
_CHARACTERS, _WORDS_OF_ITEM, _LONGEST = 2_000, 200, 40
_LEAST_ITEMS, _LEAST_SCORE = 2, 1.0


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
    catalog = counts.where(F.size("prefix") == 0).select("word", F.col("have").alias("all_have"))
    scored = (
        counts.where((F.size("prefix") > 0) & (F.col("have") >= _LEAST_ITEMS))
        .withColumn("parent", F.slice("prefix", F.lit(1), F.size("prefix") - 1))
        .join(parents, on=["parent", "word"], how="inner")
        .join(catalog, on="word", how="inner")
        .join(sizes, on="prefix", how="inner")
        .join(sizes.toDF("parent", "parent_items"), on="parent", how="inner")
        .crossJoin(sizes.where(F.size("prefix") == 0).select(F.col("items").alias("all_items")))
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
    prior = _PRIOR * F.col("all_have") / F.col("all_items")
    inside, others = F.col("have") + prior, F.col("parent_have") - F.col("have") + prior
    inside_not = F.col("items") - F.col("have") + _PRIOR - prior
    others_not = F.col("parent_items") - F.col("items") - F.col("parent_have") + F.col("have") + _PRIOR - prior
    # A word of all items would divide by 0 in the last place of float64.
    odds = F.log(inside / F.greatest(inside_not, F.lit(1e-9))) - F.log(others / F.greatest(others_not, F.lit(1e-9)))
    return F.round(odds / F.sqrt(1 / inside + 1 / others), 6)
