"""Rows of the click log whose item the catalog lacks.

In: ``items`` and ``interactions``. Out: how many such rows there are, and an error if they are too many: then the IDs of the
two sources are mostly written in two ways, and nothing joins. The rows themselves are kept, because an item may come later.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from qarm_features.catalog.checks import Doubt, IngestError

_EXAMPLES = 3
_WITHOUT_POINT_0 = "without the .0 at their ends"
# Ways in which two sources write one ID: what to compare instead of the ID, and the name of the comparison.
_ALIKE: dict[str, Callable[[Column], Column]] = {
    _WITHOUT_POINT_0: lambda item_id: F.regexp_replace(item_id, r"\.0+\z", ""),
    "without zeros at their starts": lambda item_id: F.regexp_replace(item_id, r"\A0+(?=.)", ""),
    "in lower case": F.lower,
}


class UnknownItems(NamedTuple):
    """Rows of the click log whose item the catalog lacks.

    Attributes:
        rows: Number of rows of unknown items.
        items: Number of unknown items.
        rows_in: Number of accepted rows of the click log.
    """

    rows: int
    items: int
    rows_in: int

    def __str__(self) -> str:
        """Return a sentence, or an empty string where the catalog has all items."""
        if not self.rows:
            return ""
        of_all = f"{self.rows:,} of {self.rows_in:,} rows of interactions ({self.rows / self.rows_in:.1%})"
        return f"{of_all} name {self.items:,} items that the catalog lacks"


def count_unknown_items(items: DataFrame, interactions: DataFrame) -> UnknownItems:
    """Count the rows of the click log whose item the catalog lacks.

    Args:
        items: Rows of ``items``.
        interactions: Rows of ``interactions``.
    """
    by_item = interactions.groupBy("item_id").agg(F.count("*").alias("rows"))
    known = items.select("item_id", F.lit(True).alias("known"))
    joined = by_item.join(known, "item_id", how="left")
    unknown = F.when(F.col("known").isNull(), F.col("rows"))
    counts = joined.agg(F.sum(unknown), F.count(unknown), F.sum("rows")).collect()[0]
    return UnknownItems(*(count or 0 for count in counts))


def require_known_items(unknown: UnknownItems, items: DataFrame, interactions: DataFrame, max_share: float) -> str:
    """Raise an error if the catalog lacks the items of too many rows of the click log.

    Args:
        unknown: Counts of the rows.
        items: Rows of ``items``.
        interactions: Rows of ``interactions``.
        max_share: Largest share of rows of unknown items, in [0, 1].

    Returns:
        What to do about unknown items that differ from items of the catalog in the way their IDs are written only. Empty
        where there are none.

    Raises:
        IngestError: The share is above ``max_share``. The message shows IDs of both sides.
    """
    if not unknown.rows:
        return ""
    remedy = _remedy(items, interactions)
    if unknown.rows > max_share * unknown.rows_in:
        named = interactions.join(items, "item_id", how="left_anti")
        raise IngestError(
            f"{unknown}, must be at most {max_share:.1%} (max_unknown_item_share). The log has item IDs such as "
            f"{_examples(named)}, the catalog {_examples(items)}. {remedy or 'Check item_id of items and interactions.'}"
        )
    return remedy


def _examples(rows: DataFrame) -> str:
    """Return the first item IDs in the order of their letters, so that those of two sources can be compared."""
    first = rows.select(F.col("item_id").cast("string")).distinct().orderBy("item_id").limit(_EXAMPLES).collect()
    return ", ".join(repr(row["item_id"]) for row in first)


def _remedy(items: DataFrame, interactions: DataFrame) -> str:
    """Return what to do about IDs that two sources write in two ways, or an empty string."""
    if dict(items.dtypes)["item_id"] != "string":
        return ""
    unknown = interactions.join(items, "item_id", how="left_anti").groupBy("item_id").agg(F.count("*").alias("rows"))
    alike = {name: F.col(f"alike_{number}") for number, name in enumerate(_ALIKE)}
    for number, same in enumerate(_ALIKE.values()):
        known = (
            items.select(same(F.col("item_id")).alias("same")).distinct().withColumn(f"alike_{number}", F.col("same"))
        )
        unknown = unknown.join(known, same(F.col("item_id")) == F.col("same"), how="left").drop("same")
    counts = unknown.agg(*[F.sum(F.when(found.isNotNull(), F.col("rows"))) for found in alike.values()]).collect()[0]
    rows, name = max(zip((count or 0 for count in counts), alike, strict=True))
    if not rows:
        return ""
    found = f"{rows:,} of these rows name items of the catalog if item IDs are compared {name}."
    if name == _WITHOUT_POINT_0:
        return f"{found} pandas writes integers so in a column with nulls. Set items.item_id_type: integer."
    return f"{found} Write them alike in both sources."


def user_ids_like_floats() -> Doubt:
    """Return the doubt about user IDs that are text such as 10.0, which other systems know as 10."""
    return Doubt(
        F.col("user_id").cast("string").rlike(r"\A-?[0-9]+\.0\z"),
        "have a user_id that ends in .0, as pandas writes integers in a column with nulls. Set interactions.user_id_type: "
        "integer if the IDs are integers",
    )
