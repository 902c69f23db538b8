"""The state of a project for operators: what is served, what each stage did last, and what a run would do now.

In: settings, without Spark. Out: plain values, as the command ``qarm status`` shows them and as JSON.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

from qarm_features.feature_store.publishing.release_manifest import manifests, promoted_before
from qarm_features.jobs.job import Job
from qarm_features.jobs.project_lock import holders
from qarm_features.jobs.skipping import changed_inputs
from qarm_features.settings.load import Settings
from qarm_features.storage.tables import INTERACTIONS, ITEM_EMBEDDINGS, ITEM_SEMANTIC_IDS, ITEMS, REJECTED_ROWS
from qarm_features.storage.warehouse import Warehouse
from qarm_features.telemetry.stage_log import BATCHES, LastRuns, last_runs, runs_backwards

_COUNTED = (ITEMS, INTERACTIONS, REJECTED_ROWS, ITEM_EMBEDDINGS, ITEM_SEMANTIC_IDS)


class Served(NamedTuple):
    """The release that readers get.

    Attributes:
        release: Name of its feature view.
        codebook_version, encoder_version: Its versions.
        items: Number of its items.
        since: Time at which it was promoted last, in ISO format. None for a record of an early version.
        age_seconds: Seconds since then.
        waiting: Codebook versions of verified releases that are newer and not promoted.
    """

    release: str
    codebook_version: int
    encoder_version: int
    items: int
    since: str | None
    age_seconds: float | None
    waiting: tuple[int, ...]


class StageState(NamedTuple):
    """A stage.

    Attributes:
        stage: Name of the job.
        state: What ``qarm run`` would do with it: nothing (``current``), run it because inputs have changed (``changed``) or
            because it has never succeeded (``never ran``).
        changed: Names of the inputs that have changed since its last success.
        last: Its last run, as the log of the stages has it. None where the log has none.
        success: Its last run that succeeded.
    """

    stage: str
    state: Literal["current", "changed", "never ran"]
    changed: tuple[str, ...]
    last: dict[str, Any] | None
    success: dict[str, Any] | None


class ProjectStatus(NamedTuple):
    """The state of a project.

    Attributes:
        served: The promoted release. None where there is none.
        running: Commands that work in the project now, with process, host and start.
        rows: Number of rows of the main tables that exist, from Delta's own counts.
        stages: The stages, in the order in which they run.
        followed: The last batch of ``qarm follow``, as its log has it. None where there is none.
    """

    served: Served | None
    running: tuple[dict[str, str], ...]
    rows: dict[str, int]
    stages: tuple[StageState, ...]
    followed: dict[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return values that JSON can hold."""
        return {
            "served": self.served and self.served._asdict(),
            "running": list(self.running),
            "rows": self.rows,
            "stages": [stage._asdict() for stage in self.stages],
            "followed": self.followed,
        }


def project_status(settings: Settings, jobs: Iterable[Job[...]]) -> ProjectStatus:
    """Returns the state of a project. It changes nothing and starts no Spark.

    Args:
        settings: Settings of the project.
        jobs: Jobs, in the order in which they run.
    """
    jobs = list(jobs)
    logged = last_runs(settings, {job.name for job in jobs})
    batch = next(runs_backwards(settings, log=BATCHES), None)
    return ProjectStatus(
        served=_served(settings),
        running=tuple(holders(settings)),
        rows=_rows(settings),
        stages=tuple(_stage(job, settings, logged.get(job.name)) for job in jobs),
        followed=None if batch is None else batch.to_json(),
    )


def _stage(job: Job[...], settings: Settings, runs: LastRuns | None) -> StageState:
    changed = changed_inputs(job, settings)
    state: Literal["current", "changed", "never ran"] = "never ran"
    if changed is not None:
        state = "changed" if changed else "current"
    if runs is None:
        return StageState(job.name, state, changed or (), None, None)
    success = None if runs.success is None else runs.success.to_json()
    return StageState(job.name, state, changed or (), runs.last.to_json(), success)


def _served(settings: Settings) -> Served | None:
    history, known = promoted_before(settings), {one.release.codebook_version: one for one in manifests(settings)}
    if not history or history[-1] not in known:
        return None
    manifest = known[history[-1]]
    release = manifest.release
    since = manifest.promotions[-1].at if manifest.promotions else None
    return Served(
        release=release.view_name,
        codebook_version=release.codebook_version,
        encoder_version=release.encoder_version,
        items=release.rows,
        since=since,
        age_seconds=None if since is None else (datetime.now(UTC) - datetime.fromisoformat(since)).total_seconds(),
        waiting=tuple(
            version for version, one in known.items() if one.state == "verified" and version > release.codebook_version
        ),
    )


def _rows(settings: Settings) -> dict[str, int]:
    warehouse = Warehouse(settings.warehouse_path, **settings.id_types)
    counts = {table.name: warehouse.row_count(table) for table in _COUNTED}
    return {name: count for name, count in counts.items() if count is not None}
