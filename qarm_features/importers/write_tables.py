"""The rows of a plan become two Parquet files.

In: a plan and a folder. Out: ``items.parquet`` and ``interactions.parquet``, and the counts of both. The files appear under
their names only when both are complete.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from qarm_features.importers.plan import ImportFailed, ImportPlan, Row, TablePlan
from qarm_features.importers.tally import Tally

_ROWS_OF_A_GROUP = {"items": 20_000, "interactions": 200_000}  # a text of an item can have thousands of letters
LEFT_OUT = "left_out.jsonl"


def write_tables(
    plan: ImportPlan, folder: Path, *, limit: int | None = None, say: Callable[[str], None] | None = None
) -> tuple[Tally, Tally]:
    """Writes both tables, and examples of the rows that were left out.

    Args:
        plan: What to write.
        folder: Folder of the files. It is created if it does not exist.
        limit: Number of first rows of the click log to write, at least 1; the catalog is then that of their items. None
            writes all rows.
        say: Function that prints a line of progress.

    Returns:
        The counts of the catalog and of the click log.

    Raises:
        ImportFailed: A table would be empty.
    """
    folder.mkdir(parents=True, exist_ok=True)
    kept: set[str] | None = None if limit is None else set()
    parts = {table.name: folder / f".{table.name}.parquet.part" for table in (plan.items, plan.interactions)}
    items, interactions = Tally("items", say), Tally("interactions", say)
    try:
        rows = _limited(plan.interactions, interactions, limit, kept)
        _write(plan.interactions, rows, parts["interactions"], interactions)
        _write(plan.items, _of_items(plan.items, items, kept), parts["items"], items)
        for tally, table in ((items, plan.items), (interactions, plan.interactions)):
            tally.require_all()
            _require_rows(tally, table)
        _write_left_out((items, interactions), folder / LEFT_OUT)
        for name, part in parts.items():
            part.replace(folder / f"{name}.parquet")
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)
    return items, interactions


def first_rows(table: TablePlan, count: int) -> tuple[list[Row], Tally]:
    """Returns rows of the heads of a table's files and the counts up to them, without writing anything.

    Args:
        table: The table.
        count: Highest number of rows, and of lines of each file, at least 1.
    """
    tally = Tally(table.name, most_lines=count)
    return list(islice(table.rows(tally), count)), tally


def _limited(table: TablePlan, tally: Tally, limit: int | None, kept: set[str] | None) -> Iterator[Row]:
    """Yields the first rows and notes their items. The rows after the limit are not read, so they are not counted."""
    position = table.item_id_position
    rows = table.rows(tally)
    if kept is None:
        yield from rows
        return
    for number, row in enumerate(rows, 1):
        kept.add(str(row[position]))
        yield row
        if number == limit:
            surplus = tally.read - tally.left_out.total() - number  # further rows of the same line
            if surplus:
                tally.leave_out("a row after the limit", table.files[0].name, 0, "", rows=surplus)
            return


def _of_items(table: TablePlan, tally: Tally, kept: set[str] | None) -> Iterator[Row]:
    position = table.item_id_position
    for row in table.rows(tally):
        if kept is None or str(row[position]) in kept:
            yield row
        else:
            tally.leave_out("an item without a row within the limit", table.files[0].name, 0, str(row[position]))


def _write(table: TablePlan, rows: Iterator[Row], path: Path, tally: Tally) -> None:
    kinds = [pa.list_(pa.string()) if column.is_list else pa.string() for column in table.columns]
    schema = pa.schema([pa.field(column.name, kind) for column, kind in zip(table.columns, kinds, strict=True)])
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        while group := list(islice(rows, _ROWS_OF_A_GROUP[table.name])):
            try:
                writer.write_table(_as_table(group, schema))
                tally.written += len(group)
            except UnicodeEncodeError:  # JSON can name half of a pair of surrogates, which no text can hold
                whole = [row for row in group if _is_text(row, schema, tally, table)]
                writer.write_table(_as_table(whole, schema))
                tally.written += len(whole)


def _as_table(rows: list[Row], schema: pa.Schema) -> pa.Table:
    columns = zip(*rows, strict=True) if rows else [[] for _ in schema]
    arrays = [pa.array(list(values), field.type) for values, field in zip(columns, schema, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)


def _is_text(row: Row, schema: pa.Schema, tally: Tally, table: TablePlan) -> bool:
    try:
        _as_table([row], schema)
    except UnicodeEncodeError:
        shown = str(row[table.item_id_position]).encode("ascii", "backslashreplace").decode()
        tally.leave_out("text with half of a pair of surrogates", table.files[0].name, 0, shown)
        return False
    return True


def _require_rows(tally: Tally, table: TablePlan) -> None:
    if tally.written == 0:
        reasons = "; ".join(f"{reason}: {rows:,}" for reason, rows in tally.left_out.most_common())
        names = ", ".join(path.name for path in table.files)
        raise ImportFailed(
            f"{names} has no row for {tally.table}: {tally.read:,} rows were read"
            f"{', and left out for ' + reasons if reasons else ''}. Nothing was written."
        )


def _write_left_out(tallies: tuple[Tally, ...], path: Path) -> None:
    """Writes the kept examples of rows that were left out, or removes the file of an earlier import."""
    path.unlink(missing_ok=True)
    if not any(tally.left_out for tally in tallies):
        return
    with path.open("w") as file:
        for tally in tallies:
            for kept in tally.examples.values():
                for row in kept:
                    file.write(json.dumps({"table": tally.table, **row._asdict()}) + "\n")
