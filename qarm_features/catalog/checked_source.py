"""A source after the checks of ingest: of all of its files, or of those at one path.

In: the settings, and a path. Out: the rows as the user has them, the checked rows, and their counts.
"""

from __future__ import annotations

from typing import NamedTuple

from pyspark.sql import DataFrame, SparkSession

from qarm_features.catalog.ingest import Checked, check_interactions, check_items
from qarm_features.catalog.ingest_columns import local_file_state
from qarm_features.catalog.reading.read_source import open_source
from qarm_features.catalog.rejections import RowCounts, require_all_lines
from qarm_features.settings.load import Settings
from qarm_features.settings.sources import TextSource
from qarm_features.storage.tables import INTERACTIONS, ITEMS, Table


class CheckedSource(NamedTuple):
    """Rows of one source.

    Attributes:
        raw: The user's rows.
        checked: Rows after the checks.
        counts: Counts of these.
    """

    raw: DataFrame
    checked: Checked
    counts: RowCounts


def check_source(spark: SparkSession, settings: Settings, table: Table, path: str | None) -> CheckedSource:
    """Read and check the rows of a source.

    Args:
        spark: Spark session.
        settings: Settings of the project.
        table: Table that the rows are meant for, ``ITEMS`` or ``INTERACTIONS``.
        path: Path to read, for all of the source its own. None for a table of Spark's catalog.

    Raises:
        IngestError: The source does not fit the settings, or its files changed while they were read.
    """
    source = source_of(settings, table)
    read = open_source(spark, source, path)
    if table is ITEMS:
        file_state = local_file_state([settings.path(root.get_secret_value()) for root in settings.encoder.media_roots])
        checked = check_items(read.frame, settings.items, file_state=file_state)
    else:
        checked = check_interactions(read.frame, settings.interactions, item_id_type=settings.items.item_id_type)
    counts = checked.counts(table.name)
    require_all_lines(counts, read.lines, source.path)
    return CheckedSource(read.frame, checked, counts)


def source_of(settings: Settings, table: Table) -> TextSource:
    """Return the section of the settings that names the source of a table, ``ITEMS`` or ``INTERACTIONS``."""
    return settings.items if table is ITEMS else settings.interactions


def source_path(settings: Settings, table: Table) -> str | None:
    """Return the resolved path of the source of a table, ``ITEMS`` or ``INTERACTIONS``; None for one of Spark's catalog."""
    path = source_of(settings, table).path
    return None if path is None else settings.path(path)


SOURCE_TABLES = (ITEMS, INTERACTIONS)
