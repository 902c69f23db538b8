"""A fit continues if an executor is killed in the middle of it, and ends with the same codebooks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pyspark
import pytest

pytestmark = pytest.mark.slow

SCRIPT = """
import logging, os, signal, sys
import numpy as np, pyarrow as pa, pyarrow.parquet as pq
from pyspark.sql import SparkSession
from qarm_features.quantizers import ResidualKMeans
from qarm_features.quantizers.passes import embedding_files

logging.basicConfig(level=logging.WARNING)
rows = np.random.default_rng(0).normal(size=(4000, 8)).astype(np.float32)
for part in range(4):
    values = pa.FixedSizeListArray.from_arrays(rows[part::4].ravel(), 8).cast(pa.list_(pa.float32()))
    pq.write_table(pa.table({"embedding": values}), f"{sys.argv[1]}/{part}.parquet")
spark = SparkSession.builder.master("local-cluster[2,1,1024]").config("spark.ui.enabled", "false")
spark = spark.config("spark.sql.files.maxPartitionBytes", "40000").config("spark.sql.files.openCostInBytes", "0")
spark = spark.config("spark.executor.extraJavaOptions", "-Xss4m").getOrCreate()
by_arrow = spark.read.parquet(sys.argv[1])
frames = {"arrow": by_arrow, "spark": by_arrow.where("size(embedding) = 8")}
estimator = ResidualKMeans(numLevels=2, codebookSize=16, maxIter=4, tol=0.0)
undisturbed = estimator.fit(by_arrow).codebooks.tobytes()
step, steps = embedding_files.EmbeddingFiles.step, []


def executors(index, _):
    from pathlib import Path

    parent = os.getppid()  # the daemon of Python workers; its parent is the executor
    return [int(Path(f"/proc/{parent}/stat").read_text().rsplit(")", 1)[1].split()[1])]


def killing(files, centroids):
    steps.append(1)
    if len(steps) == 3:
        found = set(spark.sparkContext.parallelize(range(8), 8).mapPartitionsWithIndex(executors).collect())
        assert len(found) == 2, found
        os.kill(min(found), signal.SIGKILL)
    return step(files, centroids)


embedding_files.EmbeddingFiles.step = killing
for name, frame in frames.items():
    steps.clear()
    again = estimator.fit(frame).codebooks.tobytes()
    print(name, len(steps), again == undisturbed, flush=True)
spark.stop()
"""


def test_a_killed_executor_changes_no_bit(tmp_path):
    home = Path(pyspark.__file__).parent
    root = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "SPARK_HOME": str(home), "PYSPARK_PYTHON": sys.executable, "PYTHONPATH": str(root)}
    environment |= {"SPARK_LOCAL_IP": "127.0.0.1", "SPARK_SCALA_VERSION": "2.13"}
    (tmp_path / "fit.py").write_text(SCRIPT)
    (tmp_path / "rows").mkdir()

    command = [sys.executable, str(tmp_path / "fit.py"), str(tmp_path / "rows")]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=600)

    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout.split() == ["arrow", "8", "True", "spark", "8", "True"]
