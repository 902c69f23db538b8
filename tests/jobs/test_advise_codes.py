"""``qarm advise-codes`` reads the embeddings and the log of the toy project and writes nothing."""

from __future__ import annotations

import json

import pytest
import yaml

from qarm_features.jobs.advise_codes import advise_codes
from qarm_features.jobs.ingest_catalog import ingest_catalog
from qarm_features.settings.codes import Codebooks
from tests.toy_catalog import add_clustered_embeddings, open_project, write_toy_project


@pytest.fixture(scope="module")
def project(tmp_path_factory, spark):
    context = open_project(write_toy_project(tmp_path_factory.mktemp("advised")), spark)
    ingest_catalog(context)
    return context


def test_a_catalog_that_is_too_small_is_told_so(project):
    add_clustered_embeddings(project, range(64))

    with pytest.raises(ValueError, match="The sample has 64 items with an embedding, must have at least 80"):
        advise_codes(project)


def test_the_advice_is_printed_as_text_and_as_json(project, monkeypatch, capsys):
    monkeypatch.setattr("qarm_features.evaluation.size_advice.FEWEST_ITEMS", 64)
    before = sorted(str(path) for path in project.settings.artifacts_path.rglob("*") if "log" not in str(path))

    counts = advise_codes(project)
    text = capsys.readouterr().out
    advise_codes(project, as_json=True)
    values = json.loads(capsys.readouterr().out)

    assert counts.rows_in == values["items"] == 64
    assert values["levels"][0]["size"] == 4  # the four themes
    assert values["pairs"] > 0
    assert Codebooks(**yaml.safe_load(values["yaml"])["codebooks"]).num_levels == len(values["levels"])
    assert text.rstrip().endswith(values["yaml"].splitlines()[-1])
    assert "CAUTION: The sample has 64 items, fewer than 1,000" in text
    assert sorted(str(path) for path in project.settings.artifacts_path.rglob("*") if "log" not in str(path)) == before
