"""Each variant in the settings is trained once, and missing inputs are an error before any training."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch
from deltalake import write_deltalake
from safetensors.torch import load_file, save_file

from qarm_features.feature_store.views.feature_views import Release
from qarm_features.fusion.q_former import FusionQFormer
from qarm_features.ranking import RankingModel, Scorer, TrainingOptions, train_ranking_models
from qarm_features.settings.load import load_settings
from qarm_features.storage.artifacts import Artifacts
from qarm_features.storage.tables import ITEM_EMBEDDINGS, ITEM_NEAREST_ITEMS, TRAINING_ROWS
from qarm_features.storage.warehouse import Warehouse
from qarm_features.training.variants_of_a_release import said, train_variants
from tests.planted_rows import write_planted_features, write_planted_rows
from tests.toy_catalog import write_toy_project

RELEASE = Release(0, encoder_version=1, num_levels=2, codebook_size=8, delta_version=0, rows=400)
MINE = {"use_semantic_ids": False, "use_frozen_vector": True, "use_nearest_items": True, "content_dim": 4}
FUSION = {"use_fusion": True, "content_dim": 4, "num_heads": 2}


@pytest.fixture
def train(tmp_path):
    """Return a function that trains variants on the rows of a project and returns models and the number of each launch."""
    write_toy_project(tmp_path)
    launched = []

    def run(models, **shared):
        launched.append(len(models))
        return train_ranking_models(models, **shared)

    def trained(variants, **options):
        ranking = {"variants": variants, "epochs": 1, "batch_size": 256, "learning_rate": 0.01, **options}
        settings = load_settings(tmp_path / "qarm.yaml", ranking=ranking)
        models = train_variants(
            Warehouse(settings.warehouse_path, **settings.id_types),
            RELEASE,
            artifacts=settings.artifacts_path,
            ranking=settings.ranking,
            behavior_length=settings.behavior.max_length,
            seed=0,
            run=run,
        )
        return models, launched

    first = {"train": 0, "valid": 1000, "test": 1000}
    parts = [write_planted_rows(tmp_path / f"{split}.parquet", seed=0, first_item=first[split]) for split in first]
    rows = [_with(pq.read_table(part), split=split, codebook_version=0) for part, split in zip(parts, first)]
    write_deltalake(
        str(tmp_path / "data" / TRAINING_ROWS.name), pa.concat_tables(rows), partition_by=["codebook_version", "split"]
    )
    trained.folder, trained.rows = tmp_path, parts[0]
    return trained


@pytest.fixture
def encoder(train):
    """Return the encoder of the release, with the sizes of the variant ``FUSION``, before anything else names its version."""
    torch.manual_seed(5)
    arguments = {"num_queries": 4, "dim": 4, "num_layers": 1, "num_heads": 2}
    weights = FusionQFormer({"text": 3}, **arguments).state_dict()

    def save(folder):
        save_file({f"q_former.{name}": weight for name, weight in weights.items()}, folder / "model.safetensors")
        (folder / "config.json").write_text(json.dumps({"q_former": arguments}))

    encoders = Artifacts(train.folder / "artifacts", "encoders")
    encoders.publish(save)
    return encoders.publish(save)  # the release names v1


@pytest.fixture
def with_items(train):
    """Return the same for a project with embeddings, VQ codes and content tokens of the items."""
    features = write_planted_features(train.folder / "items", [train.rows]).parent
    tables = {ITEM_EMBEDDINGS: ("embeddings", "encoder_version", 1), ITEM_NEAREST_ITEMS: ("nearest", "bank_version", 0)}
    for table, (file, partition, version) in tables.items():
        rows = _with(pq.read_table(features / f"{file}.parquet"), **{partition: version})
        write_deltalake(str(train.folder / "data" / table.name), rows, partition_by=[partition])
    artifacts = train.folder / "artifacts"
    Artifacts(artifacts, "banks").publish(lambda folder: None, encoder_version=1)
    Artifacts(artifacts, "item_content").publish(
        lambda folder: [
            (folder / file.name).write_bytes(file.read_bytes()) for file in (features / "content").iterdir()
        ]
    )
    return train


def _with(rows, **columns):
    for name, value in columns.items():
        rows = rows.append_column(name, pa.array([value] * rows.num_rows))
    return rows.set_column(0, rows.column_names[0], pc.cast(rows.column(0), pa.int64()))


def test_a_variant_is_trained_once_and_another_beside_it_later(train):
    first, _ = train(["item IDs"])

    both, launched = train(["item IDs", "item IDs + semantic IDs"])
    again, _ = train(["item IDs", "item IDs + semantic IDs"])

    assert launched == [1, 1]
    assert [model.version for model in both] == [model.version for model in again] == [0, 1]
    assert first[0].manifest == both[0].manifest
    assert "item_features_version" not in both[0].manifest


def test_what_variants_read_of_items_is_laid_out_once_and_their_models_serve(with_items):
    models, launched = with_items({"item IDs": None, "mine": MINE, "fusion": FUSION})

    assert launched == [3]
    assert [model.manifest.get("item_features_version") for model in models] == [None, 0, 0]
    assert [model.manifest.get("item_content_version") for model in models] == [None, None, 0]
    assert Artifacts(with_items.folder / "artifacts", "item_features").versions() == [0]
    for model in models[1:]:
        scorer = Scorer.open(model.verify().path)
        assert (scorer.vocabulary.num_known, len(scorer.vocabulary)) == (200, 400)


def test_a_fusion_starts_from_the_encoder_of_the_release_and_its_model_names_it(encoder, with_items):
    weights = load_file(encoder.path / "model.safetensors")

    (random,), _ = with_items({"fusion": FUSION}, learning_rate=1e-9, weight_decay=0.0)
    (aligned,), launched = with_items(
        {"fusion": FUSION}, learning_rate=1e-9, weight_decay=0.0, fusion_start="aligned", warm_up_steps=2
    )

    assert launched == [1, 1]
    assert "fusion_encoder_version" not in random.manifest
    assert aligned.manifest["fusion_encoder_version"] == 1
    assert aligned.manifest["fusion_encoder_fingerprint"] == encoder.fingerprint
    assert aligned.manifest["metrics"]["fusion_from"]["encoder_fingerprint"] == encoder.fingerprint
    trained = RankingModel.from_pretrained(str(aligned.path)).items.fusion.q_former.state_dict()
    for name, weight in weights.items():
        torch.testing.assert_close(trained[name.removeprefix("q_former.")], weight, atol=1e-5, rtol=0)


def test_options_that_did_not_exist_before_do_not_train_models_of_before_again():
    before = (
        "TrainingOptions(epochs=10, batch_size=1024, learning_rate=0.002, weight_decay=0.01, patience=2, stop_metric='auc', "
        "seed=0, behavior_length=50, max_items=None, shuffle_rows=65536, num_workers=0, num_threads=2, use_gpu=True, "
        "impression_length=None)"
    )

    assert said(TrainingOptions()) == before
    assert said(TrainingOptions(warm_up_steps=3)) == before[:-1] + ", warm_up_steps=3)"


@pytest.mark.parametrize(("variant", "message"), [
    ("+frozen vector", 'variant "[+]frozen vector" of ranking.variants reads item embeddings of .* Run: qarm embed-items'),
    ("+nearest items", '"[+]nearest items" .* reads VQ codes of encoder version 1, which .* Run: qarm find-nearest-items'),
    ("+EM3", '"[+]EM3" .* reads content tokens, which do not exist yet. Run: qarm write-content-tokens'),
    ("+magic", 'ranking.variants names "[+]magic", must be of item IDs, '),
])  # fmt: skip
def test_what_a_variant_lacks_is_said_before_anything_is_trained(train, variant, message):
    with pytest.raises(ValueError, match=message):
        train(["item IDs", variant])

    assert not (train.folder / "artifacts" / "ranking_models").exists()


def test_a_ranking_input_that_is_not_installed_is_said_before_anything_is_trained(train):
    with pytest.raises(
        ValueError, match='inputs names "absent", must be one of .* For the command line, install it with'
    ):
        train({"item IDs": None, "mine": {"inputs": {"absent": {}}}})

    assert not (train.folder / "artifacts" / "ranking_models").exists()
