"""Each run of a job is recorded, however it ends."""

import pandas as pd
import pytest

from qarm_features.jobs.ingest_catalog import ingest_catalog
from qarm_features.jobs.job import Counts, job
from qarm_features.jobs.status import project_status
from qarm_features.quantizers import ResidualKMeans
from qarm_features.telemetry.stage_log import runs_backwards
from tests.toy_catalog import all_jobs


@job(after="nothing", reads=("items",), writes=("interactions",))
def broken(context) -> Counts:
    """Fails."""
    raise ValueError("The login password=hunter2secret was refused.")


def test_a_run_says_its_rows_reasons_versions_and_bytes(fresh_project):
    clicks = fresh_project.settings.path(fresh_project.settings.interactions.path)
    rows = pd.read_parquet(clicks)
    pd.concat([rows, rows.head(2).assign(item_id=None)]).to_parquet(clicks, index=False)

    ingest_catalog(fresh_project)
    (run,) = runs_backwards(fresh_project.settings)

    assert run.state == "succeeded"
    assert run.rows_in == run.rows_out + run.rows_rejected
    assert sum(run.rejected_by_reason.values()) == run.rows_rejected == 2
    assert run.written == {"items": 0, "interactions": 0, "rejected_rows": 0}
    assert run.bytes_written > 1_000
    assert run.seconds > 0


def test_a_failure_is_recorded_without_secrets_and_still_raised(fresh_project):
    with pytest.raises(ValueError, match="refused"):
        broken(fresh_project)

    (run,) = runs_backwards(fresh_project.settings)

    assert (run.stage, run.state, run.rows_in) == ("broken", "failed", None)
    assert "hunter2secret" not in run.error
    assert "was refused" in run.error


def test_spark_describes_the_jobs_of_a_fit_by_stage_level_and_iteration(fresh_project, spark):
    rows = [([1.0 + n % 7, 1.0 + n % 5],) for n in range(40)]
    frame = spark.createDataFrame(rows, "embedding array<float>")
    store = spark.sparkContext._jsc.sc().statusStore()
    fresh_project.describe("fit_codebooks")

    ResidualKMeans(inputCol="embedding", numLevels=2, codebookSize=4).fit(frame)
    fresh_project.describe("")

    jobs = store.jobsList(None)  # the latest first
    found = [jobs.apply(n).description().getOrElse(None) for n in range(min(jobs.size(), 30))]
    assert "fit_codebooks: level 0, iteration 1" in found
    assert "fit_codebooks: level 0, residuals" in found
    assert "fit_codebooks: level 1, iteration 1" in found


def test_the_status_of_a_finished_project_names_what_is_served_and_nothing_to_do(project):
    found = project_status(project.settings, all_jobs())

    assert found.served.items == 64
    assert found.served.age_seconds >= 0
    assert found.rows["items"] == 64
    assert {stage.state for stage in found.stages} == {"current"}
    assert all(stage.success["rows_in"] is not None for stage in found.stages)
    assert found.running == ()


def test_the_status_names_the_inputs_that_changed(project):
    changed = project.settings.model_copy(
        update={"codebooks": project.settings.codebooks.model_copy(update={"num_levels": 5})}
    )
    stages = {stage.stage: stage for stage in project_status(changed, all_jobs()).stages}

    assert stages["fit_codebooks"].state == "changed"
    assert stages["fit_codebooks"].changed == ("setting codebooks",)
    assert stages["ingest_catalog"].state == "current"


def test_the_status_of_a_new_project_says_that_nothing_ran(settings):
    found = project_status(settings, all_jobs())

    assert found.served is None
    assert {stage.state for stage in found.stages} == {"never ran"}
