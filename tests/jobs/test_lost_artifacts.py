"""The folder of artifacts is lost between two jobs: what needs it is refused or made anew under new numbers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from pyspark.sql import functions as F

from qarm_features.jobs.assign_semantic_ids import assign_semantic_ids
from qarm_features.jobs.context import JobContext
from qarm_features.jobs.evaluate_codes import evaluate_codes
from qarm_features.jobs.fit_codebooks import fit_codebooks
from qarm_features.jobs.ingest_catalog import ingest_catalog
from qarm_features.jobs.publish_features import publish_features
from qarm_features.semantic_ids.assign import load_codebooks
from qarm_features.storage.artifacts import Artifact, write_json
from qarm_features.storage.origins import OriginError
from qarm_features.storage.tables import ITEM_EMBEDDINGS, ITEM_SEMANTIC_IDS
from qarm_features.storage.warehouse import TableError
from tests.toy_catalog import add_clustered_embeddings, all_jobs


def wrong_codes(context: JobContext, codebooks: Artifact) -> list[int]:
    """Returns the IDs of the items whose semantic ID under a codebook version is not the one of these codebooks."""
    embeddings = context.warehouse.read(ITEM_EMBEDDINGS)
    embeddings = embeddings.where(F.col("encoder_version") == codebooks.manifest["encoder_version"])
    coded = load_codebooks(codebooks).transform(embeddings.select("item_id", "embedding"))
    written = context.warehouse.read(ITEM_SEMANTIC_IDS).where(F.col("codebook_version") == codebooks.version)
    both = written.select("item_id", F.col("rq_codes").alias("written")).join(coded, on="item_id", how="left")
    right = F.coalesce(F.col("written") == F.col("rq_codes"), F.lit(False))
    return [row["item_id"] for row in both.where(~right).select("item_id").collect()]


def takes_the_number_of(artifact: Artifact, number: int) -> None:
    """Gives a version an older number, as releases did that started again at 0 after a loss."""
    folder = artifact.path.with_name(f"v{number}")
    shutil.rmtree(folder)
    shutil.copytree(artifact.path, folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    write_json(folder / "manifest.json", {**manifest, "version": number})
    shutil.rmtree(artifact.path)


@pytest.mark.timeout(300)
@pytest.mark.slow
def test_new_codebooks_get_a_new_number_and_those_under_an_old_one_are_refused(fresh_project):
    warehouse, artifacts = fresh_project.warehouse, fresh_project.settings.artifacts_path
    ingest_catalog(fresh_project)
    add_clustered_embeddings(fresh_project, range(64))
    fit_codebooks(fresh_project)
    assign_semantic_ids(fresh_project)
    first = warehouse.arrow(ITEM_SEMANTIC_IDS).to_table(["item_id", "rq_codes"]).sort_by("item_id")
    shutil.rmtree(artifacts)

    with pytest.raises(ValueError, match="No codebooks were fitted with the settings"):
        assign_semantic_ids(fresh_project)
    with pytest.raises(TableError, match=r"no row with encoder_version = 1\. Present: 0\. Run: qarm embed-items"):
        fit_codebooks(fresh_project)
    add_clustered_embeddings(fresh_project, range(63, -1, -1))  # in another order, other items lie near other axes
    assert fit_codebooks(fresh_project).remark.startswith("codebooks v1, ")
    assert assign_semantic_ids(fresh_project).remark == "64 semantic IDs assigned by codebooks v1"

    codebooks = fresh_project.artifacts("codebooks").get(1)
    assert wrong_codes(fresh_project, codebooks) == []
    kept = warehouse.read(ITEM_SEMANTIC_IDS).where("codebook_version = 0").select("item_id", "rq_codes")
    assert kept.orderBy("item_id").toArrow().to_pylist() == first.to_pylist()

    fit_codebooks(fresh_project, refit=True)
    takes_the_number_of(fresh_project.artifacts("codebooks").get(2), 1)
    told = r"item_semantic_ids holds codes of codebooks v1 with the fingerprint \w+, but .*/codebooks/v1 has \w+: it was made"
    for job in (assign_semantic_ids, publish_features, evaluate_codes):
        with pytest.raises(OriginError, match=told):
            job(fresh_project)
    with pytest.raises(OriginError, match=told):
        fit_codebooks(fresh_project, refit=True)
    assert fit_codebooks(fresh_project, fresh=True).remark.startswith("codebooks v3, ")
    assert assign_semantic_ids(fresh_project).remark == "64 semantic IDs assigned by codebooks v3"
    assert wrong_codes(fresh_project, fresh_project.artifacts("codebooks").get(3)) == []


def run_those_that_can(context: JobContext, jobs: list) -> dict[str, str]:
    """Runs jobs one after the other, and returns what those that were refused said."""
    refused = {}
    for job in jobs:
        try:
            job(context)
        except ValueError as error:
            refused[job.name] = str(error)
    return refused


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_artifacts_lost_after_any_stage_never_give_a_code_of_other_codebooks(fresh_project):
    jobs, folder = all_jobs(), Path(fresh_project.settings.artifacts_path)

    for number in range(1, len(jobs)):
        run_those_that_can(fresh_project, jobs[:number])
        shutil.rmtree(folder, ignore_errors=True)
        refused = run_those_that_can(fresh_project, jobs[number:])
        assert all("qarm " in said for said in refused.values()), refused
        assert run_those_that_can(fresh_project, jobs) == {}  # a whole run mends it

        for version in fresh_project.artifacts("codebooks").versions():
            codebooks = fresh_project.artifacts("codebooks").get(version)
            assert wrong_codes(fresh_project, codebooks) == [], (jobs[number].name, version)
        rows = fresh_project.warehouse.read(ITEM_SEMANTIC_IDS)
        assert rows.count() == rows.select("item_id", "codebook_version").distinct().count()
        per_number = rows.groupBy("codebook_version").agg(F.count_distinct("codebook_fingerprint").alias("origins"))
        assert per_number.where("origins != 1").isEmpty()
