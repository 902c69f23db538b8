"""A job is current while nothing that it reads has changed; a new version is a change, though its files are the same."""

from pathlib import Path

from qarm_features.artifacts import Artifacts
from spark_jobs.runs import inputs
from spark_jobs.session import Counts, job


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
