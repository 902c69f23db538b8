"""``qarm init`` writes a project that loads without a change."""

import yaml

from qarm_features.cli.new_project import write_project
from qarm_features.settings.load import Settings, load_settings


def test_the_written_settings_load_and_are_the_defaults(tmp_path):
    write_project(tmp_path)

    settings = load_settings(tmp_path / "qarm.yaml")

    for name in ("encoder", "codebooks", "behavior", "publishing", "ranking", "spark", "seed"):
        assert getattr(settings, name) == Settings.model_fields[name].default


def test_a_new_project_aligns_by_what_cost_few_click_targets_nothing_and_says_that_the_default_differs(tmp_path):
    write_project(tmp_path)

    alignment = load_settings(tmp_path / "qarm.yaml").alignment
    line = next(line for line in (tmp_path / "qarm.yaml").read_text().splitlines() if "uniform_negatives" in line)

    assert (alignment.popularity_correction, alignment.uniform_negatives) == (False, 2048)
    default = Settings.model_fields["alignment"].default
    changed = {"popularity_correction": True, "uniform_negatives": None}
    assert alignment.model_copy(update=changed) == default
    assert line.endswith("because it cost few-click targets nothing; the default stays for those that exist.")


def test_a_project_is_named_after_its_folder_and_its_registry_lies_beside_the_file(tmp_path):
    write_project(tmp_path / "My shop-2")

    for name in ("feature_store.yaml", "feature_store.production.yaml"):
        text = (tmp_path / "My shop-2" / "feature_repo" / name).read_text()
        assert yaml.safe_load(text)["project"] == "my_shop_2"
        assert str(tmp_path) not in text


def test_files_that_are_there_already_are_left_alone(tmp_path):
    (tmp_path / "qarm.yaml").write_text("mine")

    written = write_project(tmp_path)

    assert (tmp_path / "qarm.yaml").read_text() == "mine"
    assert [path.name for path in written] == [
        "feature_definitions.py",
        "feature_store.production.yaml",
        "feature_store.yaml",
    ]
