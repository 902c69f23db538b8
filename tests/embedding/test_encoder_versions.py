"""Prompt, pooling and layers belong to the encoder version: where one of them changes, items are embedded again."""

import json

import pytest
import torch
from transformers import AutoModel

from qarm_features import ItemEncoder
from qarm_features.embedding.encoder_versions import current_encoder, item_encoder_config
from qarm_features.jobs.context import JobContext
from qarm_features.settings.load import load_settings
from tests.encoders import published_backbones as shapes
from tests.encoders.published_backbones import dense, published, write

E5 = {"query": "query: ", "passage": "passage: "}


@pytest.fixture
def folder(tmp_path):
    return published(tmp_path / "tiny", shapes.bert, "mean", dense(8), prompts=E5)


def version(tmp_path, folder, more=""):
    (tmp_path / "qarm.yaml").write_text(
        "items: {path: items.parquet, text: [title]}\ninteractions: {path: log.parquet}\n"
        f"encoder: {{text_backbone: {folder}{more}}}\n"
    )
    context = JobContext(load_settings(tmp_path / "qarm.yaml"))
    return current_encoder(context.artifacts("encoders"), context.settings)


def test_a_changed_prompt_pooling_or_length_is_another_version(tmp_path, folder):
    settings = ["", ", text_prompt: query", ", text_prompt: 'the item: '", ", text_pooling: cls", ", text_dim: 4", ""]

    versions = [version(tmp_path, folder, more) for more in settings]

    assert [one.version for one in versions] == [0, 1, 2, 3, 4, 0]
    vectors = [ItemEncoder.from_pretrained(str(one.path)).encode({"text": ["red lamp"]}).embeddings for one in versions]
    assert [vector.shape[1] for vector in vectors] == [8, 8, 8, 8, 4, 8]
    assert len({tuple(vector[0, :4].tolist()) for vector in vectors}) == 5


def test_files_that_the_authors_change_make_another_version_and_leave_the_old_one_as_it_was(tmp_path, folder):
    first = version(tmp_path, folder)
    before = ItemEncoder.from_pretrained(str(first.path)).encode({"text": ["red lamp"]}).embeddings
    write(tmp_path / "tiny", "config_sentence_transformers.json", {"prompts": {"document": "the item: "}})

    second = version(tmp_path, folder)

    assert (first.version, second.version) == (0, 1)
    assert second.manifest["config"]["modalities"]["text"]["recipe"]["prompt"] == "the item: "
    assert torch.equal(ItemEncoder.from_pretrained(str(first.path)).encode({"text": ["red lamp"]}).embeddings, before)


def test_a_setting_wins_over_the_files_also_where_it_asks_for_the_plain_way(tmp_path):
    folder = published(tmp_path / "tiny", shapes.bert, "cls")

    found = version(tmp_path, folder, ", text_pooling: mean").path

    model = AutoModel.from_pretrained(folder).eval()
    with torch.no_grad():
        expected = model(torch.tensor([[2, 4, 6, 3]])).last_hidden_state.mean(1)
    vector = ItemEncoder.from_pretrained(str(found)).encode({"text": ["red lamp"]}).embeddings
    torch.testing.assert_close(vector, torch.nn.functional.normalize(expected), atol=1e-5, rtol=0)


def test_an_encoder_of_the_first_release_keeps_the_mean_of_all_tokens(tmp_path, folder):
    encoder = ItemEncoder({"text": {"backbone": published(tmp_path / "cls", shapes.bert, "cls")}})
    encoder.save_pretrained(tmp_path / "old")
    config = json.loads((tmp_path / "old" / "config.json").read_text())
    del config["modalities"]["text"]["recipe"]  # that release saved none
    write(tmp_path / "old", "config.json", config)

    old = ItemEncoder.from_pretrained(str(tmp_path / "old"))

    model = AutoModel.from_pretrained(str(tmp_path / "cls")).eval()
    with torch.no_grad():
        expected = model(torch.tensor([[2, 4, 6, 3]])).last_hidden_state.mean(1)
    found = old.encode({"text": ["red lamp"]}).embeddings
    torch.testing.assert_close(found, torch.nn.functional.normalize(expected), atol=1e-5, rtol=0)
    old.save_pretrained(tmp_path / "again")
    again = ItemEncoder.from_pretrained(str(tmp_path / "again"))
    assert torch.equal(again.encode({"text": ["red lamp"]}).embeddings, found)


def test_what_cannot_be_followed_is_refused_before_a_job_starts_work(tmp_path, folder):
    write(tmp_path / "tiny", "modules.json", [{"path": "", "type": "custom_st.Transformer"}])

    with pytest.raises(ValueError, match="encoder.text_backbone is .*, which needs code of its authors"):
        version(tmp_path, folder)


def test_without_texts_no_text_backbone_is_read(tmp_path):
    (tmp_path / "qarm.yaml").write_text(
        "items: {path: items.parquet, text: [], precomputed: v, precomputed_dim: 2}\n"
        "interactions: {path: log.parquet}\nencoder: {text_backbone: nowhere/e5-base}\n"
    )
    settings = load_settings(tmp_path / "qarm.yaml")

    assert list(item_encoder_config(settings.items, settings.encoder, aligned=False)["modalities"]) == ["precomputed"]
