"""The files that were added to the sources since the last run are read, and their rows are added to the tables.

In: the basis of the last run, and the files that are there now. Out: the same rows as a run over all files would give, or
``WholeWork`` before anything is written.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from pyspark.sql import DataFrame

from qarm_features.catalog.checked_source import SOURCE_TABLES, CheckedSource, check_source, source_of, source_path
from qarm_features.catalog.checks import IngestError, remarks
from qarm_features.catalog.event_times import early_times, require_fitting_unit
from qarm_features.catalog.reading.new_files import new_files
from qarm_features.catalog.reading.some_files import one_path_of
from qarm_features.catalog.reading.source_files import resolve
from qarm_features.catalog.rejections import RowCounts, require_few_rejected
from qarm_features.catalog.unknown_items import (
    UnknownItems,
    count_unknown_items,
    require_known_items,
    user_ids_like_floats,
)
from qarm_features.jobs.bases import Basis, WholeWork, files_mark, mark, read_basis, require_same, write_basis
from qarm_features.jobs.context import JobContext
from qarm_features.jobs.counts import Counts
from qarm_features.settings.load import Settings
from qarm_features.storage.tables import INTERACTIONS, ITEMS, REJECTED_ROWS, Table
from qarm_features.storage.warehouse import Warehouse

Added = dict[Table, CheckedSource]


def ingest_new_files(context: JobContext, job: str, seen: Mapping[str, Any]) -> Counts:
    """Adds the rows of new files to the tables of the last run.

    Args:
        context: Context of the job.
        job: Name of the job.
        seen: Its present inputs.

    Returns:
        Counts of all rows, those of earlier runs too.

    Raises:
        WholeWork: Something else happened than that files came, or a new row cannot be added to those that stand there.
    """
    settings, warehouse = context.settings, context.warehouse
    basis = read_basis(settings, job, whole=context.whole)
    files = _new_files(context, basis, seen)
    require_same(basis.tables, ingested_tables(warehouse), "holds other rows than that run wrote")
    try:
        added = {table: check_source(context.spark, settings, table, one_path_of(files[table])) for table in files}
        totals = _totals(basis, added)
        _require_addable(warehouse, settings, basis, added, totals)
        unknown, remedy = _unknown_items(warehouse, settings, basis, added, totals)
    except IngestError as error:  # A run over all files says what is wrong with them.
        raise WholeWork(f"the new files alone give an error: {error}") from error
    for one in added.values():
        if one.counts.rejected:
            warehouse.append(REJECTED_ROWS, one.checked.rejected)
    for table, one in added.items():
        if one.counts.accepted:
            warehouse.append(table, one.checked.accepted, fill=False)
    facts = {**basis.facts, **_counted(totals, unknown)}
    write_basis(settings, job, Basis(dict(seen), ingested_tables(warehouse), facts))
    said = [f"{added[t].counts.accepted:,} {t.name} of {len(files[t]):,} new files were added" for t in added]
    clicks = added.get(INTERACTIONS)
    doubts = remarks(clicks.checked.accepted, [user_ids_like_floats(), early_times()]) if clicks else []
    counts = totals[ITEMS], totals[INTERACTIONS]
    return counts_of(*counts, [*said, rejected_remark(*counts), str(unknown), remedy, *doubts])


def ingested_tables(warehouse: Warehouse) -> dict[str, Any]:
    """Returns the state of what ingest writes."""
    parts = {f"rejected rows of {t.name}": files_mark(warehouse, REJECTED_ROWS, "table", t.name) for t in SOURCE_TABLES}
    return {**{table.name: mark(warehouse, table) for table in SOURCE_TABLES}, **parts}


def ingest_facts(catalog: CheckedSource, clicks: CheckedSource, unknown: UnknownItems) -> dict[str, Any]:
    """Returns what the next run wants to know of a run over all files."""
    schemas = {ITEMS.name: catalog.raw.schema.json(), INTERACTIONS.name: clicks.raw.schema.json()}
    return {"schemas": schemas, **_counted({ITEMS: catalog.counts, INTERACTIONS: clicks.counts}, unknown)}


def counts_of(of_items: RowCounts, of_log: RowCounts, said: Iterable[str]) -> Counts:
    """Returns the counts of a run, with its remarks."""
    rows_in, rows_out = of_items.rows_in + of_log.rows_in, of_items.accepted + of_log.accepted
    remark = "; ".join(remark.rstrip(".") for remark in said if remark)
    return Counts(rows_in, rows_out, rows_in - rows_out, remark)


def rejected_remark(of_items: RowCounts, of_log: RowCounts) -> str:
    """Returns how many rows were rejected for which reason, the most frequent first; empty if none were."""
    reasons = [(-n, c.table, reason) for c in (of_items, of_log) for reason, n in c.by_reason.items()]
    listed = ", ".join(f"{-negative:,} {table}: {reason}" for negative, table, reason in sorted(reasons))
    return listed and f"rejected_rows: {listed}"


def _new_files(context: JobContext, basis: Basis, seen: Mapping[str, Any]) -> dict[Table, tuple[str, ...]]:
    """Returns the paths of the new files by the table that they are meant for."""
    settings = context.settings
    sources = {table: source_of(settings, table) for table in SOURCE_TABLES}
    names = [str(source.path or source.table) for source in sources.values()]
    require_same(basis.inputs, seen, "changed", but=names)
    found = {}
    for (table, source), name in zip(sources.items(), names):
        place = source_path(settings, table)
        new = new_files(table.name, source, place, basis.inputs.get(name), seen.get(name))
        if new.fault:
            raise WholeWork(new.fault)
        if new.paths:
            resolve(context.spark, str(place), setting=f"{table.name}.path")  # refuses hidden files
            found[table] = new.paths
    if not found:
        raise WholeWork("no file is new")
    return found


def _require_addable(
    warehouse: Warehouse, settings: Settings, basis: Basis, added: Added, totals: Mapping[Table, RowCounts]
) -> None:
    """Refuses rows that a run over all files might read in another way, or whose key another row has already."""
    for table, one in added.items():
        if one.raw.schema.json() != basis.facts["schemas"][table.name]:
            raise WholeWork(f"the new files of {table.name} have other columns or types than the earlier ones")
        present, key = warehouse.read(table).select(*table.key), list(table.key)
        known = present.join(
            one.checked.accepted.select(*key), on=key, how="left_semi"
        ).count()  # the few are broadcast
        if known:
            raise WholeWork(f"{known:,} new rows of {table.name} have a key ({', '.join(table.key)}) of an earlier row")
    of_log, clicks = totals[INTERACTIONS], added.get(INTERACTIONS)
    if clicks is not None:
        require_fitting_unit(of_log.by_reason, of_log.accepted, clicks.raw, settings.interactions)
    require_few_rejected([totals[ITEMS], of_log], settings.max_rejected_share)


def _unknown_items(
    warehouse: Warehouse, settings: Settings, basis: Basis, added: Added, totals: Mapping[Table, RowCounts]
) -> tuple[UnknownItems, str]:
    """Returns the clicks of unknown items of old and new files, and what to do about them."""

    def with_new(table: Table) -> DataFrame:
        rows = warehouse.read(table).select("item_id")
        return rows.unionByName(added[table].checked.accepted.select("item_id")) if table in added else rows

    items, all_clicks = with_new(ITEMS), totals[INTERACTIONS].accepted
    if not basis.facts["unknown"]:
        clicks = added.get(INTERACTIONS)
        if clicks is None or not count_unknown_items(items, clicks.checked.accepted).rows:
            return UnknownItems(0, 0, all_clicks), ""
    interactions = with_new(INTERACTIONS)
    unknown = count_unknown_items(items, interactions)
    return unknown, require_known_items(unknown, items, interactions, settings.max_unknown_item_share)


def _totals(basis: Basis, added: Added) -> dict[Table, RowCounts]:
    """Returns the counts of the rows of old and new files together."""
    found = {}
    for table in SOURCE_TABLES:
        before = RowCounts(table.name, **basis.facts["counts"][table.name])
        new = added[table].counts if table in added else RowCounts(table.name, 0, {})
        by_reason = dict(Counter(before.by_reason) + Counter(new.by_reason))
        found[table] = RowCounts(table.name, before.accepted + new.accepted, by_reason)
    return found


def _counted(counts: Mapping[Table, RowCounts], unknown: UnknownItems) -> dict[str, Any]:
    kept = {table.name: {"accepted": one.accepted, "by_reason": dict(one.by_reason)} for table, one in counts.items()}
    return {"counts": kept, "unknown": unknown.rows}
