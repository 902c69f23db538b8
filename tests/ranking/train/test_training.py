"""train_ranking_model: from Parquet files to a saved model, alone and in two processes."""

import json
import logging
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import torch.multiprocessing

from qarm_features.ranking import (
    ItemVocabulary,
    RankingModel,
    TrainingOptions,
    TrainingRows,
    train_ranking_model,
    train_ranking_models,
)
from tests.free_port import free_port
from tests.planted_rows import NUM_CODES, write_planted_rows

MODEL = {"num_levels": 2, "codebook_size": NUM_CODES, "codebook_version": 0, "item_dim": 8, "code_dim": 8}
OPTIONS = TrainingOptions(epochs=6, batch_size=64, learning_rate=1e-2, behavior_length=4, num_threads=1)


@pytest.fixture(scope="module")
def splits(tmp_path_factory) -> dict[str, list[str]]:
    """Train on items 0..199; valid and test hold items 1000..1199, which no model has seen."""
    folder = tmp_path_factory.mktemp("training_rows")
    return {
        "train_files": [
            write_planted_rows(folder / "train_0.parquet", seed=0, first_item=0),
            write_planted_rows(folder / "train_1.parquet", seed=1, first_item=0),
        ],
        "valid_files": [write_planted_rows(folder / "valid.parquet", seed=2, first_item=1000)],
        "test_files": [write_planted_rows(folder / "test.parquet", seed=3, first_item=1000)],
    }


@pytest.fixture(scope="module")
def trained(splits, tmp_path_factory):
    output_dir = tmp_path_factory.mktemp("model")
    return output_dir, train_ranking_model(**splits, output_dir=output_dir, options=OPTIONS, **MODEL)


def test_semantic_ids_rank_items_that_training_never_saw(trained):
    _, metrics = trained

    assert metrics["test"]["auc"] > 0.8
    assert metrics["test"]["user_auc"] > 0.8
    assert metrics["test"]["log_loss"] < np.log(2)


def test_item_ids_alone_cannot(splits, tmp_path):
    metrics = train_ranking_model(**splits, output_dir=tmp_path, options=OPTIONS, **MODEL, use_semantic_ids=False)

    assert metrics["test"]["auc"] == pytest.approx(0.5, abs=0.05)


def test_the_folder_holds_what_serving_needs(trained, splits):
    output_dir, metrics = trained

    model = RankingModel.from_pretrained(output_dir)
    vocabulary = ItemVocabulary.load(output_dir / "item_vocabulary.parquet")
    rows = TrainingRows(splits["test_files"], vocabulary, num_levels=2, batch_size=1500, behavior_length=4)
    (batch,) = rows
    loss = torch.nn.functional.binary_cross_entropy_with_logits(model(batch), batch.label)

    assert loss.item() == pytest.approx(metrics["test"]["log_loss"], abs=1e-5)
    assert json.loads((output_dir / "metrics.json").read_text()) == metrics
    assert len(vocabulary) == 200


def test_the_best_epoch_is_the_one_that_is_kept(trained):
    _, metrics = trained

    aucs = [epoch["valid"]["auc"] for epoch in metrics["epochs"]]

    assert metrics["valid"]["auc"] == max(aucs) == aucs[metrics["best_epoch"]]
    assert metrics["test"]["rows"] == 1500
    assert all(epoch["rows_per_second"] > 0 for epoch in metrics["epochs"])
    assert metrics["num_parameters"] == sum(
        weight.numel() for weight in RankingModel(num_items=200, **MODEL).parameters()
    )


def test_training_stops_when_the_valid_auc_stops_rising(splits, tmp_path):
    """Item IDs learn nothing about new items: the AUC wanders, and patience ends the run."""
    options = TrainingOptions(epochs=40, patience=1, batch_size=64, behavior_length=4, num_threads=1)

    metrics = train_ranking_model(**splits, output_dir=tmp_path, options=options, **MODEL, use_semantic_ids=False)

    assert len(metrics["epochs"]) == metrics["best_epoch"] + 2 < 40


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(splits, tmp_path):
    for name, seed in {"first": 0, "again": 0, "other": 1}.items():
        options = TrainingOptions(epochs=1, batch_size=512, behavior_length=4, num_threads=2, seed=seed)
        train_ranking_model(**splits, output_dir=tmp_path / name, options=options, **MODEL)

    weights = {name: (tmp_path / name / "model.safetensors").read_bytes() for name in ("first", "again", "other")}

    assert weights["first"] == weights["again"] != weights["other"]


def test_threads_and_random_state_of_the_caller_are_left_alone(splits, tmp_path):
    torch.manual_seed(5)
    before = (torch.get_num_threads(), torch.get_rng_state())
    options = replace(OPTIONS, epochs=1, num_threads=torch.get_num_threads() + 1)

    train_ranking_model(**splits, output_dir=tmp_path, options=options, **MODEL)

    assert torch.get_num_threads() == before[0]
    assert torch.equal(torch.get_rng_state(), before[1])


def test_one_line_is_logged_per_epoch(splits, tmp_path, caplog):
    with caplog.at_level(logging.INFO, logger="qarm_features.ranking"):
        train_ranking_model(**splits, output_dir=tmp_path, options=replace(OPTIONS, epochs=2), **MODEL)

    assert [record.getMessage().split(":")[0] for record in caplog.records] == ["epoch 0", "epoch 1"]


def test_embedding_tables_have_no_weight_decay(splits, tmp_path):
    """With a huge decay the network dies at once, and a row that no batch reads stays as it began."""
    options = replace(OPTIONS, epochs=1, learning_rate=1e-3, weight_decay=900.0)
    torch.manual_seed(0)
    untrained = RankingModel(num_items=200, **MODEL)

    train_ranking_model(**splits, output_dir=tmp_path, options=options, **MODEL)

    trained = RankingModel.from_pretrained(tmp_path)
    assert trained.mlp[1].weight.abs().max() < 0.02 < untrained.mlp[1].weight.abs().max()
    missing = untrained.items.semantic_ids.missing_rows  # the planted rows have no missing code
    table = "items.semantic_ids.table.weight"
    assert torch.equal(trained.state_dict()[table][missing], untrained.state_dict()[table][missing])


def train_as_rank(rank: int, port: int, splits: dict[str, list[str]], output_dir: str) -> None:
    environment = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in environment.items()})
    options = replace(OPTIONS, epochs=3, use_gpu=False)
    models = [{"output_dir": f"{output_dir}/ids", "use_semantic_ids": False}, {"output_dir": output_dir}]
    _, metrics = train_ranking_models(models, **splits, options=options, **MODEL)
    (Path(output_dir) / f"of_rank_{rank}.json").write_text(json.dumps(metrics))


@pytest.mark.slow
def test_two_processes_with_uneven_shares_train_one_model_after_another(splits, tmp_path):
    """897 rows: rank 0 makes 7 steps of 64 rows, rank 1 one step more; 3 test rows: 1 and 2."""
    uneven = splits | {
        "train_files": [write_planted_rows(tmp_path / "train.parquet", seed=0, first_item=0, num_rows=897)],
        "test_files": [write_planted_rows(tmp_path / "test.parquet", seed=4, first_item=1000, num_rows=3)],
    }
    torch.multiprocessing.start_processes(
        train_as_rank, args=(free_port(), uneven, str(tmp_path)), nprocs=2, start_method="spawn"
    )

    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["valid"]["auc"] > 0.75
    assert (metrics["valid"]["rows"], metrics["test"]["rows"]) == (1500, 3)
    assert [json.loads((tmp_path / f"of_rank_{rank}.json").read_text()) for rank in (0, 1)] == [metrics, metrics]
    assert RankingModel.from_pretrained(tmp_path).items.semantic_ids is not None
    assert RankingModel.from_pretrained(tmp_path / "ids").items.semantic_ids is None


def test_files_of_another_codebook_version_are_refused(splits, tmp_path):
    file = write_planted_rows(tmp_path / "codebook_version=1" / "part.parquet", seed=0, first_item=0)

    with pytest.raises(ValueError, match="valid_files hold codes of codebook version 1, must be codebook_version = 0"):
        train_ranking_model(**splits | {"valid_files": [file]}, output_dir=tmp_path, **MODEL)


@pytest.mark.parametrize("split", ["train_files", "valid_files", "test_files"])
def test_a_split_without_files_is_refused(splits, tmp_path, split):
    with pytest.raises(ValueError, match=f"{split} is empty, must name at least one Parquet file"):
        train_ranking_model(**splits | {split: []}, output_dir=tmp_path, **MODEL)


@pytest.mark.parametrize("split", ["train_files", "valid_files", "test_files"])
def test_a_split_without_rows_is_refused(splits, tmp_path, split):
    table = pq.read_table(splits["train_files"][0])
    pq.write_table(table.slice(0, 0), tmp_path / "none.parquet")

    with pytest.raises(ValueError, match=f"{split} hold 0 rows, must hold at least 1"):
        train_ranking_model(**splits | {split: [str(tmp_path / "none.parquet")]}, output_dir=tmp_path, **MODEL)


def test_a_valid_split_with_one_label_cannot_stop_the_training(splits, tmp_path):
    likes = pa.array(np.ones(1500, dtype=np.int32))
    file = write_planted_rows(tmp_path / "likes.parquet", seed=2, first_item=0, label=likes)

    with pytest.raises(ValueError, match="valid_files hold one label only, must hold both 0 and 1"):
        train_ranking_model(**splits | {"valid_files": [file]}, output_dir=tmp_path, options=OPTIONS, **MODEL)


def test_a_test_split_with_one_label_has_no_auc(splits, tmp_path):
    likes = pa.array(np.ones(1500, dtype=np.int32))
    file = write_planted_rows(tmp_path / "likes.parquet", seed=3, first_item=0, label=likes)
    options = replace(OPTIONS, epochs=1)

    metrics = train_ranking_model(**splits | {"test_files": [file]}, output_dir=tmp_path, options=options, **MODEL)

    assert (metrics["test"]["auc"], metrics["test"]["user_auc"]) == (None, None)


@pytest.mark.parametrize(("option", "message"), [
    ({"epochs": 0}, "epochs is 0, must be at least 1"),
    ({"patience": 0}, "patience is 0, must be at least 1"),
    ({"num_workers": -1}, "num_workers is -1, must be at least 0"),
    ({"learning_rate": 0.0}, r"learning_rate is 0\.0, must be above 0"),
])  # fmt: skip
def test_options_out_of_range_are_refused(option, message):
    with pytest.raises(ValueError, match=message):
        TrainingOptions(**option)
