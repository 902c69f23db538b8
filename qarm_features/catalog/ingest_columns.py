"""Source columns become content with checks.

In: the source rows and the section of the settings that names the column. Out: the typed value, null where it cannot be
read, and checks. A check is a condition that a bad row meets, with the reason for its rejection.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from qarm_features.catalog.checks import Check, IngestError
from qarm_features.catalog.nested_text import text_of
from qarm_features.settings.sources import ItemSource
from qarm_features.storage.sql_names import column_of

FileState = Callable[[str | None], str | None]


def content_columns(raw: DataFrame, source: ItemSource) -> tuple[dict[str, Column], list[Check]]:
    """Return the content columns that the settings name, null where a row has no such content, and their checks.

    Raises:
        IngestError: A column has a type that cannot hold the content.
    """
    content: dict[str, Column] = {}
    checks: list[Check] = []
    if source.text:
        content["text"] = non_empty(F.concat_ws(". ", *[non_empty(as_text(raw, name)) for name in source.text]))
    for medium in ("image", "audio"):
        if (column := getattr(source, medium)) is not None:
            value, kind = column_of(column), raw.schema[column].dataType
            if isinstance(kind, T.BinaryType):
                content[medium] = F.when(F.length(value) > 0, value)
            elif isinstance(kind, T.StringType):
                content[f"{medium}_uri"] = non_empty(value)
            else:
                raise IngestError(
                    f"items.{medium} is {column}, a column of type {kind.simpleString()}, must be a binary column or a "
                    "string column of paths or URIs. Name another column."
                )
    if source.precomputed is not None:
        content["precomputed"], checks = _precomputed(raw, source.precomputed, source.precomputed_dim)
    return content, checks


def _precomputed(raw: DataFrame, column: str, dim: int | None) -> tuple[Column, list[Check]]:
    """Return the vectors in a source column as ``array<float>``, and their checks."""
    value, kind = column_of(column), raw.schema[column].dataType
    if isinstance(kind, T.StringType):
        value = non_empty(value)
        numbers = F.from_json(value, "array<double>")
    elif isinstance(kind, T.ArrayType) and isinstance(kind.elementType, T.NumericType):
        numbers = value
    else:
        raise IngestError(
            f"items.precomputed is {column}, a column of type {kind.simpleString()}, must be a column of arrays of "
            "numbers or of JSON arrays of numbers. Name another column."
        )
    vector = numbers.cast("array<float>")
    unusable = F.exists(vector, lambda n: n.isNull() | F.isnan(n) | (F.abs(n) == float("inf")))
    return vector, [
        (value.isNotNull() & numbers.isNull(), "precomputed is not an array of numbers"),
        (numbers.isNotNull() & (F.size(numbers) != dim), f"precomputed does not have {dim} numbers"),
        (unusable, "precomputed holds a null or a number that is not finite"),
    ]


def local_file_state(roots: Sequence[str]) -> FileState | None:
    """Return the function that gives size and time of a local medium, by which the content hash notices a changed file.

    Args:
        roots: Folders and URI prefixes under which media may be read. None are needed for a catalog without media.

    Returns:
        The function, which executors call; None without roots.
    """
    if not roots:
        return None
    from qarm_features.encoders.media import media_state  # It imports torch.

    return functools.partial(media_state, roots=roots)


def file_states(name: str, value: Column, file_state: FileState | None) -> Column:
    """Return the state of the local files that a content column names, as text.

    The executors call ``file_state``, so they must see the files, as they must to encode them.

    Args:
        name: Name of the content column in ``items``.
        value: Content column.
        file_state: Function that takes a URI and returns the state of its local file, or None where there is no such file.

    Returns:
        The state after a colon. An empty string where there is none, where the column holds no URIs, and where
        ``file_state`` is None.
    """
    if not name.endswith("_uri") or file_state is None:
        return F.lit("")

    def states(uris: pa.Array) -> pa.Array:
        return pa.array([file_state(uri) for uri in uris.to_pylist()], pa.string())

    as_text = F.arrow_udf(states, "string")  # type: ignore[call-overload]  # the stubs demand functionType, which has a default
    return F.coalesce(F.concat(F.lit(":"), as_text(value)), F.lit(""))


def as_text(raw: DataFrame, column: str) -> Column:
    """Return a column as text. ``text_of`` says how lists and objects become text."""
    return text_of(column_of(column), raw.schema[column].dataType)


def non_empty(text: Column) -> Column:
    """Return trimmed text, null where nothing is left."""
    return F.when(F.length(F.trim(text)) > 0, F.trim(text))
