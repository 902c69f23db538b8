"""The first rows of a source go through the checks of ingest, so that a first run is not the first to refuse them.

In: the sections ``items`` and ``interactions`` of the settings. Out: a ``Trial`` for each: how many rows would be accepted,
and the others by reason, with an example. Nothing is written to the tables.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from qarm_features.catalog.checks import IngestError
from qarm_features.catalog.event_times import require_fitting_unit
from qarm_features.catalog.ingest import Checked, check_interactions, check_items
from qarm_features.catalog.reading.first_rows import FirstRows, first_rows, place_of
from qarm_features.catalog.rejections import RowCounts, require_few_rejected
from qarm_features.catalog.unknown_items import UnknownItems, count_unknown_items, require_known_items
from qarm_features.settings.load import Settings
from qarm_features.storage.tables import INTERACTIONS, ITEMS

_LONGEST_ROW = 120  # characters of an example


class Rejected(NamedTuple):
    """Rejected rows of one reason.

    Attributes:
        reason: The reason, as it would stand in ``rejected_rows``.
        rows: Number of the rows.
        example: One of them: its file and line, and the row.
    """

    reason: str
    rows: int
    example: str


class Trial(NamedTuple):
    """What the checks say about the first rows of a source.

    Attributes:
        counts: Row counts.
        rejected: Rejected rows by reason, the most frequent first.
        first: The first accepted row by column, without bytes and vectors; empty if there is none.
        source: How many rows of which part of the source were tried, as a sentence.
        fault: Why a run would stop at these rows; empty if it would not.
    """

    counts: RowCounts
    rejected: list[Rejected]
    first: dict[str, Any]
    source: str
    fault: str


class Trials(NamedTuple):
    """The trials of both sources.

    Attributes:
        items: Trial of the catalog.
        interactions: Trial of the click log.
        unknown: Rows of the click log whose item is missing; None where only a part of the catalog was read.
        remedy: What to do about them; empty if there is nothing to do.
        is_stopped_by_unknown: Whether a run would stop because of them.
    """

    items: Trial
    interactions: Trial
    unknown: UnknownItems | None
    remedy: str
    is_stopped_by_unknown: bool


def try_sources(spark: SparkSession, settings: Settings, folder: Path) -> Trials:
    """Check the first rows of the catalog and of the click log.

    Args:
        spark: Spark session.
        settings: Settings of the project.
        folder: Empty folder for copies of first lines, which the caller removes.

    Raises:
        IngestError: A source does not fit the settings.
    """
    catalog, log = (
        first_rows(spark, section, section.path and settings.path(section.path), folder / name)
        for name, section in (("items", settings.items), ("interactions", settings.interactions))
    )
    items = check_items(catalog.frame, settings.items)
    interactions = check_interactions(log.frame, settings.interactions, item_id_type=settings.items.item_id_type)

    def unit(counts: RowCounts) -> None:
        require_fitting_unit(counts.by_reason, counts.accepted, log.frame, settings.interactions)

    of_items = _trial(items, catalog, ITEMS.name, settings, lambda counts: None)
    of_log = _trial(interactions, log, INTERACTIONS.name, settings, unit)
    unknown, remedy, stopped = None, "", False
    if catalog.is_whole and of_items.counts.accepted and of_log.counts.accepted:
        unknown = count_unknown_items(items.accepted, interactions.accepted)
        try:
            remedy = require_known_items(
                unknown, items.accepted, interactions.accepted, settings.max_unknown_item_share
            )
        except IngestError as error:
            remedy, stopped = str(error), True
    for checked in (items, interactions):
        checked.rows.unpersist()
    return Trials(of_items, of_log, unknown, remedy, stopped)


def _trial(
    checked: Checked, rows: FirstRows, table: str, settings: Settings, more: Callable[[RowCounts], None]
) -> Trial:
    counts = checked.counts(table)
    fault = ""
    try:
        more(counts)
        shares = settings.max_rejected_share
        seen = {reason: share for reason, share in shares.reasons.items() if reason in counts.by_reason}
        require_few_rejected([counts], shares.model_copy(update={"reasons": seen}))
    except IngestError as error:
        # The reasons stand beside it, and no row was written.
        fault = re.sub(r" By reason: .*| The rows are in rejected_rows\.", "", str(error))
    return Trial(
        counts, _by_reason(checked.rejected, counts, rows), _first(checked.accepted), _said(counts, rows), fault
    )


def _by_reason(rejected: DataFrame, counts: RowCounts, rows: FirstRows) -> list[Rejected]:
    """Return the rejected rows by reason; there are no more of them than first rows."""
    of_reason = rejected.groupBy("reason").agg(
        F.min_by(F.struct("row", "file", "line"), F.struct("file", "line")).alias("one")
    )
    found = []
    for row in of_reason.collect():
        one, place = row["one"], place_of(rows, row["one"])
        text = one["row"] if len(one["row"]) <= _LONGEST_ROW else one["row"][:_LONGEST_ROW] + "..."
        found.append(Rejected(row["reason"], counts.by_reason[row["reason"]], f"{place}: {text}" if place else text))
    return sorted(found, key=lambda one: (-one.rows, one.reason))


def _first(accepted: DataFrame) -> dict[str, Any]:
    names = [
        name for name, kind in accepted.dtypes if not kind.startswith(("binary", "array")) and name != "content_hash"
    ]
    row = accepted.select(*names).orderBy(*names).first()
    return {} if row is None else {name: value for name, value in row.asDict().items() if value is not None}


def _said(counts: RowCounts, rows: FirstRows) -> str:
    if rows.is_whole:
        return f"all {counts.rows_in:,} rows were tried"
    where = f" of {rows.files:,} of {rows.all_files:,} files" if rows.all_files and rows.all_files > 1 else ""
    return f"the first {counts.rows_in:,} rows{where} were tried"
