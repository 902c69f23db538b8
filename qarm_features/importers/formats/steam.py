"""Steam's games and reviews of UC San Diego, whose lines are dicts of Python and not JSON."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from qarm_features.importers.objects import as_text, list_at, literal_objects, text_at
from qarm_features.importers.plan import Column, Format, ImportPlan, Options, Row, Setting, TablePlan, settings_of
from qarm_features.importers.source_files import SourceFolder
from qarm_features.importers.tally import Tally

_TITLE = "the Steam data of UC San Diego"
_LOOKS_FOR = "steam_games.json with steam_reviews.json (or steam_new.json), or with australian_user_reviews.json"
_GAME = ("id", "app_name", "genres", "tags", "specs", "developer", "publisher", "release_date", "price")
_LISTS = ("genres", "tags", "specs")
_REVIEW = ("username", "product_id", "date", "hours", "products", "early_access")
_POSTED = "Posted %B %d, %Y."


def plan(source: Path, options: Options) -> ImportPlan:
    """Recognizes the files of Steam in a folder.

    Args:
        source: Folder of the files.
        options: Not used.

    Raises:
        ImportFailed: A file is missing.
    """
    folder = SourceFolder(source, _TITLE, _LOOKS_FOR)
    games = folder.find("steam_games.json", "output_steam_games.json")
    reviews = folder.find("steam_reviews.json", "steam_new.json")
    by_user = folder.find("australian_user_reviews.json")
    if games is None or (reviews is None and by_user is None):
        no_times = folder.find("australian_users_items.json")
        raise folder.refuse(f"{no_times.name} has no times, so that it cannot be a click log." if no_times else "")

    def game_rows(tally: Tally) -> Iterator[Row]:
        for _, found in literal_objects(games, tally):
            yield tuple([list_at(found, name) if name in _LISTS else text_at(found, name) for name in _GAME])

    item_columns = tuple(Column(name, f"key {name} of {games.name}", name in _LISTS) for name in _GAME)
    items = TablePlan("items", item_columns, "id", (games,), game_rows)
    settings: dict[str, Any] = {
        "items.item_id": "id",
        "items.item_id_type": Setting("string", "IDs of Steam are texts of digits."),
        "items.title": "app_name",
        "items.text": ["app_name", "genres", "tags", "specs", "developer"],
    }
    if reviews is not None:
        log, of_log = _of_reviews(reviews)
    else:
        assert by_user is not None
        log, of_log = _of_users(by_user)
    cautions = [
        "The lines are literals of Python. ast.literal_eval reads them, which runs no code, up to 1 MiB a line."
    ]
    if reviews is not None:
        cautions.append(
            "steam_reviews has no ratings: every row is a review and counts as positive, so no ranking model."
        )
    return ImportPlan(
        f"{games.name} and {log.files[0].name}", items, log, settings_of(settings | of_log, items, log), tuple(cautions)
    )


def _of_reviews(file: Path) -> tuple[TablePlan, dict[str, Any]]:
    """Returns the click log and its settings of a file with one review a line."""

    def rows(tally: Tally) -> Iterator[Row]:
        for _, found in literal_objects(file, tally):
            yield tuple([text_at(found, name) for name in _REVIEW])

    columns = tuple(Column(name, f"key {name} of {file.name}") for name in _REVIEW)
    return TablePlan("interactions", columns, "product_id", (file,), rows), {
        "interactions.user_id": "username",
        "interactions.user_id_type": Setting("string", "Names of users are texts; user_id is missing in most rows."),
        "interactions.item_id": "product_id",
        "interactions.event_timestamp": "date",
        "interactions.timestamp_unit": Setting(
            "timestamp", "Days without a time, so that reviews of a day are one moment."
        ),
    }


def _of_users(file: Path) -> tuple[TablePlan, dict[str, Any]]:
    """Returns the click log and its settings of a file with one user and all reviews of the user a line."""

    def rows(tally: Tally) -> Iterator[Row]:
        for number, found in literal_objects(file, tally):
            user, reviews = text_at(found, "user_id"), found.get("reviews")
            if not isinstance(reviews, list) or not reviews:
                tally.leave_out("a user without reviews", file.name, number, str(user))
                continue
            tally.read += len(reviews) - 1
            for review in reviews:
                if isinstance(review, dict):
                    yield user, text_at(review, "item_id"), _day(review.get("posted")), text_at(review, "recommend")
                else:
                    tally.leave_out("a review that is no dict", file.name, number, str(review))

    columns = (
        Column("user_id", f"key user_id of {file.name}"),
        Column("item_id", f"key item_id of the reviews in {file.name}"),
        Column("posted", f"key posted of the reviews in {file.name}, as ISO 8601"),
        Column("recommend", f"key recommend of the reviews in {file.name}"),
    )
    return TablePlan("interactions", columns, "item_id", (file,), rows), {
        "interactions.user_id": "user_id",
        "interactions.user_id_type": Setting("string", "IDs of users are texts."),
        "interactions.item_id": "item_id",
        "interactions.event_timestamp": "posted",
        "interactions.timestamp_unit": Setting(
            "timestamp", "Days without a time. Reviews of the last year lack the year, and ingest rejects them."
        ),
        "interactions.label": "recommend",
        "interactions.positive_from": Setting(1, "true is 1 and false is 0."),
    }


def _day(posted: object) -> str | None:
    """Returns ``Posted November 5, 2011.`` as ``2011-11-05``; other text stays as it is, so that ingest judges it."""
    text = as_text(posted)
    try:
        return None if text is None else datetime.strptime(text.strip(), _POSTED).date().isoformat()
    except ValueError:
        return text


FORMAT = Format(
    name="steam",
    title=_TITLE,
    looks_for=_LOOKS_FOR,
    from_whom="McAuley Lab, UC San Diego (Steam Video Game and Bundle Data)",
    license="no license is stated and the texts are those of Steam's users: research only, ask before other use",
    plan=plan,
)
