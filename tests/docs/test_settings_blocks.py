"""Every YAML block of the documentation is a part of a `qarm.yaml`, or of a `feature_store.yaml`, that is accepted."""

from __future__ import annotations

import pytest
import yaml

from qarm_features.settings.load import Settings, load_settings
from tests.docs.blocks import blocks

YAML = blocks("yaml")
_OF_A_STORE = {"project", "provider", "registry", "online_store", "offline_store", "batch_engine", "materialization"}
_LEAST = {
    "items": {"path": "catalog/items.parquet"},
    "interactions": {"path": "catalog/interactions.parquet"},
}


@pytest.mark.parametrize("block", YAML, ids=lambda block: block.place)
def test_every_yaml_block_is_accepted(block, tmp_path, monkeypatch):
    for name in ("S3_KEY", "S3_SECRET"):
        monkeypatch.setenv(name, "from-the-environment")
    content = yaml.safe_load(block.code)

    if set(content) <= _OF_A_STORE:
        assert all(isinstance(section, (dict, str)) for section in content.values())
        return
    assert set(content) <= set(Settings.model_fields)
    whole = dict(content)
    for section, least in _LEAST.items():
        shown = content.get(section, {})
        whole[section] = shown if {"path", "table"} & set(shown) else {**least, **shown}
    (tmp_path / "qarm.yaml").write_text(yaml.safe_dump(whole, sort_keys=False))

    load_settings(tmp_path / "qarm.yaml")
