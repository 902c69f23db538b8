"""Checks whether this machine can run the jobs. Each part is tried, not only looked up.

In: the path of ``qarm.yaml``. Out: checks to run one by one, each with its result and a way to repair a failure.
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
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from qarm_features.cli.missing_extra import explain_missing
from qarm_features.settings.load import Settings, load_settings
from qarm_features.settings.secrets import redacted
from qarm_features.settings.sections import SparkOptions


@dataclass(frozen=True)
class Result:
    """The result of a check."""

    state: Literal["ok", "failed", "skipped"]
    found: str


@dataclass(frozen=True)
class Check:
    """One thing to try, and how to repair it.

    Args:
        name: Name shown to people.
        attempt: Function that tries it and returns a result, or the text of a successful one.
        repair: Sentence that says how to repair a failure.
    """

    name: str
    attempt: Callable[[], Result | str]
    repair: str

    def run(self) -> Result:
        """Runs the check. An error becomes a failed result. No result shows a secret."""
        try:
            result = self.attempt()
        except ImportError as error:
            return Result("failed", explain_missing(error))
        except Exception as error:
            lines = str(error).strip().splitlines()
            result = Result("failed", f"{type(error).__name__}: {lines[0] if lines else ''}")
        found = result if isinstance(result, Result) else Result("ok", result)
        return replace(found, found=redacted(found.found))


def checks(config: Path) -> list[Check]:
    """Returns all checks. Those that need ``qarm.yaml`` are skipped if the file does not exist."""
    extra = "Run: pip install 'qarm-features[{}]'."
    return [
        Check("Python", _python, "Use Python 3.11 or 3.12."),
        Check("Java", _java, "Install Java 17 or 21, for example: apt-get install openjdk-17-jre-headless"),
        Check("Spark and Delta", _delta, f"{extra.format('spark')} Delta's jars are downloaded from Maven Central on first "
              "use: check the network, or pass the jars by --jars."),
        Check("torch", _torch, extra.format("torch")),
        Check("settings", lambda: _settings(config), "Run: qarm init DIR"),
        Check("your files", lambda: _files(config), "Correct the files, or the sections items and interactions of "
              "qarm.yaml."),
        Check("encoder", lambda: _encoder(config), "Set encoder.text_backbone to a local folder or a Hugging Face name that "
              "has safetensors files."),
        Check("Feast", lambda: _feast(config), f"{extra.format('feast')} Then check feature_store.yaml."),
        Check("Redis", lambda: _redis(config), "Start Redis (apt-get install redis-server), or correct connection_string in "
              "feature_store.yaml."),
        Check("artifacts", lambda: _artifacts(config), "Use a store that honors conditional writes (If-None-Match), and an "
              "identity that may read, write, list and delete below artifacts."),
        Check("releases", lambda: _releases(config), "Run: qarm publish-features, or for an earlier release: qarm release "
              "publish --codebook-version N. It names the newest version of its table then."),
        Check("leftovers", lambda: _leftovers(config), "Check the folder of the artifacts."),
    ]  # fmt: skip


def _python() -> Result | str:
    version = ".".join(map(str, sys.version_info[:3]))
    return version if sys.version_info[:2] in ((3, 11), (3, 12)) else Result("failed", version)


def _java() -> Result | str:
    home = os.environ.get("JAVA_HOME")
    java = str(Path(home, "bin", "java")) if home else shutil.which("java")
    if java is None:
        return Result("failed", "java is not on PATH, and JAVA_HOME is not set")
    first_line = subprocess.run([java, "-version"], capture_output=True, text=True, check=True).stderr.splitlines()[0]
    version = re.search(r'version "(\d+)', first_line)
    supported = version is not None and int(version[1]) in (17, 21)
    return Result("ok" if supported else "failed", first_line)


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


def _torch() -> Result | str:
    import torch

    value = float((torch.ones(2, 2) @ torch.ones(2, 2)).sum())
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    if value != 8:
        return Result("failed", f"torch {torch.__version__} on {device}: the sum of a product is {value}, must be 8")
    return f"torch {torch.__version__} on {device}"


def _settings(config: Path) -> str:
    settings = load_settings(config)
    found = f"{config}, tables in {settings.warehouse_path}"
    if settings.secrets() and config.stat().st_mode & 0o077:
        return f"{found}\n    It may hold credentials, and others may read it. Run: chmod 600 {config}"
    return found


def _files(config: Path) -> Result | str:
    if not config.is_file():
        return Result("skipped", f"{config} does not exist")
    from qarm_features.catalog.trial import Trial, try_sources
    from qarm_features.jobs.spark_session import start_session

    settings = load_settings(config)

    def lines(trial: Trial) -> list[str]:
        counts = trial.counts
        said = f"{counts.table}: {trial.source}: {counts.accepted:,} accepted, {counts.rejected:,} rejected"
        rejected = [f"  {one.rows:,} rejected: {one.reason}, for example {one.example}" for one in trial.rejected]
        first = ", ".join(f"{name} {value}" for name, value in trial.first.items())
        return [said, *rejected, f"  read as: {first}" if first else "", trial.fault and f"  {trial.fault}"]

    with tempfile.TemporaryDirectory() as folder:
        spark = start_session(settings.spark, name="doctor", log_file=Path(folder) / "spark.log")
        try:
            trials = try_sources(spark, settings, Path(folder) / "first_rows")
        finally:
            spark.stop()
    both = [trials.items, trials.interactions]
    missing = ["" if trials.is_stopped_by_unknown else str(trials.unknown or ""), trials.remedy]
    found = "\n    ".join(line for line in [*(line for one in both for line in lines(one)), *missing] if line)
    stops = any(one.fault for one in both) or trials.is_stopped_by_unknown
    return Result("failed" if stops else "ok", found)


def _encoder(config: Path) -> str:
    from qarm_features.embedding.encoder_versions import item_encoder_config
    from qarm_features.encoders import READS
    from qarm_features.encoders.item_encoder import ItemEncoder
    from qarm_features.encoders.understood import understood
    from qarm_features.settings.sections import Encoder
    from qarm_features.settings.sources import ItemSource

    settings = load_settings(config) if config.is_file() else None
    section = settings.encoder if settings else Encoder()
    read = "image_text" if section.image_text_backbone else "text"
    items = ItemSource(path="items.parquet", text=["text"])
    arguments = item_encoder_config(items, section, aligned=False)["modalities"][read]
    encoder = ItemEncoder({read: arguments})
    embedding = encoder.encode({part: ["a trial text" if part == "text" else None] for part in READS[read]}).embeddings
    first = f"{arguments['backbone']} gave an item embedding of {embedding.shape[1]} dimensions"
    return "\n    ".join([first, *understood(encoder.encoders[read])])


def _feast(config: Path) -> Result | str:
    if not config.is_file():
        return Result("skipped", f"{config} does not exist")
    from qarm_features.feature_store.views.feature_views import open_feature_store

    store = open_feature_store(load_settings(config).feature_repo_path)
    views = [view.name for view in store.list_feature_views()]
    return f"{importlib.metadata.version('feast')}, the registry has {len(views)} views"


def _redis(config: Path) -> Result | str:
    if not config.is_file():
        return Result("skipped", f"{config} does not exist")
    from qarm_features.feature_store.publishing.expiry import expiry_remark
    from qarm_features.feature_store.store_errors import redis_servers
    from qarm_features.feature_store.views.feature_views import open_feature_store

    store = open_feature_store(load_settings(config).feature_repo_path)
    online_store = store.config.online_store
    if online_store.type != "redis":
        return Result("skipped", f"the online store is {online_store.type}")
    servers = redis_servers(online_store.connection_string)
    if not servers:
        return Result(
            "failed", "connection_string begins with no host:port, for example localhost:6379,ssl=true; it is not a URL"
        )
    host, _, port = servers[0].partition(":")
    with socket.create_connection((host, int(port or 6379)), timeout=3) as connection:
        # A server that wants a password or TLS also answers: with an error, or by closing the connection.
        connection.sendall(b"PING\r\n")
        answer = connection.recv(64).decode(errors="replace").strip()
    return "; ".join(part for part in (f"{host}:{port or 6379} answers {answer}", expiry_remark(store)) if part)


def _artifacts(config: Path) -> Result | str:
    if not config.is_file():
        return Result("skipped", f"{config} does not exist")
    from qarm_features.storage.copies import cache_folder
    from qarm_features.storage.objects import ObjectPath

    root = load_settings(config).artifacts_path
    if not isinstance(root, ObjectPath):
        return f"{root} on this machine"
    trial = root / f".doctor-{uuid.uuid4().hex}"
    try:
        first, second = trial.create(b"first"), trial.create(b"second")
        listed = [one.name for one in root.objects() if one.name == trial.name]
    finally:
        trial.unlink(missing_ok=True)
    if not first or second or not listed:
        return Result("failed", f"{root} lets two writers write one object, so that versions could replace each other")
    return f"{root} keeps conditional writes; copies are in {cache_folder()}"


def _releases(config: Path) -> Result | str:
    if not config.is_file():
        return Result("skipped", f"{config} does not exist")
    from qarm_features.feature_store.publishing.named_versions import faults, named_versions

    settings = load_settings(config)
    found = list(faults(settings))
    if found:
        return Result("failed", "; ".join(found))
    return f"{len(named_versions(settings))} versions of tables are named by live releases, and all can be read"


def _leftovers(config: Path) -> Result | str:
    if not config.is_file():
        return Result("skipped", f"{config} does not exist")
    from qarm_features.jobs.leftovers import leftovers, total

    found = leftovers(load_settings(config))
    remove = "A run that is at work may own them; if none is, remove them by: qarm doctor --clean"
    return f"{total(found)} of unfinished runs. {remove}" if found else "killed runs left nothing"


def clean_up(settings: Settings, *, dry_run: bool) -> list[str]:
    """Removes what killed runs left, or lists it, and returns lines that say what and how large.

    Args:
        settings: Settings of the project.
        dry_run: True to remove nothing.
    """
    from qarm_features.jobs.leftovers import leftovers, remove_leftovers, total

    found = leftovers(settings) if dry_run else remove_leftovers(settings)
    done = "would be removed" if dry_run else "removed"
    lines = [f"{done}: {one.path} ({one.bytes:,} bytes)" for one in found]
    return [*lines, f"{total(found)} {done}" if found else "Killed runs left nothing."]
