"""Amazon Reviews 2023: reviews and metadata as JSON Lines, one pair of files per category."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from qarm_features.importers.lines import head
from qarm_features.importers.objects import json_objects, list_at, parsed_json, text_at
from qarm_features.importers.plan import Column, Format, ImportPlan, Options, Row, Setting, TablePlan, settings_of
from qarm_features.importers.source_files import SourceFolder, plain_name
from qarm_features.importers.tally import Tally

_TITLE = "Amazon Reviews 2023"
_LOOKS_FOR = "files of reviews such as All_Beauty.jsonl.gz, each with its meta_All_Beauty.jsonl.gz"
_META = ("parent_asin", "title", "main_category", "store", "categories", "features", "description", "price")
_LISTS = ("categories", "features", "description")
_REVIEW = ("user_id", "parent_asin", "asin", "rating", "timestamp", "verified_purchase", "helpful_vote")


def plan(source: Path, options: Options) -> ImportPlan:
    """Recognizes files of reviews and of metadata in a folder.

    Args:
        source: Folder of the files.
        options: Not used.

    Raises:
        ImportFailed: A file is missing, or its objects have other keys.
    """
    folder = SourceFolder(source, _TITLE, _LOOKS_FOR)
    files = folder.matching(lambda name: name.endswith(".jsonl"))
    metas = tuple(file for file in files if file.name.startswith("meta_"))
    reviews = tuple(file for file in files if file not in metas)
    unpaired = {plain_name(file) for file in reviews} ^ {plain_name(file)[len("meta_") :] for file in metas}
    if not metas or not reviews or unpaired:
        because = f"Only one of the two files is there for {', '.join(sorted(unpaired))}." if unpaired else ""
        raise folder.refuse(because)
    _require_keys(folder, metas, ("parent_asin", "title"))
    _require_keys(folder, reviews, ("parent_asin", "user_id", "timestamp"))

    def meta_rows(tally: Tally) -> Iterator[Row]:
        for file in metas:
            for _, found in json_objects(file, tally):
                row = [list_at(found, name) if name in _LISTS else text_at(found, name) for name in _META]
                yield (*row, _main_image(found.get("images")))

    def review_rows(tally: Tally) -> Iterator[Row]:
        for file in reviews:
            for _, found in json_objects(file, tally):
                yield tuple([text_at(found, name) for name in _REVIEW])

    of_meta = f"key {{}} of {_named(metas)}"
    item_columns = [Column(name, of_meta.format(name), name in _LISTS) for name in _META]
    item_columns.append(Column("image_url", of_meta.format("images") + ", the large picture of the first"))
    items = TablePlan("items", tuple(item_columns), "parent_asin", metas, meta_rows)
    log_columns = tuple(Column(name, f"key {name} of {_named(reviews)}") for name in _REVIEW)
    log = TablePlan("interactions", log_columns, "parent_asin", reviews, review_rows)
    settings = {
        "items.item_id": "parent_asin",
        "items.item_id_type": Setting("string", "ASINs hold letters."),
        "items.title": "title",
        "items.text": ["title", "store", "categories", "features", "description"],
        "interactions.user_id": "user_id",
        "interactions.user_id_type": Setting("string", "User IDs hold letters."),
        "interactions.item_id": "parent_asin",
        "interactions.event_timestamp": "timestamp",
        "interactions.timestamp_unit": Setting("milliseconds", "The files count milliseconds since 1970."),
        "interactions.label": "rating",
        "interactions.positive_from": Setting(4, "Ratings of 4 and 5 stars count as positive; this is your choice."),
    }
    cautions = (
        "Pictures are URLs in image_url. Nothing is downloaded: to use them, copy the pictures to a folder, list it in "
        "encoder.media_roots and set items.image.",
        "The texts of the reviews are not imported, because an item's text must not hold what users wrote later.",
    )
    return ImportPlan(
        f"{len(reviews)} files of reviews and {len(metas)} of metadata",
        items,
        log,
        settings_of(settings, items, log),
        cautions,
    )


def _main_image(images: object) -> str | None:
    """Returns the URL of the first picture in its large size."""
    if isinstance(images, list) and images and isinstance(images[0], dict):
        return text_at(images[0], "large")
    return None


def _named(files: tuple[Path, ...]) -> str:
    return files[0].name if len(files) == 1 else f"{files[0].name} and {len(files) - 1} more"


def _require_keys(folder: SourceFolder, files: tuple[Path, ...], keys: tuple[str, ...]) -> None:
    for file in files:
        objects = [found for found in map(parsed_json, head(file, count=20)) if found is not None]
        if objects and not any(all(key in found for key in keys) for found in objects):
            older = " These are keys of the files of 2014 or 2018." if "reviewerID" in objects[0] else ""
            raise folder.refuse(
                f"The objects of {file.name} must have the keys {', '.join(keys)}; the first has "
                f"{', '.join(list(objects[0])[:8])}.{older}"
            )


FORMAT = Format(
    name="amazon",
    title=_TITLE,
    looks_for=_LOOKS_FOR,
    from_whom="McAuley Lab, UC San Diego (data set Amazon Reviews 2023, files per category)",
    license="no license is stated and the texts are those of Amazon's sellers and users: research only, ask before other use",
    plan=plan,
)
