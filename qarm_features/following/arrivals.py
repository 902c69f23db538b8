"""The rows of files that arrived, after the checks of ingest.

In: files of one source. Out: accepted and rejected rows, as ingest gives them. A file that cannot be read at all is rejected
as a whole, so that it does not hold up those that come after it. ::

    new.csv: two items, one without an ID   ->   one row for items, one for rejected_rows
    cut.parquet                             ->   one row for rejected_rows: ... cannot be read as Parquet
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from pyspark.sql import SparkSession

from qarm_features.catalog.checked_source import check_source
from qarm_features.catalog.ingest import Checked
from qarm_features.catalog.reading.some_files import one_path_of
from qarm_features.catalog.reading.source_files import shown_path
from qarm_features.catalog.reading.source_rows import IngestError
from qarm_features.catalog.rejections import RowCounts
from qarm_features.following.source_files import SourceFile, read_together
from qarm_features.settings.load import Settings
from qarm_features.storage.tables import INTERACTIONS, ITEMS, REJECTED_ROWS, Table
from qarm_features.storage.warehouse import Warehouse

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Arrivals:
    """The rows of one source in a batch.

    Attributes:
        table: Table that the rows are meant for.
        parts: Checked rows with their counts: of all files together, or of one file after the other if some cannot be read.
        broken: Files that cannot be read, with the reason.
    """

    table: Table
    parts: list[tuple[Checked, RowCounts]] = field(default_factory=list)
    broken: list[tuple[SourceFile, str]] = field(default_factory=list)

    @property
    def by_reason(self) -> Counter[str]:
        """Number of rejected rows by reason; a broken file counts as one row."""
        found = Counter(reason for _, reason in self.broken)
        for _, counts in self.parts:
            found.update(counts.by_reason)
        return found

    @property
    def rows_in(self) -> int:
        """Number of rows of the files; a broken file counts as one row."""
        return len(self.broken) + sum(counts.rows_in for _, counts in self.parts)

    def release(self) -> None:
        """Free the memory that Spark keeps the rows in."""
        for checked, _ in self.parts:
            checked.rows.unpersist()


def read_items(spark: SparkSession, settings: Settings, files: Sequence[SourceFile]) -> Arrivals:
    """Read and check files of the catalog."""
    return _read(spark, settings, ITEMS, files)


def read_interactions(spark: SparkSession, settings: Settings, files: Sequence[SourceFile]) -> Arrivals:
    """Read and check files of the click log."""
    return _read(spark, settings, INTERACTIONS, files)


def write_rejected_rows(warehouse: Warehouse, arrivals: Arrivals, *, writer: str, batch: int) -> None:
    """Add the rejected rows of a batch to ``rejected_rows``, once for any number of attempts.

    Args:
        warehouse: Tables of the project.
        arrivals: Rows of one source.
        writer: Name from ``writer_name``.
        batch: Number of the batch.
    """
    by_reason = arrivals.by_reason
    if not by_reason.total():
        return
    files = [(arrivals.table.name, shown_path(file.path), reason, file.path) for file, reason in arrivals.broken]
    schema = "`table` string, `row` string, reason string, file string"
    rows = warehouse.conform(REJECTED_ROWS, warehouse.spark.createDataFrame(files, schema))
    for checked, _ in arrivals.parts:
        rows = rows.unionByName(warehouse.conform(REJECTED_ROWS, checked.rejected))
    warehouse.append(REJECTED_ROWS, rows, once=(f"{writer} {arrivals.table.name}", batch))
    for reason, count in by_reason.items():
        _log.warning("WARNING: %s rows of %s were rejected: %s", f"{count:,}", arrivals.table.name, reason)


def _read(spark: SparkSession, settings: Settings, table: Table, files: Sequence[SourceFile]) -> Arrivals:
    arrivals = Arrivals(table)
    waiting = read_together(files)
    while waiting:
        part = waiting.pop(0)
        try:
            found = check_source(spark, settings, table, one_path_of([file.path for file in part]))
        except IngestError as error:
            if len(part) == 1:
                arrivals.broken.append((part[0], str(error)))
            else:
                waiting[:0] = [[file] for file in part]
        else:
            arrivals.parts.append((found.checked, found.counts))
    return arrivals
