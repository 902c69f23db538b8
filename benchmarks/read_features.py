"""Reads of published semantic IDs from Redis: our reader against stock Feast and a handwritten redis-py pipeline.

Feast's own ``online_write_batch`` writes the catalog, so all read the same hashes. Stock is
``get_online_features(...).to_dict()``. Raw is a pipeline of HMGET with handmade keys, whose answers protobuf parses into
lists. Each request has IDs of its own. All three answer it in turn, and their codes are compared. A request for a user needs
two calls, one for the behavior and one for the codes of its items and of the candidates.

    python benchmarks/read_features.py                                  # 200 items; 1 user and 500 candidates; eight threads
    python benchmarks/read_features.py --items 10000 --requests 50
"""

from __future__ import annotations

import argparse
import itertools
import os
import struct
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import yaml
from feast import FeatureStore
from feast.infra.key_encoding_utils import serialize_entity_key_prefix
from feast.infra.online_stores.helpers import _mmh3
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Int32List, Int64List, Value, ValueType
from materialize import redis_server
from redis import Redis

from qarm_features.cli.new_project import write_project
from qarm_features.feature_store import SemanticIDReader
from qarm_features.feature_store.views import feature_views
from qarm_features.settings.load import load_settings
from qarm_features.storage.tables import USER_BEHAVIOR

LEVELS, CODES, USERS, USER_LENGTH, CHUNK = 3, 256, 1000, 50, 5000
ITEM_FEATURES, USER_FEATURES = ("rq_codes", "codebook_version"), ("behavior_item_ids", "behavior_timestamps")
NAMES = ("reader", "stock", "raw")


def main() -> None:
    """Print latencies and rates of each reader, and their ratios."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--items", type=int, default=100_000, help="number of items in the catalog")
    arguments.add_argument("--batch", type=int, default=200, help="number of items in a request")
    arguments.add_argument("--candidates", type=int, default=500, help="number of candidates in a request for a user")
    arguments.add_argument("--requests", type=int, default=500, help="number of requests of each kind")
    arguments.add_argument("--threads", type=int, default=8)
    arguments.add_argument("--seconds", type=float, default=10.0, help="seconds during which the threads read")
    options = arguments.parse_args()
    warnings.simplefilter("ignore")
    with redis_server() as port, tempfile.TemporaryDirectory() as folder:
        store = write_catalog(Path(folder), port, options.items)
        reader = SemanticIDReader(Path(folder) / "feature_repo")
        print(f"{options.items:,} items of {LEVELS} codes, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
        random = np.random.default_rng(0)
        asked = [random.choice(options.items, options.batch).tolist() for _ in range(options.requests)]
        of_items = item_reads(store, reader, port)
        compare(f"{options.batch} items", of_items, [(ids,) for ids in asked])
        users = [
            (int(random.integers(USERS)), random.choice(options.items, options.candidates).tolist()) for _ in asked
        ]
        compare(f"1 user and {options.candidates} candidates", user_reads(store, reader, port), users)
        rates = {name: read_in_threads(of_items[name], asked, options) for name in NAMES}
        print(
            f"{options.threads} threads, {options.batch} items: reader {ratios(rates, lambda ours, other: ours / other)}"
        )


def compare(title: str, reads: dict[str, Callable], requests: list[tuple]) -> None:
    """Answer each request with every reader and print p50, p99 and the ratios of our reader to the others."""
    seconds = {name: [] for name in reads}
    for number, request in enumerate(requests):
        answers = []
        for name in np.roll(list(reads), number):  # the order changes, so that none always comes first
            started = time.perf_counter()
            answers.append(reads[name](*request))
            seconds[name].append(time.perf_counter() - started)
        if not all(np.array_equal(answers[0], answer) for answer in answers):
            sys.exit(f"{title}: the codes of request {number} differ.")
    print(f"{title}, {len(requests)} requests each")
    p50, p99 = ({name: np.quantile(of, share) for name, of in seconds.items()} for share in (0.5, 0.99))
    for name in reads:
        print(f"{name:>10}: p50 {1000 * p50[name]:6.2f} ms, p99 {1000 * p99[name]:6.2f} ms")
    for quantile, times in (("p50", p50), ("p99", p99)):
        print(f"{quantile:>10}: reader {ratios(times, lambda ours, other: other / ours)}")


def read_in_threads(read: Callable, asked: list[list[int]], options: argparse.Namespace) -> float:
    """Read from several threads at once, print requests per second and the number of errors, and return the rate."""
    done, errors, stop = itertools.count(), itertools.count(), time.perf_counter() + options.seconds

    def work(place: int) -> None:
        while time.perf_counter() < stop:
            try:
                read(asked[place % len(asked)])
                next(done)
            except Exception as error:
                print(f"{type(error).__name__}: {error}", file=sys.stderr)
                next(errors)
            place += options.threads

    threads = [threading.Thread(target=work, args=(place,)) for place in range(options.threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rate = next(done) / options.seconds
    name = read.__qualname__.split(".")[-1]
    print(f"{name:>10}: {rate:7.1f} requests/s of {options.threads} threads, {next(errors)} errors")
    return rate


def ratios(figures: dict[str, float], times_better: Callable) -> str:
    """Return the ratios of our reader to the others as text."""
    found = {name: times_better(figures["reader"], figures[name]) for name in ("stock", "raw")}
    return f"{found['stock']:.1f} times as fast as stock, {found['raw']:.2f} times as fast as raw"


def item_reads(store: FeatureStore, reader: SemanticIDReader, port: int) -> dict[str, Callable]:
    """Return the functions that return the codes (B, L) of item IDs, by name."""
    service, raw_codes = store.get_feature_service("item_semantic_id"), RawCodes(store, port)

    def reader_codes(ids):
        return reader.item_codes(ids).codes

    def stock_codes(ids):
        return store.get_online_features(service, entity_rows={"item_id": ids}).to_dict()["rq_codes"]

    return dict(zip(NAMES, (reader_codes, stock_codes, raw_codes.items)))


def user_reads(store: FeatureStore, reader: SemanticIDReader, port: int) -> dict[str, Callable]:
    """Return the functions that return the codes of a user's items and then of candidates, by name."""
    service, raw_codes = store.get_feature_service("item_semantic_id"), RawCodes(store, port)
    of_user = [f"user_behavior:{name}" for name in USER_FEATURES]

    def reader_user(user, candidates):
        both = reader.user_and_candidates(user, candidates)
        return np.concatenate([both.behavior.codes[0].numpy(), both.candidates.codes.numpy()])

    def stock_user(user, candidates):
        row = store.get_online_features(of_user, entity_rows={"user_id": [user]}).to_dict()
        ids = [*row["behavior_item_ids"][0], *candidates]
        return store.get_online_features(service, entity_rows={"item_id": ids}).to_dict()["rq_codes"]

    return dict(zip(NAMES, (reader_user, stock_user, raw_codes.user)))


class RawCodes:
    """A handwritten reader of Feast's layout in Redis, with redis-py and protobuf."""

    def __init__(self, store: FeatureStore, port: int):
        self._client = Redis(port=port)
        self._project = store.project.encode()
        view = store.get_feature_service("item_semantic_id").feature_view_projections[0].name
        self._fields = {"item_id": self._hashes(view, ITEM_FEATURES)}
        self._fields["user_id"] = self._hashes("user_behavior", USER_FEATURES)
        self._prefixes = {
            key: serialize_entity_key_prefix([key], entity_key_serialization_version=3) for key in self._fields
        }

    def items(self, ids: list[int]) -> list[list[int]]:
        """Return the codes of items."""
        rows = self._read("item_id", ids)
        assert {version.int32_val for _, version in rows} == {0}
        return [list(codes.int32_list_val.val) for codes, _ in rows]

    def user(self, user: int, candidates: list[int]) -> list[list[int]]:
        """Return the codes of a user's items, then of the candidates."""
        ((item_ids, _),) = self._read("user_id", [user])
        return self.items([*item_ids.int64_list_val.val, *candidates])

    def _read(self, column: str, ids: list[int]) -> list[list[Value]]:
        pack, prefix = struct.Struct("<IIq").pack, self._prefixes[column]
        with self._client.pipeline(transaction=False) as pipe:
            for one in ids:
                pipe.hmget(prefix + pack(ValueType.INT64, 8, one) + self._project, self._fields[column])
            return [[Value.FromString(value) for value in row] for row in pipe.execute()]

    def _hashes(self, view: str, features: tuple[str, ...]) -> list[bytes]:
        return [_mmh3(f"{view}:{feature}") for feature in features]


def write_catalog(folder: Path, port: int, items: int) -> FeatureStore:
    """Make a project with random codes for all items as release 0, and behavior for users, written by Feast's own writer."""
    (folder / "qarm.yaml").write_text("items: {path: items.parquet}\ninteractions: {path: log.parquet}\n")
    write_project(folder)
    file = folder / "feature_repo" / "feature_store.yaml"
    config = yaml.safe_load(file.read_text())
    config["online_store"] = {"type": "redis", "connection_string": f"127.0.0.1:{port}", "skip_dedup": True}
    file.write_text(yaml.safe_dump(config))
    settings, store = load_settings(folder / "qarm.yaml"), feature_views.open_feature_store(folder / "feature_repo")
    release = feature_views.Release(0, 0, num_levels=LEVELS, codebook_size=CODES, delta_version=0, rows=items)
    view, of_user = feature_views.release_view(settings, release), feature_views.log_view(settings, USER_BEHAVIOR)
    store.apply([*feature_views.entities(settings), view, of_user, feature_views.item_service(view)])
    random = np.random.default_rng(1)
    codes = random.integers(CODES, size=(items, LEVELS)).tolist()
    zero = Value(int32_val=0)
    write(store, view, [(Value(int32_list_val=Int32List(val=row)), zero) for row in codes], ITEM_FEATURES)
    behaviors = random.integers(items, size=(USERS, USER_LENGTH)).tolist()
    times = Value(int64_list_val=Int64List(val=range(1_700_000_000, 1_700_000_000 + USER_LENGTH)))
    write(store, of_user, [(Value(int64_list_val=Int64List(val=row)), times) for row in behaviors], USER_FEATURES)
    return store


def write(store: FeatureStore, view, rows: list[tuple[Value, ...]], features: tuple[str, ...]) -> None:
    """Write rows of the entities 0, 1, 2, ... with ``online_write_batch``."""
    column, now = view.entity_columns[0].name, datetime.now(UTC)
    for start in range(0, len(rows), CHUNK):
        data = [
            (EntityKey(join_keys=[column], entity_values=[Value(int64_val=one)]), dict(zip(features, row)), now, None)
            for one, row in enumerate(rows[start : start + CHUNK], start)
        ]
        store._get_provider().online_write_batch(store.config, view, data, None)


if __name__ == "__main__":
    main()
