"""MIND, the Microsoft News data set: articles, and impressions with a click or none for each article shown."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

from qarm_features.importers.distinct import Distinct
from qarm_features.importers.lines import fields, head
from qarm_features.importers.plan import Column, Format, ImportPlan, Options, Row, Setting, TablePlan, settings_of
from qarm_features.importers.source_files import SourceFolder
from qarm_features.importers.tally import Tally

_TITLE = "MIND"
_LOOKS_FOR = "news.tsv and behaviors.tsv, also in several folders such as MINDsmall_train and MINDsmall_dev"
_NEWS_FIELDS, _BEHAVIOR_FIELDS = 8, 5
_TIME = "%m/%d/%Y %I:%M:%S %p"


def plan(source: Path, options: Options) -> ImportPlan:
    """Recognizes the files of MIND in a folder or in folders in it.

    Args:
        source: Folder of the files.
        options: With ``history``, the click history of each user becomes rows too.

    Raises:
        ImportFailed: A file is missing or has another number of fields.
    """
    folder = SourceFolder(source, _TITLE, _LOOKS_FOR)
    news = folder.matching(lambda name: name == "news.tsv", depth=1)
    behaviors = folder.matching(lambda name: name == "behaviors.tsv", depth=1)
    if not news or not behaviors:
        raise folder.refuse()
    for files, width in ((news, _NEWS_FIELDS), (behaviors, _BEHAVIOR_FIELDS)):
        for file in files:
            lines = head(file, count=100)
            if lines and not any(len(line.split("\t")) == width for line in lines):
                raise folder.refuse(
                    f"The first line of {file.name} has {len(lines[0].split(chr(9)))} fields between tabs, must have {width}."
                )

    def news_rows(tally: Tally) -> Iterator[Row]:
        for file in news:
            for _, row in fields(file, tally, delimiter="\t", width=_NEWS_FIELDS):
                yield tuple(row[:6])

    def log_rows(tally: Tally) -> Iterator[Row]:
        if options.history:
            yield from _history_rows(behaviors, tally)
        for file in behaviors:
            for number, row in fields(file, tally, delimiter="\t", width=_BEHAVIOR_FIELDS):
                yield from _impressions(row, number, file, tally)

    item_names = ("news_id", "category", "subcategory", "title", "abstract", "url")
    items = TablePlan(
        "items",
        tuple(Column(name, f"news.tsv, field {number}") for number, name in enumerate(item_names, 1)),
        "news_id",
        news,
        news_rows,
    )
    log_columns = (
        Column("impression_id", "behaviors.tsv, field 1"),
        Column("user_id", "behaviors.tsv, field 2"),
        Column("news_id", "behaviors.tsv, field 5, before the last dash"),
        Column("time", "behaviors.tsv, field 3, as ISO 8601"),
        Column("clicked", "behaviors.tsv, field 5, after the last dash"),
        Column("from_history", "behaviors.tsv, true for rows of field 4"),
    )
    log = TablePlan("interactions", log_columns, "news_id", behaviors, log_rows)
    settings = {
        "items.item_id": "news_id",
        "items.item_id_type": Setting("string", "IDs of MIND begin with N."),
        "items.title": "title",
        "items.text": ["title", "category", "subcategory", "abstract"],
        "interactions.user_id": "user_id",
        "interactions.user_id_type": Setting("string", "IDs of MIND begin with U."),
        "interactions.item_id": "news_id",
        "interactions.event_timestamp": "time",
        "interactions.timestamp_unit": Setting("timestamp", "MIND names no time zone; the times are read as UTC."),
        "interactions.label": "clicked",
        "interactions.positive_from": Setting(1, "MIND writes 1 for a click and 0 for none."),
    }
    values = settings_of(settings, items, log)
    if len(news) > 1:
        values["max_rejected_share.reasons"] = Setting(
            {"a duplicate": 1.0}, "The parts of MIND repeat most articles; repeated rows are rejected without harm."
        )
    return ImportPlan(
        f"{len(news)} news.tsv and {len(behaviors)} behaviors.tsv", items, log, values, _cautions(options)
    )


def _impressions(row: list[str], number: int, file: Path, tally: Tally) -> Iterator[Row]:
    """Yields a row for each article shown."""
    impression, user, time, _, shown = row
    entries = shown.split()
    if not entries:
        tally.leave_out("an impression without articles", file.name, number, "\t".join(row))
        return
    at = _iso(time)
    tally.read += len(entries) - 1
    for entry in entries:
        news_id, _, label = entry.rpartition("-")
        if label in ("0", "1") and news_id:
            yield impression, user, news_id, at, label, "false"
        else:
            tally.leave_out("an article without -0 or -1, as in the test part", file.name, number, entry)


def _history_rows(behaviors: tuple[Path, ...], tally: Tally) -> Iterator[Row]:
    """Yields the click history of each user once, one second apart, before the first impression of the files."""
    start = _first_time(behaviors, tally)
    with Distinct() as users:
        for file in behaviors:
            for number, (_, user, _, history, _) in fields(file, tally.aside(), delimiter="\t", width=_BEHAVIOR_FIELDS):
                articles = history.split()
                tally.read += len(articles)
                if not articles:
                    continue
                if not users.add(user):
                    reason = "a history of a user whose history was read before"
                    tally.leave_out(reason, file.name, number, user, rows=len(articles))
                    continue
                for place, article in enumerate(articles):
                    at = start - timedelta(seconds=len(articles) - place)
                    yield None, user, article, at.isoformat(sep=" "), "1", "true"


def _first_time(behaviors: tuple[Path, ...], tally: Tally) -> datetime:
    times = (
        datetime.fromisoformat(at)
        for file in behaviors
        for _, row in fields(file, tally.aside(), delimiter="\t", width=_BEHAVIOR_FIELDS)
        if (at := _iso(row[2])) != row[2]
    )
    return min(times, default=datetime(2000, 1, 1))


def _iso(time: str) -> str:
    """Returns a time of MIND in ISO 8601; a time in another form stays as it is, so that ingest judges it."""
    try:
        return datetime.strptime(time.strip(), _TIME).isoformat(sep=" ")
    except ValueError:
        return time


def _cautions(options: Options) -> tuple[str, ...]:
    if options.history:
        return (
            "The click history has no times. Its rows have made-up times, one second apart, before the first impression; "
            "from_history is true for them.",
        )
    return (
        "The click history (field 4) is left out, because it has no times. --history makes rows of it with made-up times "
        "before the first impression.",
    )


FORMAT = Format(
    name="mind",
    title=_TITLE,
    looks_for=_LOOKS_FOR,
    from_whom="Microsoft News (data sets MINDsmall and MINDlarge)",
    license="Microsoft Research License Terms: research only, no commercial use",
    plan=plan,
    options=frozenset({"history"}),
)
