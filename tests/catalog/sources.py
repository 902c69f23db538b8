"""Sources on disk, and what ingest makes of them."""

from __future__ import annotations

from qarm_features.catalog.ingest import check_interactions, check_items
from qarm_features.catalog.reading.read_source import open_source
from qarm_features.catalog.rejections import require_all_lines
from qarm_features.settings.sources import InteractionSource, ItemSource

CATALOG = {"item_id": "sku", "item_id_type": "string", "title": "name", "text": ["name", "about"]}
LOG = {
    "user_id_type": "string", "user_id": "user", "item_id": "item", "event_timestamp": "at", "timestamp_unit": "seconds",
    "label": "rating", "positive_from": 4,
}  # fmt: skip


def write(path, content, encoding="utf-8"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
    return path


def write_frame(spark, frame, path, kind, **delta_options):
    """Write a pandas frame in a format: parquet, delta, csv or jsonl."""
    if kind == "parquet":
        frame.to_parquet(path)
    elif kind == "csv":
        frame.to_csv(path, index=False)
    elif kind == "jsonl":
        frame.to_json(path, orient="records", lines=True)
    else:
        spark.createDataFrame(frame).write.format("delta").options(**delta_options).save(str(path))


def ingest_log(spark, path, **settings):
    """Return the rows (user, item, seconds, label) that were accepted, and (file, line, reason) of those that were not."""
    source = InteractionSource(path=str(path), **{**LOG, **settings})
    rows = open_source(spark, source, source.path)
    checked = check_interactions(rows.frame, source, item_id_type="string")
    require_all_lines(checked.counts("interactions"), rows.lines, source.path)
    accepted = [
        (r["user_id"], r["item_id"], int(r["event_timestamp"].timestamp()), r["label"])
        for r in checked.accepted.collect()
    ]
    return sorted(accepted), rejected_of(checked)


def ingest_items(spark, path, **settings):
    """Return the accepted rows (item, title, text), and (file, line, reason) of the rejected ones."""
    source = ItemSource(path=str(path), **{**CATALOG, **settings})
    rows = open_source(spark, source, source.path)
    checked = check_items(rows.frame, source)
    require_all_lines(checked.counts("items"), rows.lines, source.path)
    return sorted((r["item_id"], r["title"], r["text"]) for r in checked.accepted.collect()), rejected_of(checked)


def rejected_of(checked):
    rows = [
        (r["file"].rsplit("/", 1)[-1] if r["file"] else None, r["line"], r["reason"])
        for r in checked.rejected.collect()
    ]
    return sorted(rows, key=str)
