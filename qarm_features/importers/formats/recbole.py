"""RecBole's atomic files ``NAME.inter`` and ``NAME.item``: tab-separated, with a header of names and types."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from qarm_features.importers.lines import fields, head
from qarm_features.importers.numbers import number_of, positive_from, time_unit
from qarm_features.importers.plan import (
    Column,
    Format,
    ImportFailed,
    ImportPlan,
    Options,
    Row,
    Setting,
    TablePlan,
    settings_of,
)
from qarm_features.importers.source_files import SourceFolder, plain_name
from qarm_features.importers.tally import Tally

_TITLE = "atomic files of RecBole"
_LOOKS_FOR = "NAME.inter and NAME.item, whose headers hold names and types such as item_id:token"
_TYPES = ("token", "token_seq", "float", "float_seq")


def plan(source: Path, options: Options) -> ImportPlan:
    """Recognizes a pair of atomic files in a folder.

    Args:
        source: Folder of the files.
        options: ``columns`` names the columns of ``user_id``, ``item_id``, ``event_timestamp``, ``label`` and ``title``.

    Raises:
        ImportFailed: A file or a column is missing.
    """
    folder = SourceFolder(source, _TITLE, _LOOKS_FOR)
    logs = folder.matching(lambda name: name.endswith(".inter"))
    if len(logs) != 1:
        several = (
            " Give a folder with the whole log; parts of a benchmark's split cannot be told apart." if logs else ""
        )
        raise folder.refuse(f"{len(logs)} files end in .inter, must be 1.{several}")
    (log_file,) = logs
    catalog = folder.find(plain_name(log_file).removesuffix(".inter") + ".item")
    if catalog is None:
        raise folder.refuse("Without .item there is nothing to encode.")
    of_log, of_items = _header(folder, log_file), _header(folder, catalog)
    settings = _log_settings(log_file, of_log, options) | _item_settings(catalog, of_items, options)
    items = _table("items", catalog, of_items, settings["items.item_id"])
    log = _table("interactions", log_file, of_log, settings["interactions.item_id"])
    cautions = ("qarm splits the log by time. A split in RecBole's settings is not read.",)
    return ImportPlan(f"{log_file.name} and {catalog.name}", items, log, settings_of(settings, items, log), cautions)


def _header(folder: SourceFolder, file: Path) -> dict[str, str]:
    """Returns the types of the columns by their names."""
    first = (head(file, count=1) or [""])[0]
    pairs = [field.rpartition(":") for field in first.split("\t")]
    if any(not name or kind not in _TYPES for name, _, kind in pairs):
        raise folder.refuse(
            f"The header of {file.name} is {first[:100]!r}, must hold NAME:TYPE with {', '.join(_TYPES)}."
        )
    return {name: kind for name, _, kind in pairs}


def _table(name: str, file: Path, types: Mapping[str, str], item_id: str) -> TablePlan:
    def rows(tally: Tally) -> Iterator[Row]:
        for _, row in fields(file, tally, delimiter="\t", width=len(types), skip=1):
            yield tuple(row)

    columns = tuple(Column(column, f"{file.name}, {column}:{kind}") for column, kind in types.items())
    return TablePlan(name, columns, item_id, (file,), rows)


def _log_settings(file: Path, types: Mapping[str, str], options: Options) -> dict[str, Any]:
    def need(role: str, *usual: str) -> str:
        column = _choose(role, types, usual, options, file)
        if column is None:
            raise ImportFailed(
                f"{file.name} has no column that is known to be the {role}. Its columns: {', '.join(types)}. Name one with "
                f"--column {role}=NAME. A click log without users, items or times cannot be imported."
            )
        return column

    user, item = need("user_id", "user_id"), need("item_id", "item_id")
    time = need("event_timestamp", "timestamp", "time")
    times, unit = _numbers(file, types, time), None
    if times and (unit := time_unit(times)) is None:
        raise ImportFailed(
            f"The column {time} of {file.name} begins with {times[0]:.12g}, which is no time from 1990 to 2100 in seconds, "
            "milliseconds, microseconds or nanoseconds. Convert it."
        )
    settings = {
        "interactions.user_id": user,
        "interactions.user_id_type": Setting("string", "Tokens are texts."),
        "interactions.item_id": item,
        "interactions.event_timestamp": time,
        "interactions.timestamp_unit": Setting(
            unit or "timestamp",
            f"The first {len(times):,} numbers are times in {unit}." if unit else "The column is text.",
        ),
    }
    label = _choose("label", types, ("label", "rating"), options, file)
    if label is not None:
        labels = _numbers(file, types, label)
        lowest = positive_from(labels)
        why = f"The first {len(labels):,} labels go up to {max(labels, default=0):g}; this is your choice."
        settings["interactions.label"] = label
        settings["interactions.positive_from"] = Setting(1 if lowest is None else lowest, why)
    return settings


def _item_settings(file: Path, types: Mapping[str, str], options: Options) -> dict[str, Any]:
    item = _choose("item_id", types, ("item_id",), options, file)
    texts = [name for name, kind in types.items() if kind in ("token", "token_seq") and name != item]
    if item is None or not texts:
        raise ImportFailed(
            f"{file.name} has no {'column item_id' if item is None else 'text'}, so that there is nothing to encode. Its "
            f"columns: {', '.join(types)}."
        )
    settings: dict[str, Any] = {
        "items.item_id": item,
        "items.item_id_type": Setting("string", "Tokens are texts."),
        "items.text": texts,
    }
    usual = [name for name in texts if name.endswith(("title", "name"))]
    if title := _choose("title", types, usual, options, file):
        settings["items.title"] = title
        texts.sort(key=lambda name: name != title)
    return settings


def _choose(role: str, types: Mapping[str, str], usual: Any, options: Options, file: Path) -> str | None:
    """Returns the column of a role: the one that was asked for, or a usual one that exists."""
    asked = options.columns.get(role)
    if asked is not None and asked in types:
        return asked
    if asked is not None and role != "item_id":  # both files have an item ID, maybe under two names
        raise ImportFailed(f"--column {role} is {asked}, must be a column of {file.name}: {', '.join(types)}.")
    return next((name for name in usual if name in types), None)


def _numbers(file: Path, types: Mapping[str, str], column: str) -> list[float]:
    """Returns the numbers of a column in the first lines of a file."""
    at = list(types).index(column)
    rows = (line.split("\t") for line in head(file)[1:])
    return [number for row in rows if len(row) == len(types) and (number := number_of(row[at])) is not None]


FORMAT = Format(
    name="recbole",
    title=_TITLE,
    looks_for=_LOOKS_FOR,
    from_whom="RecBole (RecSysDatasets), or any converter to atomic files",
    license="that of the data set that the files were made from",
    plan=plan,
    options=frozenset({"columns"}),
)
