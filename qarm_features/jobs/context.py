"""The context of a job: the settings, one Spark session that starts on first use, the tables and the artifacts.

In: settings. Out: a ``JobContext``, and the two things that several jobs take from it.
"""

from __future__ import annotations

import functools
import logging
from typing import TYPE_CHECKING

from qarm_features.jobs.spark_session import start_session
from qarm_features.jobs.version_numbers import largest_in_use
from qarm_features.settings.load import Settings
from qarm_features.storage.artifacts import Artifact, Artifacts
from qarm_features.storage.job_descriptions import describe_jobs
from qarm_features.storage.origins import OriginError, require_same_origin
from qarm_features.storage.tables import ITEM_SEMANTIC_IDS, Table
from qarm_features.storage.warehouse import Warehouse

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from qarm_features.feature_store.views.feature_views import Release

# What decides which encoder, and so which codebooks, the settings describe.
ENCODER_SETTINGS = ("items", "encoder", "alignment", "seed")

log = logging.getLogger(__name__)


class JobContext:
    """Settings, Spark session and tables of a run. Spark starts when a job first asks for it.

    Args:
        settings: Settings of the project.
        spark_log_on_stderr: Leaves Spark's own log on stderr; otherwise it goes to ``logs/spark.log`` of the project.
        whole: Jobs do their whole work, also where they could add what came since their last run.
    """

    def __init__(self, settings: Settings, *, spark_log_on_stderr: bool = True, whole: bool = False) -> None:
        self.settings = settings
        self.whole = whole
        self.spark_log_on_stderr = spark_log_on_stderr
        self._stage = ""

    @functools.cached_property
    def spark(self) -> SparkSession:
        """The only Spark session of the run."""
        log_file = None if self.spark_log_on_stderr else self.settings.state_path / "logs" / "spark.log"
        spark = start_session(self.settings.spark, name="qarm", log_file=log_file)
        describe_jobs(spark.sparkContext, self._stage)
        return spark

    def describe(self, stage: str) -> None:
        """Names the stage in the description of the Spark jobs that start from now on, which Spark's own pages show."""
        self._stage = stage
        if "spark" in vars(self):
            describe_jobs(self.spark.sparkContext, stage)

    @functools.cached_property
    def warehouse(self) -> Warehouse:
        """The tables of the project, for reading and writing by Spark."""
        settings = self.settings
        keep_days = settings.publishing.release_retention_days
        return Warehouse(settings.warehouse_path, **settings.id_types, spark=self.spark, keep_days=keep_days)

    def artifacts(self, kind: str) -> Artifacts:
        """Returns the versions of one kind of artifact, for example ``"codebooks"``."""
        taken = functools.partial(largest_in_use, self.settings, kind)
        return Artifacts(self.settings.artifacts_path, kind, taken=taken)


def existing_version(warehouse: Warehouse, table: Table) -> int:
    """Returns the newest Delta version of a table.

    Raises:
        TableError: The table does not exist. The message says which job writes it.
    """
    warehouse.read(table)
    version = warehouse.version(table)
    assert version is not None, "the read above fails if the table does not exist"
    return version


def current_codebooks(context: JobContext, codebook_version: int | None = None) -> Artifact:
    """Returns a codebook version, by default the newest one that was fitted with the present settings.

    Where the settings of another encoder were tried in between, this is the newest of the encoder that the settings describe
    now. If that encoder has none, it is the newest of all, and a warning says so.

    Args:
        context: Context of the job.
        codebook_version: Codebook version, from 0; None for the newest that has the present settings.

    Raises:
        ValueError: No codebooks have the present settings, or torch is needed to tell which.
    """
    codebooks, settings = context.artifacts("codebooks"), context.settings
    if codebook_version is not None:
        return codebooks.get(codebook_version)
    wanted = {"seed": settings.seed, **settings.codebooks.model_dump()}
    newest = codebooks.find(**wanted)
    if newest is None:
        raise ValueError(
            "No codebooks were fitted with the settings codebooks and seed of qarm.yaml. Run: qarm fit-codebooks"
        )
    encoder_version = newest.manifest["encoder_version"]
    if all(one.manifest.get("encoder_version") == encoder_version for one in codebooks.matching()):
        return newest
    from qarm_features.embedding.encoder_versions import described_encoder  # only here, because it loads torch

    encoder = described_encoder(context.artifacts("encoders"), settings)
    own = None if encoder is None else codebooks.find(encoder_version=encoder.version, **wanted)
    if own is None and encoder is not None:
        log.warning(
            "WARNING: codebooks v%d are used, which were fitted to embeddings of encoder v%d. The settings describe encoder "
            "v%d, which has no codebooks. To fit them run: qarm embed-items, qarm fit-codebooks",
            *(newest.version, encoder_version, encoder.version),
        )
    return own or newest


def require_codebooks_of(context: JobContext, release: Release) -> None:
    """Refuses a release whose codes come from other codebooks than those that have its number now.

    Raises:
        OriginError: The table or the record of the release names another fingerprint than the folder of the codebooks.
    """
    codebooks = context.artifacts("codebooks")
    if release.codebook_version not in codebooks.versions():
        return  # Who needs the codebooks themselves says that they are missing.
    artifact = codebooks.get(release.codebook_version)
    require_same_origin(context.warehouse, ITEM_SEMANTIC_IDS, artifact, version=release.delta_version)
    if release.codebook_fingerprint not in (None, artifact.fingerprint):
        raise OriginError(
            f"{release.view_name} was published with codebooks of fingerprint {release.codebook_fingerprint}, but "
            f"{artifact.place} has {artifact.fingerprint}: it was made anew under an old number. Restore the folder of that "
            "fingerprint from a backup, or publish new codebooks: qarm fit-codebooks --fresh, qarm assign-semantic-ids, qarm "
            "publish-features."
        )
