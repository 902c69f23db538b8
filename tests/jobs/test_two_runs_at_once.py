"""Two of one job at once, on two machines that no lock joins: every row is written once, as by one of them alone."""

from __future__ import annotations

import pytest

from qarm_features.jobs.assign_semantic_ids import assign_semantic_ids
from qarm_features.jobs.context import JobContext
from qarm_features.jobs.embed_items import embed_items
from qarm_features.jobs.find_nearest_items import find_nearest_items
from qarm_features.jobs.fit_codebooks import fit_codebooks
from qarm_features.jobs.ingest_catalog import ingest_catalog
from qarm_features.jobs.write_content_tokens import write_content_tokens
from qarm_features.storage.tables import ITEM_CONTENT_TOKENS, ITEM_EMBEDDINGS, ITEM_NEAREST_ITEMS, ITEM_SEMANTIC_IDS
from tests.storage.test_conditional_writes import at_once, contents, meeting
from tests.toy_catalog import add_clustered_embeddings


def two_of(job, project: JobContext) -> list[BaseException]:
    """Runs a job in two contexts with a Spark session each, at the same time."""
    contexts = [JobContext(project.settings), JobContext(project.settings)]
    for context in contexts:
        context.spark = project.spark.newSession()
    return at_once(*[lambda context=context: job.function(context) for context in contexts])


@pytest.mark.timeout(300)
@pytest.mark.slow
def test_two_assignments_and_two_searches_at_once_write_each_item_once(fresh_project, monkeypatch):
    ingest_catalog(fresh_project)
    add_clustered_embeddings(fresh_project, range(64))
    fit_codebooks(fresh_project)
    for job, table in ((assign_semantic_ids, ITEM_SEMANTIC_IDS), (find_nearest_items, ITEM_NEAREST_ITEMS)):
        job(fresh_project)  # so that both searches read one bank, and both writers find a table
        written = fresh_project.warehouse.read(table)
        fresh_project.warehouse.overwrite(table, written.where("item_id < 8"))
        with monkeypatch.context() as patched:
            meeting(patched, "append")
            raised = two_of(job, fresh_project)

        ids = fresh_project.warehouse.arrow(table).to_table(["item_id"]).to_pydict()["item_id"]
        assert (raised, sorted(ids)) == ([], list(range(64)))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_of_each_job_that_encodes_items_write_each_item_once(fresh_project, monkeypatch):
    ingest_catalog(fresh_project)
    for job, table in ((embed_items, ITEM_EMBEDDINGS), (write_content_tokens, ITEM_CONTENT_TOKENS)):
        with monkeypatch.context() as patched:
            meeting(patched, "_upsert")
            raised = two_of(job, fresh_project)

        assert raised == []
        assert len(contents(fresh_project.warehouse, table)) == 64
