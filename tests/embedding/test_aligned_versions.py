"""An aligned encoder is found by the settings of its alignment, also after others were tried."""

from __future__ import annotations

import pytest

from qarm_features.embedding.encoder_versions import (
    alignment_fingerprint,
    current_encoder,
    encoder_fingerprint,
    item_encoder_config,
)
from qarm_features.settings.load import load_settings
from qarm_features.storage.artifacts import Artifacts

PROJECT = """\
items: {path: a.parquet, precomputed: v, precomputed_dim: 2}
interactions: {path: b.parquet}
encoder: {align: true}
"""


@pytest.fixture
def encoders(tmp_path):
    return Artifacts(tmp_path / "artifacts", "encoders")


def settings_with(tmp_path, more: str):
    (tmp_path / "qarm.yaml").write_text(PROJECT + more)
    return load_settings(tmp_path / "qarm.yaml")


def publish(encoders, settings, **manifest) -> None:
    """Publishes an aligned version as align-encoder and export-encoder do, without weights."""
    config = item_encoder_config(settings.items, settings.encoder, aligned=True)
    if not manifest:
        manifest["alignment"] = alignment_fingerprint(config, settings.alignment, settings.seed)
    made_from = encoder_fingerprint(config)
    encoders.publish(lambda folder: (folder / "empty").touch(), made_from=made_from, aligned=True, **manifest)


@pytest.mark.parametrize("changed", ["alignment: {epochs: 3}\n", "seed: 1\n", "alignment: {uniform_negatives: 8}\n"])
def test_settings_that_are_taken_back_find_their_own_encoder(tmp_path, encoders, caplog, changed):
    publish(encoders, settings_with(tmp_path, ""))
    publish(encoders, settings_with(tmp_path, changed))

    found = [current_encoder(encoders, settings_with(tmp_path, more)).version for more in (changed, "")]

    assert found == [1, 0]
    assert not caplog.records


def test_what_only_changes_the_speed_finds_the_same_encoder(tmp_path, encoders, caplog):
    publish(encoders, settings_with(tmp_path, ""))

    assert current_encoder(encoders, settings_with(tmp_path, "alignment: {num_processes: 2}\n")).version == 0
    assert not caplog.records


def test_an_encoder_of_other_settings_is_used_with_a_warning_until_one_is_aligned(tmp_path, encoders, caplog):
    publish(encoders, settings_with(tmp_path, ""))
    publish(encoders, settings_with(tmp_path, "seed: 1\n"))

    found = current_encoder(encoders, settings_with(tmp_path, "seed: 2\n"))

    assert found.version == 1
    (record,) = caplog.records
    assert record.getMessage().startswith(
        "WARNING: no encoder was aligned with the present settings alignment and seed. Encoder v1 is used, which was aligned"
    )


def test_an_encoder_that_a_ranking_model_was_exported_to_follows_the_alignment_before_it(tmp_path, encoders):
    first, second = settings_with(tmp_path, ""), settings_with(tmp_path, "seed: 1\n")
    publish(encoders, first)
    publish(encoders, first, exported=True)
    publish(encoders, second)
    publish(encoders, second, exported=True)

    assert [current_encoder(encoders, settings).version for settings in (first, second)] == [1, 3]
    publish(encoders, first)  # aligned again
    assert current_encoder(encoders, first).version == 4
