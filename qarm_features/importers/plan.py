"""What an import will do: the two tables, the settings that name them, and what cannot be had.

In: nothing. Out: the classes that every format fills.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from qarm_features.importers.printable import printable
from qarm_features.importers.tally import Tally

Value = str | list[str] | None
Row = tuple[Value, ...]
Rows = Callable[[Tally], Iterator[Row]]


class ImportFailed(ValueError):
    """A source cannot be imported. The message says what was looked for, what was found, and what to do."""

    def __init__(self, message: str) -> None:
        super().__init__(printable(message, keep="\n"))


class Column(NamedTuple):
    """A column of an imported table.

    Attributes:
        name: Its name.
        origin: Where it comes from, for the comment in ``qarm.yaml``.
        is_list: Whether a value is a list of texts; else it is text, as the source has it.
    """

    name: str
    origin: str
    is_list: bool = False


@dataclass(frozen=True)
class TablePlan:
    """A table to write.

    Attributes:
        name: ``items`` or ``interactions``.
        columns: Its columns.
        item_id: Name of the column of the item ID.
        files: Files that it is read from.
        rows: Function that reads the rows. It counts every row that it reads, and every row that it leaves out.
    """

    name: str
    columns: tuple[Column, ...]
    item_id: str
    files: tuple[Path, ...]
    rows: Rows

    @property
    def item_id_position(self) -> int:
        """Position of the item ID in a row."""
        return [column.name for column in self.columns].index(self.item_id)


class Setting(NamedTuple):
    """A setting that an import or a guess fills.

    Attributes:
        value: Its value.
        why: What the comment beside it says.
    """

    value: Any
    why: str


@dataclass(frozen=True)
class ImportPlan:
    """All that a format knows about a source before its rows are read.

    Attributes:
        found: What was recognized, in words.
        items: The catalog.
        interactions: The click log.
        settings: Settings by name, for example ``items.item_id``, without the paths.
        cautions: What cannot be had, or should be known before use.
    """

    found: str
    items: TablePlan
    interactions: TablePlan
    settings: Mapping[str, Setting]
    cautions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Options:
    """What a user asked for beside the source.

    Attributes:
        columns: Column of the source by its role, for formats that leave a choice.
        history: Whether MIND's click history becomes rows.
        encoding: Encoding of the files; None finds out.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    history: bool = False
    encoding: str | None = None


@dataclass(frozen=True)
class Format:
    """A format that ``qarm import`` knows.

    Attributes:
        name: Name on the command line.
        title: What it is.
        looks_for: Files that a source must have.
        from_whom: Where people get it. Nothing is downloaded.
        license: A caution about its license.
        plan: Function that recognizes a source and returns what an import will do.
        options: Options that the format understands: ``columns``, ``history``, ``encoding``.
    """

    name: str
    title: str
    looks_for: str
    from_whom: str
    license: str
    plan: Callable[[Path, Options], ImportPlan]
    options: frozenset[str] = frozenset()


def settings_of(columns: Mapping[str, Any], items: TablePlan, interactions: TablePlan) -> dict[str, Setting]:
    """Returns settings whose comments say where their columns come from.

    Args:
        columns: Value by setting, for example ``{"items.item_id": "movie_id"}``. A ``Setting`` brings a comment of its own.
        items: The catalog.
        interactions: The click log.
    """
    origins = {table.name: {column.name: column.origin for column in table.columns} for table in (items, interactions)}
    settings = {}
    for name, value in columns.items():
        if isinstance(value, Setting):
            settings[name] = value
            continue
        named = value if isinstance(value, list) else [value]
        origin = "; ".join(origins[name.split(".")[0]][one] for one in named)
        settings[name] = Setting(value, f"From {origin}.")
    return settings
