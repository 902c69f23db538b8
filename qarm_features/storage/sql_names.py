"""The only place where names that people chose become part of Spark SQL: names of columns, tables, files and folders.

In: a name as it is. Out: the name in backticks or in quotation marks, so that no character in it means anything to Spark. It
reads a dot as the way to a field, and a backtick as the end of a name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyspark.sql import Column, SparkSession

CASE_SENSITIVE = "spark.sql.caseSensitive"
_PART = re.compile(r"`((?:[^`]|``)*)`|([^`.]+)")


def quoted(name: str) -> str:
    """Return a name of a column, a field or a table as SQL that means this name and nothing else.

    Example:
        >>> quoted("size.eu"), quoted("we`ird")
        ('`size.eu`', '`we``ird`')
    """
    return f"`{name.replace('`', '``')}`"


def column_of(name: str) -> Column:
    """Return the column of a name that people chose, which may hold dots and backticks."""
    from pyspark.sql import functions as F

    return F.col(quoted(name))


def text_literal(text: str) -> str:
    r"""Return a text as a SQL literal.

    Example:
        >>> print(text_literal("it's a \\"))
        'it\'s a \\'
    """
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def ddl(columns: Iterable[tuple[str, str]]) -> str:
    """Return the schema of columns, each with its name and its type.

    Example:
        >>> ddl([("item.id", "bigint"), ("kept", "boolean")])
        '`item.id` bigint, `kept` boolean'
    """
    return ", ".join(f"{quoted(name)} {kind}" for name, kind in columns)


def files_at(path: str, file_format: str = "delta") -> str:
    """Return the rows of a folder or a file as SQL names them after FROM.

    Example:
        >>> files_at("/data/o`clock/items")
        'delta.`/data/o``clock/items`'
    """
    return f"{file_format}.{quoted(path)}"


def one_path(path: str) -> str:
    r"""Return a path in which no character makes a pattern, as Spark takes it.

    Example:
        >>> one_path("/log/a[1].csv")
        '/log/a\\[1\\].csv'
    """
    return re.sub(r"([\[\]{}*?\\])", r"\\\1", path)


def table_named(name: str, *, setting: str) -> str:
    """Return a table of Spark's catalog as SQL names it. Parts with a dot or a backtick stand in backticks already.

    Args:
        name: Name of the table, perhaps after the names of its catalog and schema.
        setting: Setting that gives the name, for the error.

    Raises:
        ValueError: The text is not the name of a table.

    Example:
        >>> table_named("lake.users-2024", setting="table"), table_named("lake.`a.b`", setting="table")
        ('`lake`.`users-2024`', '`lake`.`a.b`')
    """
    parts, end = [], -1
    while end < len(name):
        found = _PART.match(name, end + 1)
        if found is None or name[found.end() : found.end() + 1] not in ("", "."):
            raise ValueError(
                f"{setting} is {name}, must be the name of a table such as catalog.schema.table. Put a part that holds a "
                "dot or a backtick into backticks."
            )
        parts.append(found[1].replace("``", "`") if found[1] is not None else found[2])
        end = found.end()
    return ".".join(map(quoted, parts))


def unused_name(name: str, taken: Iterable[str]) -> str:
    """Return a name that no column has, in capitals or not: ``name``, or ``name`` with underscores after it.

    Example:
        >>> unused_name("found", ["item_id", "Found"])
        'found_'
    """
    lower = {column.lower() for column in taken}
    while name.lower() in lower:
        name += "_"
    return name


def tells_case_apart(spark: SparkSession) -> bool:
    """Return True if Spark takes ``A`` and ``a`` for two columns. By default it takes them for one."""
    return spark.conf.get(CASE_SENSITIVE, "false") == "true"


def tell_case_apart(spark: SparkSession, names: Iterable[str]) -> None:
    """Make Spark tell ``A`` and ``a`` apart from now on, if some of the names differ in nothing else."""
    if differ_by_case(names):
        spark.conf.set(CASE_SENSITIVE, "true")


def differ_by_case(names: Iterable[str]) -> list[str]:
    """Return the names of which another one differs in nothing but its capitals, in their order.

    Example:
        >>> differ_by_case(["sku", "Name", "NAME", "sku"])
        ['Name', 'NAME']
    """
    different = list(dict.fromkeys(names))
    lower = [name.lower() for name in different]
    return [name for name, low in zip(different, lower) if lower.count(low) > 1]
