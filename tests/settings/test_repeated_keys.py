"""A setting that stands twice is refused, because YAML would silently take the last one."""

import pytest

from qarm_features.settings.load import SettingsError, load_settings


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ("seed: 1\n", r"seed stands twice in \S*qarm.yaml, at lines 1 and "),
        ("nearest_items:\n  k: 3\n  k: 4\n", "nearest_items.k stands twice"),
        ("nearest_items: {k: 3, k: 4}\n", "nearest_items.k stands twice"),
        ("codebooks: {num_levels: 3}\n", "codebooks stands twice"),
    ],
)
def test_a_setting_that_stands_twice_is_refused(settings, more, says):
    config = settings.feature_repo_path.parent / "qarm.yaml"
    config.write_text(config.read_text() + more)

    with pytest.raises(SettingsError, match=says):
        load_settings(config)


def test_the_same_name_in_two_sections_is_no_repetition(settings):
    config = settings.feature_repo_path.parent / "qarm.yaml"
    config.write_text(config.read_text() + "alignment: {epochs: 1}\n")

    assert load_settings(config).alignment.epochs == 1
