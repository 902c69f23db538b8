"""Every failure ends in one line that names the file or setting and the remedy; the traceback is in a file."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from qarm_features.jobs.failures import needs_traceback, one_line, report
from qarm_features.jobs.training_processes import TrainingProcesses
from qarm_features.settings.load import load_settings
from tests.toy_catalog import toy_items, write_toy_project

ROOT = Path(__file__).resolve().parents[2]
QARM = str(Path(sys.executable).with_name("qarm"))


def parquet(path: Path) -> bytes:
    pd.DataFrame({"a": range(1000), "b": ["x" * 100] * 1000}).to_parquet(path)
    return path.read_bytes()


def missing(folder, spark):
    spark.read.parquet(f"{folder}/none.parquet")


def truncated_parquet(folder, spark):
    whole = parquet(folder / "half.parquet")
    (folder / "half.parquet").write_bytes(whole[: len(whole) // 2])
    spark.read.parquet(f"{folder}/half.parquet")


def overwritten_parquet(folder, spark):
    whole = parquet(folder / "bad.parquet")
    (folder / "bad.parquet").write_bytes(whole[:100] + bytes(300) + whole[400:])
    spark.read.parquet(f"{folder}/bad.parquet").collect()


def truncated_gzip(folder, spark):
    packed = gzip.compress(os.urandom(300_000).hex().encode())
    (folder / "rows.csv.gz").write_bytes(packed[: len(packed) // 2])
    spark.read.csv(f"{folder}/rows.csv.gz").count()


def two_schemas(folder, spark):
    pd.DataFrame({"a": [1]}).to_parquet(folder / "1.parquet")
    pd.DataFrame({"a": ["x"]}).to_parquet(folder / "2.parquet")
    spark.read.parquet(str(folder)).collect()


def missing_table(folder, spark):
    spark.table("no_such_table")


def missing_delta_table(folder, spark):
    spark.read.format("delta").load(f"{folder}/none").count()


def unknown_column(folder, spark):
    spark.range(3).select("nope")


def no_hadoop_package(folder, spark):
    spark.read.parquet("s3a://bucket/rows")


def in_a_worker(spark, act):
    def worker(batches):
        for _ in batches:
            act()
        yield from ()

    spark.range(1).repartition(1).mapInArrow(worker, "id long").collect()


def broken_value(folder, spark):
    def act():
        raise ValueError("The picture a.png has 0 pixels. Replace it.")

    in_a_worker(spark, act)


def lost_redis(folder, spark):
    def act():
        import redis

        redis.Redis(port=1).ping()

    in_a_worker(spark, act)


def full_disk(folder, spark):
    def act():
        with open("/dev/full", "w") as file:
            file.write("x" * 100_000)

    in_a_worker(spark, act)


def no_permission(folder, spark):
    (folder / "secret").write_text("x")
    (folder / "secret").chmod(0)
    path = str(folder / "secret")

    def act():
        if os.getuid() == 0:
            os.setuid(65534)
        Path(path).read_text()

    folder.chmod(0o755)
    in_a_worker(spark, act)


def no_memory(folder, spark):
    in_a_worker(spark, lambda: bytearray(2**62))


def killed_worker(folder, spark):
    in_a_worker(spark, lambda: os.kill(os.getpid(), 9))


def no_memory_in_the_jvm(folder, spark):
    spark.range(1).selectExpr("repeat('x', 2000000000) AS a").selectExpr("concat(a, a, a)").collect()


@pytest.mark.parametrize(
    ("fail", "parts"),
    [
        (missing, ["{folder}/none.parquet does not exist. Correct the path"]),
        (truncated_parquet, ["{folder}/half.parquet cannot be read, because it is damaged, cut off", "Replace it"]),
        (overwritten_parquet, ["{folder}/bad.parquet cannot be read, because it is damaged, cut off"]),
        (truncated_gzip, ["{folder}/rows.csv.gz cannot be read", "EOFException: Unexpected end of input stream"]),
        (two_schemas, ["{folder}/", "has a column of another type than the files beside it", "one schema"]),
        (missing_table, ["`no_such_table` cannot be found", "does not exist. Correct the path or the table"]),
        (missing_delta_table, ["{folder}/none does not exist"]),
        (unknown_column, ["name `nope` cannot be resolved. Did you mean one of the following? [`id`]"]),
        (no_hadoop_package, ["Spark lacks the package", "S3AFileSystem", "spark.jars.packages"]),
        (broken_value, ["The picture a.png has 0 pixels. Replace it."]),
        (lost_redis, ["The online store Redis refused or was lost: ", "Connection refused", "feature_store.yaml"]),
        (full_disk, ["The disk is full", "No space left on device", "Free space"]),
        (no_permission, ["{folder}/secret may not be read or written by this user"]),
        (no_memory, ["Memory ran out (MemoryError)", "encoder.batch_size"]),
        (killed_worker, ["A worker process was killed, most often because memory ran out", "encoder.batch_size"]),
        (no_memory_in_the_jvm, ["The JVM of Spark ran out of memory", "spark.driver.memory"]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_failure_inside_spark_is_one_line_that_says_what_to_do(tmp_path, spark, fail, parts):
    with pytest.raises(Exception) as caught:  # whatever Spark raises
        fail(tmp_path, spark)

    line = one_line(caught.value)

    for part in parts:
        assert part.format(folder=tmp_path) in line
    assert "\n" not in line
    assert "SQLSTATE" not in line
    assert len(line) < 700


def test_the_traceback_is_in_a_file_of_the_project_that_the_line_names(settings, spark):
    folder = settings.feature_repo_path.parent
    with pytest.raises(Exception) as caught:
        truncated_gzip(folder, spark)

    line = report(caught.value, ["qarm", "ingest-catalog", "--config", str(folder / "qarm.yaml")])

    log_file = Path(line.rpartition(" ")[2])
    assert log_file.parent == settings.artifacts_path / "logs"
    assert "Traceback (most recent call last)" in log_file.read_text()
    assert "java.io.EOFException" in log_file.read_text()


def test_a_message_of_our_own_is_shown_as_it_is(tmp_path):
    with pytest.raises(ValueError, match="--config") as caught:
        load_settings(tmp_path / "none.yaml")

    assert one_line(caught.value) == str(caught.value)
    assert not needs_traceback(caught.value)


def test_a_fault_of_this_program_is_named_by_its_class_and_keeps_its_traceback():
    with pytest.raises(KeyError) as caught:
        {}["x"]

    assert one_line(caught.value) == "KeyError: 'x'"
    assert needs_traceback(caught.value)


def test_a_broken_parquet_file_that_arrow_reads_is_named(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"not parquet at all")
    with pytest.raises(pa.ArrowInvalid) as caught:
        pa.parquet.read_table(tmp_path / "a.parquet")

    assert "cannot be read, because it is damaged, cut off or of another format" in one_line(caught.value)


def refuses(path):
    from qarm_features.settings.load import load_settings

    load_settings(path)


def runs_out_of_memory():
    import torch

    torch.empty(2**60)


def dies():
    os.kill(os.getpid(), 9)


@pytest.mark.slow
@pytest.mark.parametrize("num_processes", [1, 2])
def test_the_error_of_a_training_process_is_shown_as_it_is(fresh_project, num_processes, tmp_path):
    with pytest.raises(Exception) as caught:
        TrainingProcesses(fresh_project, num_processes).run(refuses, str(tmp_path / "none.yaml"))

    assert (
        one_line(caught.value) == f"--config is {tmp_path / 'none.yaml'}, must be an existing file. Run: qarm init DIR"
    )
    printed = (fresh_project.settings.artifacts_path / "logs" / "training.log").read_text()
    assert "Traceback (most recent call last)" in printed


@pytest.mark.slow
@pytest.mark.parametrize(
    ("function", "parts"),
    [
        (runs_out_of_memory, ["Memory ran out", "ranking.batch_size"]),
        (dies, ["A worker process was killed, most often because memory ran out"]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_training_process_without_memory_is_explained(fresh_project, function, parts):
    with pytest.raises(RuntimeError) as caught:
        TrainingProcesses(fresh_project, 1).run(function)

    for part in parts:
        assert part in one_line(caught.value)


@pytest.mark.parametrize(
    "launch",
    [
        [QARM, "ingest-catalog"],
        pytest.param([sys.executable, str(ROOT / "spark_jobs/ingest_catalog.py")], marks=pytest.mark.slow),
    ],
)
def test_a_command_that_reads_a_broken_file_prints_one_line(tmp_path, launch):
    folder = write_toy_project(tmp_path)
    whole = (folder / "catalog" / "items.parquet").read_bytes()
    (folder / "catalog" / "items.parquet").write_bytes(whole[: len(whole) // 2])
    assert len(toy_items()) == 64

    done = subprocess.run(launch, cwd=folder, capture_output=True, text=True, check=False)

    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert f"{folder}/catalog/items.parquet cannot be read" in last
    assert "Traceback" not in done.stderr.replace("full traceback", "")
