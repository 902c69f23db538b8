"""Parts of the calibration of ``qarm plan``: what they find where the answer is known."""

from __future__ import annotations

import subprocess
import sys

import pytest
from planning_runs.fitting import fit, redis_constants, stage_constants
from planning_runs.processor_clock import ProcessorClock
from planning_runs.redis_rows import item_keys, user_keys
from planning_runs.world import World, events_from

from qarm_features.planning.constants import load_constants
from qarm_features.planning.memory import redis_bytes
from qarm_features.planning.sizes import Sizes
from tests.feature_store.redis_server import RedisServer


def test_what_a_stage_takes_once_is_told_from_what_it_takes_for_each_unit():
    units = [{"rows": 1e6, "bytes": 2e6}, {"rows": 5e6, "bytes": 2e6}, {"rows": 1e6, "bytes": 9e6}]
    seconds = [10 + 2e-6 * one["rows"] + 3e-7 * one["bytes"] for one in units]

    assert fit(units, seconds) == pytest.approx({"fixed": 10.0, "rows": 2e-6, "bytes": 3e-7})


def test_a_unit_that_is_the_same_in_all_runs_is_no_reason_for_what_was_measured():
    assert fit([{"rows": 5.0}, {"rows": 5.0}], [7.0, 7.0]) == {"fixed": 7.0, "rows": 0.0}


def test_what_a_known_rate_explains_is_subtracted_first():
    units = [{"rows": 10.0, "products": 100.0}, {"rows": 30.0, "products": 300.0}]

    assert fit(units, [6.0, 12.0], {"products": 0.02}) == pytest.approx({"fixed": 3.0, "rows": 0.1, "products": 0.02})


def test_processor_seconds_of_the_driver_are_told_from_those_of_executors():
    worlds = [
        {"items": n, "events": 1_000, "users": 20, "dim": 64, "levels": 3, "codebook_size": 8} for n in (1_000, 3_000)
    ]
    records = [
        {
            "stage": "write_report",
            "world": world,
            "iterations": None,
            "cpu_seconds": 9.0 + world["items"] / 1_000,
            "driver_cpu_seconds": 4.0,
            "spark": {"input": 10 * world["items"], "output": 0, "shuffle": 0},
        }
        for world in worlds
    ]

    found = stage_constants(records, {})

    assert found["cpu_seconds"] == pytest.approx({"fixed": 5.0, "item_rows": 0.001, "event_rows": 0.0})
    assert found["driver_seconds"] == pytest.approx({"fixed": 4.0})
    assert found["read_bytes"]["item_rows"] == pytest.approx(10.0)


def test_keys_in_a_real_redis_take_what_the_shipped_constants_say(tmp_path):
    server = RedisServer(tmp_path)
    server.start()
    try:
        items = item_keys(server.port, levels=3, releases=2, counts=(2_000,))[0]["bytes_per_row"]
        users = user_keys(server.port, length=25, counts=(1_000,))[0]["bytes_per_row"]
    finally:
        server.stop(keep=False)
    known = load_constants().redis
    sizes = Sizes(items=2_000, events=50 * 1_000, users=1_000, positive_share=1.0, behaviors=25, impressions=25)

    predicted = redis_bytes(sizes, known)

    assert predicted == pytest.approx(2_000 * items + 1_000 * users, rel=0.1)


def test_constants_of_redis_have_a_part_for_each_release_and_each_code():
    lines = [
        {"key": "item_id", "releases": n, "levels": levels, "bytes_per_row": 100 + n * (40 + 5 * levels)}
        for n in (1, 2)
        for levels in (3, 6)
    ]
    lines += [{"key": "user_id", "length": length, "bytes_per_row": 100 + length} for length in (50, 10)]

    found = redis_constants(lines)

    assert found["item_key"] == pytest.approx({"fixed": 100, "release": 40, "code": 5})
    assert found["user_key"] == [[10.0, 110], [50.0, 150]]


def test_the_parts_of_a_log_are_those_of_one_log():
    world = World(items=50, events=200, users=10)

    rows = events_from(100, 200, world)

    assert rows.num_rows == 100
    assert max(rows["item_id"].to_pylist()) < 50 and max(rows["user_id"].to_pylist()) < 10
    assert min(rows["event_timestamp"].to_pylist()) > max(events_from(0, 100, world)["event_timestamp"].to_pylist())


def test_a_process_that_has_ended_stays_counted_and_one_that_is_left_out_never_is():
    worked = "print(sum(range(3_000_000)), flush=True); input()"
    child, other = (subprocess.Popen([sys.executable, "-c", worked], stdin=-1, stdout=-1) for _ in range(2))
    clock = ProcessorClock(left_out=other.pid)
    try:
        for process in (child, other):
            process.stdout.readline()
        everything, own = clock.seconds()
        for process in (child, other):
            process.communicate(b"\n")
        afterwards = clock.seconds()[0]
    finally:
        clock.stop()

    assert everything > own
    assert afterwards >= everything
    assert (other.pid not in {pid for pid, _ in clock._seen}) and child.pid in {pid for pid, _ in clock._seen}
