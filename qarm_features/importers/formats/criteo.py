"""Logs in the manner of Criteo: tab-separated, labels, hashed values, no texts of items.

Two forms are known: files with a header, such as the attribution data set, and the 40 columns of the display challenge.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from qarm_features.importers.distinct import Distinct
from qarm_features.importers.lines import fields, head
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
from qarm_features.importers.source_files import SourceFolder
from qarm_features.importers.tally import Tally

_TITLE = "a log in the manner of Criteo"
_LOOKS_FOR = "one tab-separated file (.tsv or .txt) with a header, or with the 40 columns of the display challenge"
_DISPLAY = ["label", *[f"I{n}" for n in range(1, 14)], *[f"C{n}" for n in range(1, 27)]]
_KNOWN = {
    "user_id": ("uid", "user_id"),
    "item_id": ("campaign", "product_id", "item_id"),
    "event_timestamp": ("timestamp", "click_timestamp", "time"),
    "label": ("click", "Sale", "label"),
}
_LINE = "line"


def plan(source: Path, options: Options) -> ImportPlan:
    """Recognizes a log in a folder, or takes the file itself.

    Args:
        source: The file, or a folder with one such file.
        options: ``columns`` names the columns of ``user_id``, ``item_id``, ``event_timestamp`` and ``label``.
            ``event_timestamp=line`` takes the number of the line for the time.

    Raises:
        ImportFailed: There is no such file, or a column cannot be had.
    """
    file = _file(source)
    first = (head(file, count=1) or [""])[0].split("\t")
    has_header = first != _DISPLAY and not any(_is_number(name) for name in first) and all(first)
    names = first if has_header or first == _DISPLAY else _DISPLAY
    skip = int(names == first)
    if len(first) != len(names) or len(first) < 3:
        raise ImportFailed(
            f"{file} does not look like {_TITLE}: its first line has {len(first)} fields between tabs and no header. Looked "
            f"for: {_LOOKS_FOR}."
        )
    chosen = {role: _choose(role, names, options, file) for role in _KNOWN}
    at = [None if chosen[role] == _LINE else names.index(chosen[role]) for role in _KNOWN]

    def log_rows(tally: Tally) -> Iterator[Row]:
        for number, row in fields(file, tally, delimiter="\t", width=len(names), skip=skip):
            yield tuple([str(number) if place is None else row[place] for place in at])

    item_at = names.index(chosen["item_id"])

    def item_rows(tally: Tally) -> Iterator[Row]:
        with Distinct() as seen:
            for _, row in fields(file, tally.aside(), delimiter="\t", width=len(names), skip=skip):
                if row[item_at] and seen.add(row[item_at]):
                    tally.read += 1
                    yield row[item_at], None

    log_columns = tuple(Column(role, f"column {chosen[role]} of {file.name}") for role in _KNOWN)
    log = TablePlan("interactions", log_columns, "item_id", (file,), log_rows)
    item_columns = (
        Column("item_id", f"the different values of {chosen['item_id']} in {file.name}"),
        Column("text", "nowhere: the log has no texts. FILL THIS COLUMN before qarm run"),
    )
    items = TablePlan("items", item_columns, "item_id", (file,), item_rows)
    settings = {
        "items.item_id": "item_id",
        "items.item_id_type": Setting("string", "IDs are hashes."),
        "items.text": ["text"],
        "interactions.user_id": "user_id",
        "interactions.user_id_type": Setting("string", "IDs are hashes."),
        "interactions.item_id": "item_id",
        "interactions.event_timestamp": "event_timestamp",
        "interactions.timestamp_unit": Setting(
            "seconds", "Seconds from the start of the log, so that they lie in 1970."
        ),
        "interactions.label": "label",
        "interactions.positive_from": Setting(1, "1 is a click or a sale."),
    }
    cautions = [
        "Texts, titles and pictures of items cannot be had: the log has hashed values only. The column text of items.parquet "
        "is empty, and qarm run stops at ingest until you fill it, or name vectors of your own in items.precomputed.",
    ]
    if chosen["event_timestamp"] == _LINE:
        cautions.append(
            "Times cannot be had: the number of the line stands for the second, which keeps the order alone."
        )
    if names == _DISPLAY:
        cautions.append(
            f"The display challenge does not say what its columns mean: that {chosen['user_id']} is the user and "
            f"{chosen['item_id']} the item is your word."
        )
    return ImportPlan(file.name, items, log, settings_of(settings, items, log), tuple(cautions))


def _file(source: Path) -> Path:
    if source.is_file():
        return source
    folder = SourceFolder(source, _TITLE, _LOOKS_FOR)
    files = folder.matching(lambda name: name.endswith((".tsv", ".txt")) and "readme" not in name.lower())
    if len(files) != 1:
        raise folder.refuse(f"{len(files)} files fit; give the file itself as SOURCE." if files else "")
    return files[0]


def _choose(role: str, names: list[str], options: Options, file: Path) -> str:
    """Returns the column of a role: the one that was asked for, or a known one."""
    asked = options.columns.get(role)
    if asked is not None:
        if asked in names or (role == "event_timestamp" and asked == _LINE):
            return asked
        raise ImportFailed(f"--column {role} is {asked}, must be a column of {file.name}: {', '.join(names)}.")
    known = [name for name in _KNOWN[role] if name in names]
    if known:
        return known[0]
    line = " If the rows are in the order of time, --column event_timestamp=line keeps the order." * (
        role == "event_timestamp"
    )
    raise ImportFailed(
        f"{file.name} has no column that is known to be the {role}. Its columns: {', '.join(names)}. Name one with --column "
        f"{role}=NAME.{line}"
    )


def _is_number(text: str) -> bool:
    return text.strip("-").replace(".", "", 1).isdigit()


FORMAT = Format(
    name="criteo",
    title=_TITLE,
    looks_for=_LOOKS_FOR,
    from_whom="Criteo AI Lab (attribution data set, display advertising challenge), or any log of this form",
    license="the data sets of Criteo: CC BY-NC-SA 4.0, no commercial use",
    plan=plan,
    options=frozenset({"columns"}),
)
