"""The SQL that reads the embeddings of users from the place that ``publishing.user_embeddings`` names.

In: a section of the settings. Out: a query for ``user_id``, ``user_embedding`` and ``event_timestamp``, which Feast runs too.

JSON Lines are read by an exact schema of the three columns. Spark would derive a schema from all lines, stop at a line with
the keys ``a`` and ``A`` or the key ``_corrupt_record``, and leave out broken lines without a word.

Columns are fields of a row by a text literal. Feast sets ``spark.sql.parser.quotedRegexColumnNames`` for the whole session,
and a name in backticks in a SELECT is a regular expression from then on.
"""

from __future__ import annotations

from pathlib import Path

from qarm_features.settings.publishing import UserEmbeddings
from qarm_features.storage.sql_names import ddl, files_at, one_path, table_named, text_literal, unused_name

_SETTING = "publishing.user_embeddings"


def user_embedding_query(source: UserEmbeddings, path: str | None, id_type: str) -> str:
    """Return the query.

    Args:
        source: Section ``publishing.user_embeddings``.
        path: Its path, resolved against the folder of the settings; None for a table.
        id_type: Type of user IDs in Spark, ``bigint`` or ``string``.

    Raises:
        ValueError: ``table`` is not the name of a table.
    """
    user_id, embedding, moment = (_field(name) for name in (source.user_id, source.embedding, source.event_timestamp))
    if source.table is not None:
        rows = _as_rows(table_named(source.table, setting=f"{_SETTING}.table"))
    else:
        assert path is not None  # the settings refuse a source without table and path
        path = one_path(path) if Path(path).exists() and source.resolved_format != "delta" else path
        if source.resolved_format == "jsonl":
            rows = f"({_json_lines(source, path)})"
            # Texts again: Spark writes 7.0 and 12345678.0, as pandas writes integers, as 7.0 and 1.2345678E7.
            if id_type == "bigint":
                from_float = f"CAST(CAST({user_id} AS decimal(38, 9)) AS bigint)"
                is_float = f"{user_id} RLIKE '^-?[0-9]+[.]0+$|^-?[0-9.]+E[0-9]+$'"
                user_id = f"CASE WHEN {is_float} THEN {from_float} ELSE CAST({user_id} AS bigint) END"
            seconds = f"CAST(CAST({moment} AS decimal(20, 6)) AS timestamp)"
            is_number = f"{moment} RLIKE '^-?[0-9]{{5,}}([.][0-9]+)?$|^-?[0-9.]+E[0-9]+$'"
            moment = f"CASE WHEN {is_number} THEN {seconds} ELSE CAST({moment} AS timestamp) END"
        else:
            rows = _as_rows(files_at(path, source.resolved_format))
    return (
        f"SELECT CAST({user_id} AS {id_type}) AS user_id, CAST({embedding} AS array<float>) AS user_embedding, "
        f"CAST({moment} AS timestamp) AS event_timestamp FROM {rows}"
    )


def _as_rows(columns: str) -> str:
    """Return rows of one column, the struct of all columns."""
    return f"(SELECT struct(*) AS row FROM {columns})"


def _field(name: str) -> str:
    """Return a field of the row."""
    return f"row[{text_literal(name)}]"


def _json_lines(source: UserEmbeddings, path: str) -> str:
    """Return the query for rows of the three columns. A line of JSON that is broken or lacks one of them is an error."""
    names = (source.user_id, source.embedding, source.event_timestamp)
    broken = unused_name("broken", names)
    kinds = {**dict.fromkeys(names, "string"), source.embedding: "array<double>", broken: "string"}
    options = f"map('columnNameOfCorruptRecord', {text_literal(broken)})"
    lines = (
        f"SELECT from_json(value, {text_literal(ddl(kinds.items()))}, {options}) AS row FROM {files_at(path, 'text')} "
        "WHERE trim(value) <> ''"
    )
    is_broken = f"{_field(broken)} IS NOT NULL"
    fields = [
        f"{text_literal(name)}, CASE WHEN {is_broken} THEN "
        f"{_error(path, 'that is not an object with an ID, a time and an array of numbers')} "
        f"ELSE coalesce({_field(name)}, {_error(path, f'without {name}')}) END"
        for name in names
    ]
    return f"SELECT named_struct({', '.join(fields)}) AS row FROM ({lines})"


def _error(path: str, what: str) -> str:
    """Return SQL that ends the query with a message about a line."""
    message = f"{_SETTING} is {path}, which has a line {what}. Correct the line, or delete it."
    return f"raise_error({text_literal(message)})"
