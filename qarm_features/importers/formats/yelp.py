"""The Yelp Open Dataset: businesses and reviews as JSON Lines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from qarm_features.importers.objects import json_objects, text_at
from qarm_features.importers.plan import Column, Format, ImportPlan, Options, Row, Setting, TablePlan, settings_of
from qarm_features.importers.source_files import SourceFolder
from qarm_features.importers.tally import Tally

_TITLE = "the Yelp Open Dataset"
_LOOKS_FOR = (
    "yelp_academic_dataset_business.json and yelp_academic_dataset_review.json, or business.json and review.json"
)
_BUSINESS = ("business_id", "name", "categories", "city", "state", "stars", "review_count", "is_open")
_REVIEW = ("review_id", "user_id", "business_id", "stars", "date")


def plan(source: Path, options: Options) -> ImportPlan:
    """Recognizes the files of Yelp in a folder.

    Args:
        source: Folder of the files.
        options: Not used.

    Raises:
        ImportFailed: A file is missing.
    """
    folder = SourceFolder(source, _TITLE, _LOOKS_FOR)
    business = folder.find("yelp_academic_dataset_business.json", "business.json")
    review = folder.find("yelp_academic_dataset_review.json", "review.json")
    if business is None or review is None:
        raise folder.refuse()

    def business_rows(tally: Tally) -> Iterator[Row]:
        for _, found in json_objects(business, tally):
            yield tuple([text_at(found, name) for name in _BUSINESS])

    def review_rows(tally: Tally) -> Iterator[Row]:
        for _, found in json_objects(review, tally):
            yield tuple([text_at(found, name) for name in _REVIEW])

    item_columns = tuple(Column(name, f"key {name} of {business.name}") for name in _BUSINESS)
    log_columns = tuple(Column(name, f"key {name} of {review.name}") for name in _REVIEW)
    items = TablePlan("items", item_columns, "business_id", (business,), business_rows)
    log = TablePlan("interactions", log_columns, "business_id", (review,), review_rows)
    settings = {
        "items.item_id": "business_id",
        "items.item_id_type": Setting("string", "IDs of Yelp hold letters."),
        "items.title": "name",
        "items.text": ["name", "categories", "city"],
        "interactions.user_id": "user_id",
        "interactions.user_id_type": Setting("string", "IDs of Yelp hold letters."),
        "interactions.item_id": "business_id",
        "interactions.event_timestamp": "date",
        "interactions.timestamp_unit": Setting("timestamp", "Yelp names no time zone; the times are read as UTC."),
        "interactions.label": "stars",
        "interactions.positive_from": Setting(4, "Ratings of 4 and 5 stars count as positive; this is your choice."),
    }
    cautions = (
        "stars and review_count of a business count reviews of all times, also later ones. Do not train on them.",
        "Users, tips, check-ins and the texts of reviews are not imported.",
    )
    return ImportPlan(f"{business.name} and {review.name}", items, log, settings_of(settings, items, log), cautions)


FORMAT = Format(
    name="yelp",
    title=_TITLE,
    looks_for=_LOOKS_FOR,
    from_whom="Yelp (Yelp Open Dataset, file JSON)",
    license="Yelp Dataset Terms of Use: academic and personal use only, no redistribution",
    plan=plan,
)
