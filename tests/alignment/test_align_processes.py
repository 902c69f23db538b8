"""Two processes, started by torchrun or TorchDistributor, train the same model as one process."""

import functools
import json
import os
from pathlib import Path

import pytest
import torch
import torch.multiprocessing

from qarm_features import ItemEncoder
from qarm_features.alignment import AlignmentOptions, align
from tests.alignment.planted_pairs import DIM, planted_encoder
from tests.free_port import free_port

# One batch an epoch of 484 pairs: ten epochs are ten steps.
OPTIONS = AlignmentOptions(
    geometry_weight=0.5,
    num_anchors=50,
    uniform_negatives=30,
    code_weight=0.5,
    batch_size=600,
    micro_batch_size=50,
    epochs=10,
    patience=10,
    learning_rate=1e-2,
    num_threads=1,
    use_gpu=False,
)
TOLERANCE = 1e-4


def losses(metrics: dict, name: str) -> list[float]:
    return [epoch[name] for epoch in metrics["epochs"]]


@pytest.fixture(scope="module")
def alone(planted_source, tmp_path_factory) -> dict:
    return align(planted_encoder, planted_source, tmp_path_factory.mktemp("alone"), options=OPTIONS)


def align_as_rank(rank: int, port: int, source: Path, output_dir: Path) -> None:
    environment = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in environment.items()})
    metrics = align(planted_encoder, source, output_dir, options=OPTIONS)
    (output_dir / f"of_rank_{rank}.json").write_text(json.dumps(metrics))


def test_two_processes_have_the_loss_curve_of_one(alone, planted_source, tmp_path):
    torch.multiprocessing.start_processes(
        align_as_rank, args=(free_port(), planted_source, tmp_path), nprocs=2, start_method="spawn"
    )

    first, second = (json.loads((tmp_path / f"of_rank_{rank}.json").read_text()) for rank in (0, 1))
    assert losses(first, "train_loss") == pytest.approx(losses(alone, "train_loss"), abs=TOLERANCE)
    assert losses(first, "valid_loss") == pytest.approx(losses(alone, "valid_loss"), abs=TOLERANCE)
    assert losses(first, "temperature") == pytest.approx(losses(alone, "temperature"), abs=TOLERANCE)
    assert losses(second, "train_loss") == losses(first, "train_loss")


@pytest.mark.slow
def test_torch_distributor_trains_it_too(alone, planted_source, tmp_path, spark):
    from pyspark.ml.torch.distributor import TorchDistributor

    q_former = {"num_queries": 2, "dim": 16, "num_layers": 1, "num_heads": 2, "dropout": 0.0}
    build = functools.partial(ItemEncoder, {"precomputed": {"dim": DIM}}, q_former=q_former)

    TorchDistributor(num_processes=2, local_mode=True, use_gpu=False).run(
        align, build, str(planted_source), str(tmp_path), options=OPTIONS
    )

    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert losses(metrics, "train_loss") == pytest.approx(losses(alone, "train_loss"), abs=TOLERANCE)
    ItemEncoder.from_pretrained(tmp_path)
