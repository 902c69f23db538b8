"""Repairs tables in which rows stand twice.

In: every table that has a key. Out: the same tables, with one row per key.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from qarm_features.jobs.context import JobContext
from qarm_features.jobs.job import Counts, job
from qarm_features.storage.surplus_rows import find_surplus, remove_surplus
from qarm_features.storage.tables import TABLES, Table

_KEYED = tuple(table for table in TABLES if table.key)
_NAMES = tuple(table.name for table in _KEYED)


@job(after="nothing", reads=_NAMES, writes=_NAMES)
def repair(
    context: JobContext,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Count the rows that stand twice, and change nothing.")
    ] = False,
) -> Counts:
    """Removes rows that stand twice under one key, as jobs of earlier releases wrote them when two ran at once.

    One of equal rows is kept. Rows of one key that differ are kept too, and the command then fails and names them: only you
    can know which of them is right.
    """
    rows_in = removed = 0
    refused = []
    for table in _KEYED:
        if not context.warehouse.exists(table):
            continue
        found = find_surplus(context.warehouse, table)
        rows_in += found.rows_in
        if found.keys:
            of = f"of {found.keys:,} keys, {found.differing:,} of them differing"
            typer.echo(f"{table.name}: {found.rows:,} surplus rows {of}")
        if found.keys and not dry_run:
            removed += remove_surplus(context.warehouse, table, found)
        if found.example:
            refused.append(_refusal(context, table, found.differing, found.example))
    if refused and not dry_run:
        raise ValueError(" ".join(refused))
    remark = "nothing was changed" if dry_run else f"{removed:,} surplus rows removed"
    return Counts(rows_in, rows_in - removed, removed, remark)


def _refusal(context: JobContext, table: Table, differing: int, example: dict[str, Any]) -> str:
    where = " AND ".join(f"{name} = {_literal(value)}" for name, value in example.items())
    return (
        f"{table.name} has {differing:,} keys whose rows differ, for example {where}. These rows were kept, because nothing "
        f"tells which are right. Delete the wrong ones in Spark (DELETE FROM delta.`{context.warehouse.path(table)}` WHERE "
        f"{where}), and run qarm {table.written_by}, which makes what is missing anew."
    )


def _literal(value: Any) -> str:
    return str(value) if isinstance(value, int) else "'" + str(value).replace("'", "''") + "'"
