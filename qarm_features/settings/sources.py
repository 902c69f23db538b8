"""The sections of the settings about the catalog and the click log: places, forms of files, columns, shares of bad rows.

In: nothing. Out: pydantic models that ``Settings`` puts together.
"""

from __future__ import annotations

import codecs
import contextlib
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from qarm_features.settings.section import Section

IdType = Literal["integer", "string"]
TimestampUnit = Literal["timestamp", "seconds", "milliseconds", "microseconds", "nanoseconds"]
SourceFormat = Literal["parquet", "delta", "csv", "jsonl", "table"]
_FORMAT_BY_SUFFIX: dict[str, SourceFormat] = {
    ".parquet": "parquet",
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".tsv": "csv",
    ".tab": "csv",
    ".dat": "csv",
}
PACKED = (".gz", ".bz2", ".zst")


class Source(Section):
    """A place that holds rows of the user: a ``path`` (file, folder or URI), or a ``table`` in Spark's catalog."""

    path: str | None = Field(None, description="File, folder or URI that holds the rows.")
    table: str | None = Field(None, description="Name of a table in Spark's catalog, to be set instead of path.")
    format: SourceFormat | None = Field(
        None, description="Format of path: parquet, delta, csv or jsonl; null derives it from the suffix."
    )

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.path is None) == (self.table is None):
            raise ValueError("exactly one of path and table must be set")
        if self.path and self.format is None and _suffix(self.path) not in _FORMAT_BY_SUFFIX:
            raise ValueError(
                f"format is not set, and the suffix of {self.path} does not tell it: set parquet, delta, csv or jsonl"
            )
        return self

    @property
    def resolved_format(self) -> SourceFormat:
        """Format to read with; ``"table"`` for a table in Spark's catalog."""
        if self.path is None:
            return "table"
        return self.format or _FORMAT_BY_SUFFIX[_suffix(self.path)]


def _suffix(path: str) -> str:
    """Return the suffix of a path, without that of gzip, bzip2 or Zstandard."""
    name = Path(path).name
    for packed in PACKED:
        name = name.removesuffix(packed)
    return Path(name).suffix


class TextSource(Source):
    """A source whose files may be CSV or JSON Lines of any form."""

    section: ClassVar[str]  # its place in the settings, for messages

    encoding: str = Field("utf-8", description="Encoding of CSV or JSON Lines, for example latin-1 or utf-16.")
    delimiter: str | None = Field(
        None,
        min_length=1,
        description="Text between two fields of CSV, for example ';' or '::'; null is a tab for .tsv and .tab, else a comma.",
    )
    quote: str | None = Field(
        '"',
        min_length=1,
        max_length=1,
        description="Character that encloses a field of CSV; null for files without quotes.",
    )
    header: bool | list[str] = Field(
        True,
        description="Whether each CSV file begins with a header; a list gives the names of the columns of files without "
        "one, and false names them 1, 2 and so on.",
    )

    @model_validator(mode="after")
    def _text_is_described(self) -> Self:
        try:
            codecs.lookup(self.encoding)
        except LookupError:
            raise ValueError(
                f"encoding {self.encoding} is not known to Python, for example utf-8, latin-1, utf-16"
            ) from None
        if isinstance(self.header, list) and len(set(self.header)) < len(self.header):
            raise ValueError("header names a column twice")
        if self.resolved_format != "csv":
            set_for_csv = {
                "delimiter": self.delimiter is None,
                "quote": self.quote == '"',
                "header": self.header is True,
            }
            if others := [name for name, is_default in set_for_csv.items() if not is_default]:
                raise ValueError(
                    f"{', '.join(others)} can be set for CSV only, and the format is {self.resolved_format}"
                )
        return self

    @property
    def resolved_delimiter(self) -> str:
        """Text between two fields of CSV."""
        return self.delimiter or ("\t" if self.path and _suffix(self.path) in (".tsv", ".tab") else ",")


class ItemSource(TextSource):
    """The catalog and the names of its columns."""

    section = "items"

    item_id: str = Field("item_id", description="Column of the item ID.")
    item_id_type: IdType = Field("integer", description="Type of the item ID: integer or string.")
    title: str | None = Field(None, description="Column of the title that is shown to people.")
    text: list[str] = Field(
        ["text"], description="Columns that are joined, in this order, into the text to be encoded."
    )
    image: str | None = Field(
        None, description="Column of images: the bytes, or the name of a file below encoder.media_roots, or a URI."
    )
    audio: str | None = Field(
        None, description="Column of audio: the bytes, or the name of a file below encoder.media_roots, or a URI."
    )
    precomputed: str | None = Field(None, description="Column of vectors of your own, which are arrays of numbers.")
    precomputed_dim: int | None = Field(
        None, ge=1, description="Length of the vectors in precomputed, at least 1; must be set with precomputed."
    )
    duplicates: Literal["most-frequent", "latest", "first"] = Field(
        "most-frequent",
        description="Which of several different rows of one item is kept: the content that most rows have, the latest by "
        "latest_by, or the first in file and line.",
    )
    latest_by: str | None = Field(
        None,
        description="Column of numbers, timestamps or ISO 8601 text for duplicates: latest; the largest is latest.",
    )
    deleted: str | None = Field(
        None,
        description="Column that is true (or 1) in a row which says that its item is deleted. Of several rows of the item "
        "the latest decides with duplicates: latest, and the deletion otherwise. null expects no such rows.",
    )

    @model_validator(mode="after")
    def _content_is_named(self) -> Self:
        if self.precomputed is not None and self.precomputed_dim is None:
            raise ValueError("precomputed_dim is not set, must be the length of the vectors in precomputed")
        if not (self.text or self.image or self.audio or self.precomputed):
            raise ValueError("at least one of text, image, audio and precomputed must name a column")
        if self.duplicates == "latest" and self.latest_by is None:
            raise ValueError("latest_by is not set, must name the column whose largest value is latest")
        return self


class InteractionSource(TextSource):
    """The click log and the names of its columns."""

    section = "interactions"

    user_id: str = Field("user_id", description="Column of the user ID.")
    user_id_type: IdType = Field("integer", description="Type of the user ID: integer or string.")
    item_id: str = Field("item_id", description="Column of the item ID, which has the same type as in items.")
    event_timestamp: str = Field("event_timestamp", description="Column of the time of the event.")
    timestamp_unit: TimestampUnit = Field(
        "timestamp",
        description="Unit of event_timestamp: timestamp (a timestamp column or ISO 8601 text), or seconds, milliseconds, "
        "microseconds or nanoseconds since 1970.",
    )
    order_by: str | None = Field(
        None,
        description="Column of whole numbers that orders the rows of one user with the same event_timestamp, for example "
        "the line of a receipt; null orders them by a hash.",
    )
    label: str | None = Field(
        None, description="Column of the label, for example a rating or a click; null makes every row positive."
    )
    positive_from: float = Field(
        1.0, description="Lowest label that counts as positive (1); a lower label is negative (0)."
    )
    duplicates: Literal["max", "sum", "latest"] = Field(
        "max",
        description="Label of several rows of one user, item and time that have different labels: the highest, the sum of "
        "the different labels, or the latest by order_by.",
    )

    @model_validator(mode="after")
    def _order_is_named(self) -> Self:
        if self.duplicates == "latest" and self.order_by is None:
            raise ValueError("order_by is not set, must name the column whose largest number is latest")
        return self


class ServedScores(TextSource):
    """Scores that a ranking model gave in production, and the names of their columns."""

    section = "monitor.scores"

    score: str = Field("score", description="Column of the score.")
    event_timestamp: str = Field("event_timestamp", description="Column of the time at which the score was given.")
    timestamp_unit: TimestampUnit = Field(
        "timestamp", description="Unit of event_timestamp, as that of the section interactions."
    )


class RejectedShares(Section):
    """Highest share of rejected rows, beyond which ingest stops. One number in place of the section holds for both tables."""

    items: float = Field(0.05, ge=0, le=1, description="Highest share of rejected rows of the catalog, from 0 to 1.")
    interactions: float = Field(
        0.05, ge=0, le=1, description="Highest share of rejected rows of the click log, from 0 to 1."
    )
    reasons: dict[str, Annotated[float, Field(ge=0, le=1)]] = Field(
        {},
        description="Highest share of rows with a certain reason, by the reason, for example {user_id is null: 0.3}; these "
        "rows do not count for the share of their table.",
    )

    @model_validator(mode="before")
    @classmethod
    def _one_share_is_that_of_both(cls, content: Any) -> Any:
        if isinstance(content, str):  # a variable of the environment
            with contextlib.suppress(ValueError):
                content = float(content)
        if isinstance(content, (dict, cls)):
            return content
        if isinstance(content, bool) or not isinstance(content, (int, float)) or not 0 <= content <= 1:
            raise ValueError("must be a number from 0 to 1, or a section with items, interactions and reasons")
        return {"items": content, "interactions": content}
