"""Each job alone, with no table and no artifact, or with tables of 0 rows: it does nothing wrong, or says why not."""

from __future__ import annotations

import shutil
from importlib import import_module

import pandas as pd
import pytest

from qarm_features.cli.job_lists import JOBS, OTHER_JOBS
from qarm_features.jobs.failures import needs_traceback, one_line
from qarm_features.storage.tables import ITEM_SEMANTIC_IDS, TABLES, TRAINING_ROWS
from tests.toy_catalog import open_project, write_toy_project


@pytest.fixture(scope="module")
def only_empty_tables(tmp_path_factory, spark):
    """A project whose catalog, click log and tables have 0 rows."""
    folder = write_toy_project(tmp_path_factory.mktemp("empty"))
    for name in ("items", "interactions"):
        path = folder / "catalog" / f"{name}.parquet"
        pd.read_parquet(path).head(0).to_parquet(path, index=False)
    warehouse = open_project(folder, spark).warehouse
    for table in TABLES:
        warehouse.overwrite(table, warehouse.empty(table))
    return folder


@pytest.fixture
def no_tables(tmp_path):
    return write_toy_project(tmp_path)


@pytest.fixture
def empty_tables(tmp_path, only_empty_tables):
    return shutil.copytree(only_empty_tables, tmp_path / "copy")


@pytest.mark.slow
@pytest.mark.parametrize("state", ["no_tables", "empty_tables"])
@pytest.mark.parametrize("name", JOBS + OTHER_JOBS)
def test_a_job_alone_ends_rightly_or_in_one_line_of_our_own(name, state, request, spark, tmp_path):
    context = open_project(request.getfixturevalue(state), spark)
    job = getattr(import_module(f"qarm_features.jobs.{name}"), name)
    flags = {"output": str(tmp_path / "exported")} if name == "export_semantic_ids" else {}

    said = ""
    try:
        counts = job(context, **flags)
    except Exception as error:
        said = one_line(error)
        assert not needs_traceback(error), said
        assert len(said) > 20

    if not said:
        assert counts.rows_in == counts.rows_out + counts.rows_rejected
    if state == "empty_tables":
        for table in (ITEM_SEMANTIC_IDS, TRAINING_ROWS):
            assert context.warehouse.read(table).count() == 0
        assert context.artifacts("codebooks").versions() == context.artifacts("ranking_models").versions() == []
    print(f"{name} {state}: {said or counts}")
