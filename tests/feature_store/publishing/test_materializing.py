"""Feast refuses reads of a view that is being loaded, unless the registry is told to go on serving: new projects say so."""

from __future__ import annotations

import pytest
import yaml
from feast import FeatureStore
from feast.feature_view import FeatureViewState

from qarm_features.feature_store.publishing.releases import publish_release
from tests.feature_store.two_versions import release, write_two_versions


@pytest.mark.slow
def test_a_view_that_another_process_loads_is_served_by_the_settings_of_a_new_project(spark, tmp_path, monkeypatch):
    settings = write_two_versions(tmp_path / "project", spark).settings
    publish_release(spark, settings, release(0))
    repo, ask = (
        settings.feature_repo_path,
        {"features": ["user_behavior:behavior_item_ids"], "entity_rows": [{"user_id": 7}]},
    )
    monkeypatch.chdir(repo)  # where stock Feast finds the registry
    store = FeatureStore(str(repo))
    view = store.get_feature_view("user_behavior")
    view.state = FeatureViewState.MATERIALIZING  # as `feast materialize` of another process sets it
    view.description = "changed"  # or else Feast 0.67 does not store the state: it compares views without their states
    store.registry.apply_feature_view(view, store.project, commit=True)

    served = FeatureStore(str(repo)).get_online_features(**ask).to_dict()

    assert served["behavior_item_ids"] == [[1, 3]]
    file = repo / "feature_store.yaml"
    config = yaml.safe_load(file.read_text())
    del config["registry"]["serve_features_while_materializing"]
    file.write_text(yaml.safe_dump(config))
    with pytest.raises(ValueError, match="is in state 'MATERIALIZING' and cannot serve features"):
        FeatureStore(str(repo)).get_online_features(**ask)
