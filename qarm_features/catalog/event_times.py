"""A source column becomes the time of an event, and another one the order within a moment.

In: a column of timestamps, dates, text or numbers. Out: UTC timestamps from 1970 to 2100, and checks. Text must be ISO 8601
with a date. Text and timestamps without a zone are read in the zone of the Spark session, which is UTC unless ``spark.conf``
sets ``spark.sql.session.timeZone``. ::

    2024-01-05T10:15:00+01:00  ->  2024-01-05 09:15:00
    2024-01-05 10:15           ->  2024-01-05 10:15:00
    2024-01-05                 ->  2024-01-05 00:00:00
    10:15:00, 2024, 2024-01    ->  event_timestamp is not a timestamp
"""

from __future__ import annotations

from collections.abc import Mapping

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from qarm_features.catalog.checks import Check, Doubt, IngestError, number_text, trimmed
from qarm_features.catalog.id_columns import id_column
from qarm_features.settings.sources import InteractionSource, ServedScores
from qarm_features.storage.sql_names import column_of
from qarm_features.storage.tables import ORDER_IN_MOMENT

PER_SECOND = {"seconds": 1, "milliseconds": 10**3, "microseconds": 10**6, "nanoseconds": 10**9}
_LATEST = 4_102_444_800  # 2100-01-01: a number outside 1970 to 2100 is usually in another unit
_PLAUSIBLE = 631_152_000  # 1990-01-01: no log of clicks is older, and under a wrong unit none looks younger
_FIRST_DAYS = _LATEST // 1000  # up to here lie seconds that were read as milliseconds
_ISO = (
    r"\A[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}"
    r"([T ][0-9]{1,2}(:[0-9]{1,2}(:[0-9]{1,2}([.][0-9]{1,9})?)?)?"
    r"( ?(Z|UTC|GMT|[+-][0-9]{2}(:?[0-9]{2})?|[A-Z][A-Za-z_]+/[A-Za-z_/-]+))?)?\z"
)
_MINUTES_AND_ZONE = r"\A(\S+[T ][0-9]{1,2}:[0-9]{1,2})( ?[A-Z+-].*)\z"  # Spark wants seconds before a zone


def timestamp_column(raw: DataFrame, source: InteractionSource | ServedScores) -> tuple[Column, list[Check]]:
    """Return the time of an event, null where it cannot be read, and its checks.

    Args:
        raw: Source rows.
        source: Section ``interactions`` or ``monitor.scores`` of the settings. ``timestamp_unit`` names the unit of numbers.

    Raises:
        IngestError: The type of the column does not go with ``timestamp_unit``.
    """
    value, kind = column_of(source.event_timestamp), raw.schema[source.event_timestamp].dataType
    _require_fitting_type(kind, source)
    is_text = isinstance(kind, (T.StringType, T.NullType))
    text = trimmed(value.cast("string"))
    missing = value.isNull() | (text == "") if is_text else value.isNull()
    if source.timestamp_unit != "timestamp":
        if isinstance(kind, T.DoubleType):
            missing = missing | F.isnan(value)
        number = number_text(text) if is_text else value
        timestamp, checks = _from_number(number, source.timestamp_unit)
        return timestamp, [(missing, "event_timestamp is null"), *checks]
    if is_text:
        with_seconds = F.regexp_replace(text, _MINUTES_AND_ZONE, "$1:00$2")
        value = F.when(text.rlike(_ISO), with_seconds)
    timestamp = value.try_cast("timestamp")
    return timestamp, [
        (missing, "event_timestamp is null"),
        (timestamp.isNull(), "event_timestamp is not a timestamp"),
        (~F.unix_micros(timestamp).between(0, _LATEST * 10**6), "event_timestamp is not between 1970 and 2100"),
    ]


def order_columns(raw: DataFrame, source: InteractionSource) -> tuple[list[Column], list[Check]]:
    """Return the column that orders the rows of one moment, or none if the settings name none, and its checks.

    A row without a number is kept. It comes before the rows of its moment that have one.
    """
    if source.order_by is None:
        return [], []
    value, checks = id_column(raw, "order_by", source.order_by, "integer")
    present = ~checks[0][0]
    return [value.alias(ORDER_IN_MOMENT)], [(present & failed, reason) for failed, reason in checks[1:]]


def other_unit_reason(other: str, unit: str) -> str:
    """Return the reason of a row whose number is a plausible time in another unit only."""
    return f"event_timestamp is in {other}, not in {unit}"


def require_fitting_unit(
    by_reason: Mapping[str, int], accepted: int, raw: DataFrame, source: InteractionSource
) -> None:
    """Raise an error if most times of the click log fit another unit than the settings name.

    Args:
        by_reason: Number of rejected rows by reason.
        accepted: Number of accepted rows.
        raw: Source rows, for the range of times in the message.
        source: Section ``interactions`` of the settings.

    Raises:
        IngestError: More rows were rejected for their unit than rows were accepted. The message names the unit that fits.
    """
    unit = source.timestamp_unit
    for other in PER_SECOND:
        if by_reason.get(other_unit_reason(other, unit), 0) > accepted:
            timestamp, checks = timestamp_column(raw, source.model_copy(update={"timestamp_unit": other}))
            usable = raw.select(F.when(~F.coalesce(*[failed for failed, _ in checks]), timestamp).alias("at"))
            first, last = usable.agg(*[F.date_format(f("at"), "yyyy-MM-dd") for f in (F.min, F.max)]).collect()[0]
            raise IngestError(
                f"{source.section}.timestamp_unit is {unit}, but most numbers in the column {source.event_timestamp} are "
                f"times from 1990 to 2100 only in {other}, where they lie from {first} to {last}. Set timestamp_unit: "
                f"{other}."
            )


def early_times() -> Doubt:
    """Return the doubt about times in the first days of 1970.

    There lie times that were made from numbers in a wrong unit before they came here.
    """
    early = F.unix_seconds("event_timestamp") < _FIRST_DAYS
    return Doubt(early, "lie in January or February 1970: check their unit")


def _require_fitting_type(kind: T.DataType, source: InteractionSource | ServedScores) -> None:
    column, unit = source.event_timestamp, source.timestamp_unit
    if unit == "timestamp" and isinstance(kind, T.NumericType):
        raise IngestError(
            f"{source.section}.timestamp_unit is timestamp, must be seconds, milliseconds, microseconds or nanoseconds, "
            f"because the column {column} has type {kind.simpleString()}. Set the unit of its numbers."
        )
    if unit != "timestamp" and isinstance(kind, (T.TimestampType, T.TimestampNTZType, T.DateType)):
        raise IngestError(
            f"{source.section}.timestamp_unit is {unit}, must be timestamp, because the column {column} has type "
            f"{kind.simpleString()}."
        )
    if isinstance(kind, T.FloatType):
        raise IngestError(
            f"{source.section}.event_timestamp is {column}, a column of type float, which holds present times to a minute or "
            "two only. Write it as double or as integers."
        )
    known = (T.StringType, T.NullType, T.NumericType, T.TimestampType, T.TimestampNTZType, T.DateType)
    if not isinstance(kind, known):
        raise IngestError(
            f"{source.section}.event_timestamp is {column}, a column of type {kind.simpleString()}, must hold timestamps, "
            "dates, text or numbers. Name another column."
        )


def _from_number(number: Column, unit: str) -> tuple[Column, list[Check]]:
    """Return the time of a number, exact to the microsecond, and the checks of the number."""
    rough = number.try_cast("double")

    def fits(name: str, earliest: int) -> Column:
        return rough.between(float(earliest * PER_SECOND[name]), float(_LATEST * PER_SECOND[name]))

    exact = F.when(fits(unit, 0), number).try_cast("decimal(28,9)")
    if unit == "nanoseconds":
        micros = exact / F.lit(1000).cast("decimal(4,0)")
    else:
        micros = exact * F.lit(10**6 // PER_SECOND[unit]).cast("decimal(7,0)")
    others = [name for name in PER_SECOND if name != unit]
    return F.timestamp_micros(F.floor(micros).cast("bigint")), [
        (rough.isNull() | F.isnan(rough) | (F.abs(rough) == float("inf")), "event_timestamp is not a number"),
        *[(fits(name, _PLAUSIBLE), other_unit_reason(name, unit)) for name in others],
        (~fits(unit, 0), "event_timestamp is not between 1970 and 2100"),
    ]
