"""Stock Feast reads a published release in a process that imports none of our code."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from qarm_features.storage.tables import ITEM_SEMANTIC_IDS

FEAST = str(Path(sys.executable).with_name("feast"))


@pytest.mark.slow
def test_the_feast_command_line_lists_the_views_and_the_service_and_reads_codes(project):
    def feast(*arguments):
        repo = project.settings.feature_repo_path
        done = subprocess.run([FEAST, *arguments], cwd=repo, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    codes = project.warehouse.read(ITEM_SEMANTIC_IDS).where("item_id = 5").first()["rq_codes"]

    read = feast("get-online-features", "-e", "item_id=5", "-f", "item_semantic_id__cb0:rq_codes")

    assert json.loads(read) == {"item_id": [5], "rq_codes": [codes]}
    assert "item_semantic_id__cb0" in feast("feature-views", "list")
    assert "item_semantic_id" in feast("feature-services", "list")


def test_get_online_features_serves_the_service_without_importing_us(project):
    code = (
        "import sys, json; from feast import FeatureStore\n"
        f"store = FeatureStore(repo_path={str(project.settings.feature_repo_path)!r})\n"
        "service = store.get_feature_service('item_semantic_id')\n"
        "rows = store.get_online_features(service, [{'item_id': 5}, {'item_id': 999}]).to_dict()\n"
        "assert not [name for name in sys.modules if name.startswith(('qarm', 'spark_jobs'))]\n"
        "print(json.dumps(rows))"
    )
    repo = project.settings.feature_repo_path  # The default registry is a file beside feature_store.yaml.
    done = subprocess.run([sys.executable, "-c", code], cwd=repo, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

    codes = project.warehouse.read(ITEM_SEMANTIC_IDS).where("item_id = 5").first()["rq_codes"]
    assert json.loads(done.stdout.splitlines()[-1]) == {
        "item_id": [5, 999],
        "rq_codes": [codes, None],
        "codebook_version": [0, None],
    }
