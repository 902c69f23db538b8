"""Bytes that a row of a published view takes in a real Redis server, at several numbers of rows.

In: a Redis server. Out: bytes per key by the server's own count. Rows are written by the writer of a publication, so the
layout is that of a release. Item keys hold the codes of one or more releases beside two counters; user keys hold sequences.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

COUNTS = (10_000, 50_000, 100_000, 200_000)
_BATCH, _SAMPLED = 10_000, 200
_MOMENT = pa.scalar(1_704_067_200_000_000, pa.timestamp("us", "UTC"))


def item_keys(port: int, *, levels: int, releases: int, counts: tuple[int, ...] = COUNTS) -> list[dict[str, Any]]:
    """Return the bytes of item keys after each of several numbers of rows."""
    columns = {"rq_codes": levels, "codebook_version": 0}
    views = [(f"item_semantic_id__cb{n}", columns) for n in range(releases)]
    counters = ("item_counters", {"item_positive_count": 0, "item_impression_count": 0})
    kinds = {"rq_codes": "INT32_LIST", "codebook_version": "INT32"}
    return _measured(port, "item_id", [*views, counters], kinds, counts, {"levels": levels, "releases": releases})


def user_keys(port: int, *, length: int, counts: tuple[int, ...] = COUNTS[:2]) -> list[dict[str, Any]]:
    """Return the bytes of user keys with sequences of a given length after each of several numbers of rows."""
    behavior = ("user_behavior", {"behavior_item_ids": length, "behavior_timestamps": length})
    shown = {f"impression_{name}": length for name in ("item_ids", "labels", "timestamps")}
    impressions = ("user_impressions", shown | {"user_positive_count": 0, "user_impression_count": 0})
    kinds = {name: "INT64_LIST" for name in (*behavior[1], *shown)} | {"impression_labels": "INT32_LIST"}
    return _measured(port, "user_id", [behavior, impressions], kinds, counts, {"length": length})


def _measured(port: int, key: str, views: list, kinds: dict, counts: tuple, about: dict) -> list[dict[str, Any]]:
    from redis import Redis

    found, done = [], 0
    with Redis(port=port) as client:
        client.flushall()
        empty = client.info("memory")["used_memory"]
        for count in counts:
            for start in range(done, count, _BATCH):
                _write(port, key, views, kinds, np.arange(start, min(count, start + _BATCH)))
            done = count
            used = client.info("memory")["used_memory"] - empty
            sampled = [client.memory_usage(client.randomkey()) for _ in range(_SAMPLED)]
            line = {"key": key, **about, "rows": count, "bytes_per_row": round(used / count, 1)}
            found.append(line | {"sampled_bytes": round(float(np.mean(sampled)), 1)})
    return found


def _write(port: int, key: str, views: list, kinds: dict, ids: np.ndarray) -> None:
    from qarm_features.feature_store.bulk_write.encoded_rows import OnlineView
    from qarm_features.feature_store.bulk_write.redis import RedisTarget

    for name, columns in views:
        features = tuple((column, kinds.get(column, "INT64")) for column in columns)
        view = OnlineView("shop", name, ((key, "INT64"),), features, "event_timestamp", None, 3)
        target = RedisTarget(view, {"host": "127.0.0.1", "port": port}, None, None, True, 10.0)
        writer = target.open()
        arrays = dict(_columns(columns, dict(features), ids))
        times = pa.array([_MOMENT.as_py()] * len(ids), _MOMENT.type)
        writer.write(pa.RecordBatch.from_pydict({key: pa.array(1_000_000 + ids), **arrays, "event_timestamp": times}))
        writer.close()


def _columns(columns: dict, kinds: dict, ids: np.ndarray) -> Iterator[tuple[str, pa.Array]]:
    """Yield random values of the size of real ones: codes and counts of some thousands, IDs of millions, times in seconds."""
    random = np.random.default_rng(len(ids))
    for name, length in columns.items():
        number = pa.int32() if "32" in kinds[name] else pa.int64()
        high = 2 if "labels" in name else 1_000_000_000 if "item_ids" in name else 8_192
        values = random.integers(high, size=len(ids) * max(1, length)) + (1_704_067_200 if "times" in name else 0)
        flat = pa.array(values, number)
        if not length:
            yield name, flat
            continue
        offsets = pa.array(np.arange(0, len(values) + 1, length), pa.int32())
        yield name, pa.ListArray.from_arrays(offsets, flat)
