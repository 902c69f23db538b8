"""The fusion of a ranking model starts from the Fusion-Q-Former of an encoder version."""

import json
import shutil

import numpy as np
import pytest
import torch

from qarm_features.encoders.item_encoder import ItemEncoder
from qarm_features.ranking import RankingModel
from qarm_features.ranking.train.fusion_start import start_fusion_from
from qarm_features.storage.artifacts import ArtifactError, Artifacts
from tests.ranking.ranking_rows import CONFIG

SIZES = {"num_queries": 2, "dim": 8, "num_layers": 1, "num_heads": 2}
FUSION = {"use_fusion": True, "token_dims": {"precomputed": 4}, "content_dim": 8, "num_queries": 2, "num_heads": 2}


def encoder(**sizes) -> ItemEncoder:
    torch.manual_seed(1)
    built = ItemEncoder({"precomputed": {"dim": 4}}, q_former=SIZES | sizes)
    torch.nn.init.normal_(built.q_former.head.weight)
    return built


@pytest.fixture
def version(tmp_path):
    """Returns a published encoder version."""
    return Artifacts(tmp_path, "encoders").publish(lambda folder: encoder().save_pretrained(folder))


def test_the_fusion_embeds_as_the_encoder_did_and_its_origin_is_known(version):
    model = RankingModel(**CONFIG | FUSION)

    origin = start_fusion_from(model, version.path)

    vectors = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    embeddings = encoder().eval().encode({"precomputed": vectors.tolist()}).embeddings
    tokens = {"precomputed": (torch.from_numpy(vectors).unsqueeze(1), torch.ones(5, 1, dtype=torch.bool))}
    torch.testing.assert_close(model.items.fusion.q_former(tokens).pooled.detach(), embeddings)
    assert origin == {"encoder_version": 0, "encoder_fingerprint": version.fingerprint}


def test_an_encoder_that_no_job_published_has_no_version(tmp_path):
    encoder().save_pretrained(tmp_path)

    origin = start_fusion_from(RankingModel(**CONFIG | FUSION), tmp_path)

    assert origin == {"encoder_version": None, "encoder_fingerprint": None}


@pytest.mark.parametrize(("changes", "message"), [
    ({"content_dim": 16}, r"has content_dim 8 \(the model has 16\). Give the ranking model the sizes of the encoder"),
    ({"num_queries": 3}, r"has num_queries 2 \(the model has 3\)"),
    ({"num_heads": 4}, r"has num_heads 2 \(the model has 4\)"),
    ({"fusion_layers": 2}, r"has fusion_layers 1 \(the model has 2\)"),
    ({"flatten_queries": True}, r"has flatten_queries False \(the model has True\)"),
    ({"token_dims": {"precomputed": 5}}, r"has token_dims {'precomputed': 4} \(the model has {'precomputed': 5}\)"),
])  # fmt: skip
def test_other_sizes_are_refused(version, changes, message):
    with pytest.raises(ValueError, match=message):
        start_fusion_from(RankingModel(**CONFIG | FUSION | changes), version.path)


def test_what_is_no_encoder_with_a_q_former_is_refused(version, tmp_path):
    model = RankingModel(**CONFIG | FUSION)
    with pytest.raises(ValueError, match="holds no encoder. Name the folder of an encoder version"):
        start_fusion_from(model, tmp_path / "absent")
    with pytest.raises(
        ValueError, match="The model has no fusion that could start from an encoder. Set use_fusion=True"
    ):
        start_fusion_from(RankingModel(**CONFIG), version.path)
    ItemEncoder({"precomputed": {"dim": 4}}).save_pretrained(tmp_path / "frozen")
    with pytest.raises(ValueError, match="has no Fusion-Q-Former. Align one first. Run: qarm align-encoder"):
        start_fusion_from(model, tmp_path / "frozen")


def test_a_version_whose_files_were_changed_is_refused(version, tmp_path):
    other = tmp_path / "copy"
    shutil.copytree(version.path, other)
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"changed": 1}))

    with pytest.raises(ArtifactError, match="config.json is missing or differs from its manifest"):
        start_fusion_from(RankingModel(**CONFIG | FUSION), other)
