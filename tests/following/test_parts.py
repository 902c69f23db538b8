"""The small parts of a follower: patterns of files, plans of batches, metrics, signals."""

from __future__ import annotations

import os
import signal
import socket
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families

from qarm_features.catalog.reading.some_files import one_path_of
from qarm_features.catalog.reading.source_files import resolve
from qarm_features.following.batch_plan import planned, writer_name
from qarm_features.following.metrics import served_metrics
from qarm_features.following.source_files import SourceFile, read_together
from qarm_features.following.stream import asked_to_stop
from tests.free_port import free_port
from tests.telemetry.runs import run_of


def test_the_paths_of_files_with_odd_names_read_these_files_alone(spark, tmp_path):
    names = ["a.txt", "b,c.txt", "d[1].txt", "e{f,g}.txt", "h*.txt", "ü i.txt", "deep/j.txt"]
    for name in [*names, "other.txt", "d1.txt", "hh.txt", "ef.txt"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    files = [SourceFile("items", f"file:{tmp_path}/{name}", 1) for name in names]

    parts = read_together(files)

    paths = [resolve(spark, one_path_of([file.path for file in part]), setting="items.path") for part in parts]
    assert [len(part) for part in parts] == [3, 1, 1, 1, 1]
    assert sorted(line["value"] for path in paths for line in spark.read.text(path).collect()) == sorted(names)


def test_the_plan_of_a_batch_is_the_same_in_a_second_attempt(followed, tmp_path):
    warehouse = followed.context.warehouse
    first = planned(tmp_path, 3, warehouse)
    (tmp_path / "batch.json").write_text((tmp_path / "batch.json").read_text().replace('"items": ', '"items": 9'))

    again, next_one = planned(tmp_path, 3, warehouse), planned(tmp_path, 4, warehouse)

    assert again.items == int(f"9{first.items}")
    assert next_one.items == first.items
    assert (again.batch, next_one.batch) == (3, 4)


def test_a_folder_keeps_its_writer_and_a_new_one_has_another(tmp_path):
    first = writer_name(tmp_path / "a")

    assert writer_name(tmp_path / "a") == first
    assert writer_name(tmp_path / "b") != first


def test_prometheus_reads_lag_and_rows_of_the_batches():
    port = free_port()
    with served_metrics("127.0.0.1", port) as tell:
        tell(run_of("follow", rows_in=10, rows_rejected=2, lag_seconds=3.5))
        tell(run_of("follow", rows_in=5, rows_rejected=0, lag_seconds=1.5))

        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
            text = answer.read().decode()

    found = {sample.name: sample.value for family in text_string_to_metric_families(text) for sample in family.samples}
    assert found["qarm_follow_lag_seconds"] == 1.5
    assert found["qarm_follow_rows_total"] == 15
    assert found["qarm_follow_rows_rejected_total"] == 2


def test_a_port_that_is_taken_is_named():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        with (
            pytest.raises(
                ValueError, match=f"follow.metrics_port is {port}, and it cannot be opened on 127.0.0.1: Addr"
            ),
            served_metrics("127.0.0.1", port),
        ):
            pass


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_asks_for_the_end_and_the_handlers_before_come_back(number):
    before = signal.getsignal(number)
    with asked_to_stop() as stop:
        os.kill(os.getpid(), number)

        assert stop.wait(5)

    assert signal.getsignal(number) is before
