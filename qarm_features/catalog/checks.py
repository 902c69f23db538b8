"""What the checks of all columns share: the form of a check, and the strict reading of text.

In: a column of text. Out: trimmed text, or a number. Spark's own casts read too much: 5d and 0x1p3 as numbers, 10:15:00 as
today at a quarter past ten.
"""

from __future__ import annotations

from pyspark.sql import Column
from pyspark.sql import functions as F

from qarm_features.catalog.reading.source_rows import IngestError as IngestError

Check = tuple[Column, str | Column]  # a condition that is true where a row fails, and the reason
_SPACES = " \t\r\n\f\v\u00a0\ufeff"  # also the no-break space and the byte-order mark
_NUMBER = r"\A[+-]?([0-9]+[.]?[0-9]*|[.][0-9]+)([eE][+-]?[0-9]+)?\z"


def trimmed(text: Column) -> Column:
    """Return text without white space at its ends."""
    return F.btrim(text, F.lit(_SPACES))


def number_text(text: Column) -> Column:
    """Return trimmed text that is a decimal number, such as -1.5 or 2e3, else null."""
    return F.when(trimmed(text).rlike(_NUMBER), trimmed(text))
