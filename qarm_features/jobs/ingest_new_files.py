"""The files that were added to the sources since the last run are read, and their rows are added to the tables.

In: the basis of the last run, and the files that are there now. Out: the same rows as a run over all files would give, or
``WholeWork`` before anything is written. If a new row changes or deletes an item, all files of the catalog are read again,
but not the click log, which is larger.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

from pyspark.sql import DataFrame

from qarm_features.catalog.checked_source import SOURCE_TABLES, CheckedSource, check_source, source_of, source_path
from qarm_features.catalog.checks import IngestError, remarks
from qarm_features.catalog.deletions import DELETED
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
from qarm_features.jobs.bases import Basis, WholeWork, read_basis, require_same, write_basis
from qarm_features.jobs.context import JobContext
from qarm_features.jobs.counts import Counts
from qarm_features.jobs.ingested import (
    counted_facts,
    counts_of,
    ingested_tables,
    known_item_ids,
    rejected_remark,
    write_items,
)
from qarm_features.jobs.states import source_states
from qarm_features.settings.load import Settings
from qarm_features.storage.tables import DELETED_ITEMS, INTERACTIONS, ITEMS, REJECTED_ROWS, Table
from qarm_features.storage.warehouse import Warehouse

log = logging.getLogger(__name__)


class Part(NamedTuple):
    """What is written of a source.

    Attributes:
        source: Checked rows of its new files, or of all of its files.
        is_whole: True if they are those of all files.
    """

    source: CheckedSource
    is_whole: bool = False


Parts = dict[Table, Part]


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
        parts = {
            table: Part(check_source(context.spark, settings, table, one_path_of(paths)))
            for table, paths in files.items()
        }
        _require_addable(warehouse, basis, parts)
        if reason := _why_catalog_again(warehouse, parts):
            log.info("ingest-catalog reads all files of the catalog, because %s", reason)
            whole = check_source(context.spark, settings, ITEMS, source_path(settings, ITEMS))
            parts[ITEMS] = Part(whole, is_whole=True)
        totals = _totals(basis, parts)
        _require_few_faults(settings, parts, totals)
        unknown, remedy = _unknown_items(warehouse, settings, basis, parts, totals)
    except IngestError as error:  # A run over all files says what is wrong with them.
        raise WholeWork(f"the new files alone give an error: {error}") from error
    for table, part in parts.items():
        _write_rejected(warehouse, table, part)
    for table, part in parts.items():
        if part.is_whole:
            write_items(warehouse, settings, part.source.checked)
        elif part.source.counts.accepted:
            warehouse.append(table, part.source.checked.accepted, fill=False)
    facts = {**basis.facts, **counted_facts(totals, unknown)}
    if not reason or _are_as_seen(settings, seen):  # or else a file may have been read that seen does not name
        write_basis(settings, job, Basis(dict(seen), ingested_tables(warehouse), facts))
    said = [_said(table, part, len(files[table])) for table, part in parts.items()]
    clicks = parts.get(INTERACTIONS)
    doubts = remarks(clicks.source.checked.accepted, [user_ids_like_floats(), early_times()]) if clicks else []
    counts = totals[ITEMS], totals[INTERACTIONS]
    return counts_of(*counts, [*said, rejected_remark(*counts), str(unknown), remedy, *doubts])


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


def _require_addable(warehouse: Warehouse, basis: Basis, parts: Parts) -> None:
    """Refuses rows that a run over all files might read in another way, and clicks that another row has already."""
    for table, part in parts.items():
        if part.source.raw.schema.json() != basis.facts["schemas"][table.name]:
            raise WholeWork(f"the new files of {table.name} have other columns or types than the earlier ones")
    if INTERACTIONS in parts and (known := _known(warehouse, INTERACTIONS, parts[INTERACTIONS])):
        raise WholeWork(
            f"{known:,} new rows of interactions have a key ({', '.join(INTERACTIONS.key)}) of an earlier row"
        )


def _why_catalog_again(warehouse: Warehouse, parts: Parts) -> str:
    """Returns why new rows of items cannot be added without the earlier ones; empty if they can."""
    if ITEMS not in parts:
        return ""
    part = parts[ITEMS]
    if DELETED in part.source.counts.by_reason:
        return "new rows say that items are deleted"
    if known := _known(warehouse, ITEMS, part):
        return f"{known:,} new rows have the item_id of an earlier row"
    if back := _known(warehouse, DELETED_ITEMS, part):
        return f"{back:,} new rows are of items that an earlier row has deleted"
    return ""


def _known(warehouse: Warehouse, table: Table, part: Part) -> int:
    """Returns how many keys of new rows a table holds."""
    present, key = warehouse.read_or_empty(table).select(*table.key), list(table.key)
    new = part.source.checked.accepted.select(*key)
    return present.join(new, on=key, how="left_semi").count()  # the few are broadcast


def _require_few_faults(settings: Settings, parts: Parts, totals: Mapping[Table, RowCounts]) -> None:
    of_log, clicks = totals[INTERACTIONS], parts.get(INTERACTIONS)
    if clicks is not None:
        require_fitting_unit(of_log.by_reason, of_log.accepted, clicks.source.raw, settings.interactions)
    require_few_rejected([totals[ITEMS], of_log], settings.max_rejected_share)


def _unknown_items(
    warehouse: Warehouse, settings: Settings, basis: Basis, parts: Parts, totals: Mapping[Table, RowCounts]
) -> tuple[UnknownItems, str]:
    """Returns the clicks of unknown items of old and new files, and what to do about them."""
    items, all_clicks = _known_item_ids(warehouse, parts.get(ITEMS)), totals[INTERACTIONS].accepted
    clicks = parts.get(INTERACTIONS)
    only_new = not basis.facts["unknown"] and not (ITEMS in parts and parts[ITEMS].is_whole)
    if only_new and (clicks is None or not count_unknown_items(items, clicks.source.checked.accepted).rows):
        return UnknownItems(0, 0, all_clicks), ""
    interactions = warehouse.read(INTERACTIONS).select("item_id")
    if clicks is not None:
        interactions = interactions.unionByName(clicks.source.checked.accepted.select("item_id"))
    unknown = count_unknown_items(items, interactions)
    return unknown, require_known_items(unknown, items, interactions, settings.max_unknown_item_share)


def _known_item_ids(warehouse: Warehouse, part: Part | None) -> DataFrame:
    """Returns the IDs of the items of old and new files, with those of deleted ones."""
    if part is not None and part.is_whole:
        return known_item_ids(part.source.checked)
    known = warehouse.read(ITEMS).select("item_id").unionByName(warehouse.read_or_empty(DELETED_ITEMS))
    return known if part is None else known.unionByName(part.source.checked.accepted.select("item_id"))


def _write_rejected(warehouse: Warehouse, table: Table, part: Part) -> None:
    if part.is_whole:
        warehouse.overwrite(REJECTED_ROWS, part.source.checked.rejected, where=f"`table` = '{table.name}'")
    elif part.source.counts.rejected:
        warehouse.append(REJECTED_ROWS, part.source.checked.rejected)


def _are_as_seen(settings: Settings, seen: Mapping[str, Any]) -> bool:
    now = json.loads(json.dumps(source_states(settings.items, settings.interactions, settings=settings)))
    return all(seen[name] == state for name, state in now.items())


def _said(table: Table, part: Part, files: int) -> str:
    """Returns a clause for people about what was written of a source."""
    if part.is_whole:
        return f"all {part.source.counts.accepted:,} {table.name} were read again, {files:,} files are new"
    return f"{part.source.counts.accepted:,} {table.name} of {files:,} new files were added"


def _totals(basis: Basis, parts: Parts) -> dict[Table, RowCounts]:
    """Returns the counts of the rows of old and new files together."""
    found = {}
    for table in SOURCE_TABLES:
        part = parts.get(table)
        before = RowCounts(table.name, **basis.facts["counts"][table.name])
        if part is None:
            found[table] = before
        elif part.is_whole:
            found[table] = part.source.counts
        else:
            new = part.source.counts
            by_reason = dict(Counter(before.by_reason) + Counter(new.by_reason))
            found[table] = RowCounts(table.name, before.accepted + new.accepted, by_reason)
    return found
