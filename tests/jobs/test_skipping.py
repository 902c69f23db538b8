"""A job is current while nothing that it reads has changed. A new version is a change, even if its files are the same."""

import os
from pathlib import Path

import pytest

from qarm_features.jobs import skipping
from qarm_features.jobs.ingest_catalog import ingest_catalog
from qarm_features.jobs.job import Counts, job
from qarm_features.jobs.mine_item_pairs import mine_item_pairs
from qarm_features.jobs.publish_features import publish_features
from qarm_features.jobs.skipping import inputs
from qarm_features.settings.load import load_settings
from qarm_features.storage.artifacts import Artifacts


@job(after="nothing", reads=("codebooks/",), writes=())
def reader(context) -> Counts:
    """Reads codebooks."""


def write(folder: Path) -> None:
    (folder / "codebooks.safetensors").write_bytes(b"the same")


def test_a_new_codebook_version_with_the_same_files_is_a_change(settings):
    codebooks = Artifacts(settings.artifacts_path, "codebooks")
    none = inputs(reader, settings)
    codebooks.publish(write)
    first, again = inputs(reader, settings), inputs(reader, settings)
    codebooks.publish(write)

    second = inputs(reader, settings)

    assert first == again
    assert none != first != second


@pytest.mark.parametrize(
    ("reads", "flags", "file"),
    [
        (mine_item_pairs, {"item_pairs": {"item_vectors": "mine.parquet"}}, "mine.parquet"),
        (publish_features, {"publishing": {"user_embeddings": {"path": "users.parquet"}}}, "users.parquet"),
        (ingest_catalog, {"items": {"image": "poster"}, "encoder": {"media_roots": ["media"]}}, "media/a/b.png"),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_what_a_setting_names_is_an_input(settings, reads, flags, file):
    folder = settings.feature_repo_path.parent
    (folder / file).parent.mkdir(parents=True, exist_ok=True)
    (folder / file).write_bytes(b"first")
    settings = load_settings(folder / "qarm.yaml", **flags)
    first, again = inputs(reads, settings), inputs(reads, settings)

    (folder / file).write_bytes(b"later")
    os.utime(folder / file, ns=(1, 1))

    assert first == again
    assert inputs(reads, settings) != first


def test_published_vectors_are_inputs_where_they_are_asked_for(settings):
    asked = load_settings(settings.feature_repo_path.parent / "qarm.yaml", publishing={"embeddings": True})

    assert "item_embeddings" in inputs(publish_features, asked)
    assert "item_embeddings" not in inputs(publish_features, settings)


def test_skipping_knows_no_job_by_name():
    folder = Path(skipping.__file__).parent
    names = {path.stem for path in (folder.parents[1] / "spark_jobs").glob("*.py")}

    assert {
        name for file in ("skipping.py", "states.py", "job.py") for name in names if name in (folder / file).read_text()
    } == set()
