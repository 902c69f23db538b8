"""Settings are read from the file, variables and flags, and an error names a setting as the user typed it."""

import pytest

from qarm_features.quantizers import ResidualKMeans
from qarm_features.settings.load import Settings, SettingsError, load_settings
from qarm_features.storage.artifacts import Artifacts

MINIMAL = "items: {path: items.parquet}\ninteractions: {path: clicks.csv}\n"


@pytest.fixture
def config(tmp_path):
    def write(text):
        (tmp_path / "qarm.yaml").write_text(text)
        return tmp_path / "qarm.yaml"

    return write


def test_a_flag_wins_over_a_variable_and_a_variable_over_the_file(config, monkeypatch):
    path = config(MINIMAL + "seed: 1\ncodebooks: {num_levels: 2, codebook_size: 8}\n")
    monkeypatch.setenv("QARM_CODEBOOKS__NUM_LEVELS", "4")
    monkeypatch.setenv("QARM_SEED", "2")

    settings = load_settings(path, seed=3)

    assert (settings.seed, settings.codebooks.num_levels, settings.codebooks.codebook_size) == (3, 4, 8)


def test_relative_paths_count_from_the_folder_of_the_file(config):
    settings = load_settings(config(MINIMAL + "artifacts: /elsewhere\nwarehouse: s3a://bucket/qarm\n"))

    assert settings.path(settings.items.path) == str(settings.feature_repo_path.parent / "items.parquet")
    assert str(settings.artifacts_path) == "/elsewhere"
    assert settings.warehouse_path == "s3a://bucket/qarm"


def test_a_section_whose_lines_are_all_commented_out_has_its_defaults(config):
    assert load_settings(config(MINIMAL + "codebooks:\n  # num_levels: 4\n")).codebooks.num_levels == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (MINIMAL + "codebooks: {num_level: 2}", r"codebooks.num_level in .* is not a setting. Did you mean num_levels\?"),
        ("items: {path: a.csv}", "interactions in .* is missing, must be set."),
        (MINIMAL + "codebooks: {num_levels: 0}", "codebooks.num_levels is 0: .*or equal to 1.* QARM_CODEBOOKS__NUM_LEVELS"),
        ("items: {path: a.csv, table: b}\ninteractions: {path: a.csv}", "exactly one of path and table must be set"),
        ("items: {path: a.bin}\ninteractions: {path: a.csv}", "and the suffix of a.bin does not tell it: set parquet, delta"),
        (MINIMAL + "ranking: {valid_from: 2002-04-01}", "valid_from and test_from must be set together"),
        (MINIMAL + "ranking: {valid_from: 2002-04-02, test_from: 2002-04-01}", "valid_from is 2002-04-02 .*, must be before"),
        (MINIMAL + "ranking: {valid_from: 2002-04-01, test_from: 2002-04-02, test_share: 0.2}",
         "valid_share and test_share must not be set beside valid_from and test_from"),
    ],
)  # fmt: skip
def test_a_wrong_setting_is_named(config, text, message):
    with pytest.raises(SettingsError, match=message):
        load_settings(config(text))


def test_an_error_of_a_section_has_no_words_of_the_library(config):
    with pytest.raises(SettingsError, match="items is {.*}: exactly one of path and table must be set. Change it in"):
        load_settings(config("items: {}\ninteractions: {path: a.csv}"))


def test_a_missing_file_says_what_to_run(tmp_path):
    with pytest.raises(SettingsError, match="--config is .*, must be an existing file. Run: qarm init DIR"):
        load_settings(tmp_path / "qarm.yaml")


def test_every_setting_has_a_description():
    def undescribed(model):
        for name, field in model.model_fields.items():
            kind = field.annotation
            if isinstance(kind, type) and hasattr(kind, "model_fields"):
                yield from undescribed(kind)
            elif not field.description:
                yield name

    assert list(undescribed(Settings)) == []


def test_the_options_of_codebooks_are_params_of_residual_k_means(config):
    settings = load_settings(
        config(MINIMAL + "codebooks: {init_mode: random, warmup_iter: 2, max_load: 3, capacity: 1.5}\n")
    )

    estimator = ResidualKMeans(**settings.codebooks.options())

    found = {param.name: value for param, value in estimator.extractParamMap().items()}
    names = ("initMode", "warmupIter", "maxLoad", "capacity", "numLevels")
    assert [found[name] for name in names] == ["random", 2, 3.0, 1.5, 3]


def test_codebooks_of_a_manifest_without_later_options_are_found_under_their_defaults(config, tmp_path):
    codebooks = load_settings(config(MINIMAL)).codebooks.model_dump()
    versions = Artifacts(tmp_path, "codebooks")
    versions.publish(lambda folder: None, num_levels=3, codebook_size=256, max_iter=20, tol=1e-4)

    assert versions.find(**codebooks).version == 0
    assert versions.find(**codebooks | {"init_mode": "random"}) is None


@pytest.mark.parametrize(
    ("users", "message"),
    [
        (
            "{path: u.parquet, vector: v}",
            "publishing.user_embeddings.vector in .* is not a setting. Known settings: path",
        ),
        ("{path: u.csv}", "publishing.user_embeddings .* format is csv, must be parquet, delta or jsonl"),
        ("{}", "publishing.user_embeddings .* exactly one of path and table must be set"),
    ],
)
def test_embeddings_of_users_are_checked_like_any_source(config, users, message):
    with pytest.raises(SettingsError, match=message):
        load_settings(config(MINIMAL + f"publishing: {{user_embeddings: {users}}}\n"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"items: [", "qarm.yaml is not valid YAML"),
        (b"\xff\xfe\x00", "qarm.yaml cannot be read as text in UTF-8"),
        (b"a: \x1b", "qarm.yaml is not valid YAML"),
        (b"just text", "qarm.yaml holds no settings, must hold lines such as seed: 0"),
        (b"[1, 2]", "qarm.yaml holds no settings"),
    ],
)
def test_a_file_that_holds_no_settings_is_refused_by_its_name(tmp_path, content, message):
    (tmp_path / "qarm.yaml").write_bytes(content)

    with pytest.raises(SettingsError, match=message):
        load_settings(tmp_path / "qarm.yaml")


def test_folders_stand_beside_a_file_of_settings_that_is_a_link_as_in_a_container(tmp_path):
    kept, container = tmp_path / "filecache" / "30", tmp_path / "container"
    for folder in (kept, container):
        folder.mkdir(parents=True)
    (kept / "qarm.yaml").write_text("items: {path: items.parquet}\ninteractions: {path: clicks.parquet}\n")
    (container / "qarm.yaml").symlink_to(kept / "qarm.yaml")

    settings = load_settings(container / "qarm.yaml")

    assert settings.feature_repo_path == container.resolve() / "feature_repo"
