"""What the checks of all columns share: the form of a check, and the strict reading of text.

In: a column of text. Out: trimmed text, or a number. Spark's own casts read too much: 5d and 0x1p3 as numbers, 10:15:00 as
today at a quarter past ten.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from qarm_features.catalog.reading.source_rows import IngestError as IngestError

Check = tuple[Column, str | Column]  # a condition that is true where a row fails, and the reason
_SPACES = " \t\r\n\f\v\u00a0\ufeff"  # also the no-break space and the byte-order mark
_NUMBER = r"\A[+-]?([0-9]+[.]?[0-9]*|[.][0-9]+)([eE][+-]?[0-9]+)?\z"


class Doubt(NamedTuple):
    """A doubt about accepted rows of the click log, worth a remark where most rows give rise to it.

    Attributes:
        condition: Condition on the columns of ``interactions``.
        says: What is wrong with the rows, after their number.
    """

    condition: Column
    says: str


def remarks(interactions: DataFrame, doubts: Sequence[Doubt]) -> list[str]:
    """Return a remark for each doubt that more than half of the rows give rise to, by one pass over the rows."""
    counts = [F.count(F.when(doubt.condition, True)) for doubt in doubts]
    rows, *found = interactions.agg(F.count("*"), *counts).collect()[0]
    return [f"{n:,} rows of interactions {doubt.says}" for n, doubt in zip(found, doubts, strict=True) if 2 * n > rows]


def trimmed(text: Column) -> Column:
    """Return text without white space at its ends."""
    return F.btrim(text, F.lit(_SPACES))


def number_text(text: Column) -> Column:
    """Return trimmed text that is a decimal number, such as -1.5 or 2e3, else null."""
    return F.when(trimmed(text).rlike(_NUMBER), trimmed(text))
