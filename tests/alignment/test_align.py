"""``align`` trains an encoder from Parquet files, stops early, keeps the best weights and logs."""

import contextlib
import json
import logging
import sys
import types
from dataclasses import replace

import pyarrow as pa
import pytest
import torch

from qarm_features import ItemEncoder
from qarm_features.alignment import AlignmentOptions, align
from qarm_features.alignment.run import AlignmentRun
from tests.alignment.planted_pairs import planted_encoder, same, weights_of, write_planted_source

OPTIONS = AlignmentOptions(
    geometry_weight=0.0,  # the frozen geometry is mostly noise here
    batch_size=64,
    micro_batch_size=32,
    epochs=8,
    learning_rate=1e-2,
    num_threads=1,
    checkpoint_steps=3,
)


@pytest.fixture(scope="module")
def aligned(planted_source, tmp_path_factory):
    output_dir = tmp_path_factory.mktemp("encoder")
    return output_dir, align(planted_encoder, planted_source, output_dir, options=OPTIONS)


def test_held_out_targets_are_found_that_the_untrained_encoder_misses(aligned):
    _, metrics = aligned

    assert metrics["valid"]["hit_rate"] > 0.6 > 5 * metrics["untrained"]["hit_rate"]
    assert metrics["valid"]["loss"] < metrics["untrained"]["loss"]


def test_the_best_epoch_is_the_one_that_is_kept(aligned):
    output_dir, metrics = aligned

    best = metrics["epochs"][metrics["best_epoch"]]

    assert best["valid_score"] == max(entry["valid_score"] for entry in metrics["epochs"])
    assert [metrics["valid"][name] for name in ("loss", "hit_rate", "score")] == [
        best[f"valid_{name}"] for name in ("loss", "hit_rate", "score")
    ]
    assert best["valid_beats_matched_few"] == metrics["valid"]["beats_matched"]["few"]
    assert json.loads((output_dir / "metrics.json").read_text()) == metrics
    assert {"train_loss", "valid_hit_rate_middle", "temperature", "pairs_per_second"} < set(best)
    ItemEncoder.from_pretrained(output_dir)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(aligned, planted_source, tmp_path):
    for name, seed in {"again": 0, "other": 1}.items():
        align(planted_encoder, planted_source, tmp_path / name, options=replace(OPTIONS, seed=seed))

    assert same(weights_of(tmp_path / "again"), weights_of(aligned[0]))
    assert not same(weights_of(tmp_path / "other"), weights_of(aligned[0]))


def test_the_size_of_a_micro_batch_and_of_the_cache_change_nothing_but_memory(planted_source, tmp_path):
    options = replace(OPTIONS, epochs=1)
    expected = align(planted_encoder, planted_source, tmp_path, options=options)

    metrics = align(
        planted_encoder,
        planted_source,
        tmp_path,
        options=replace(options, micro_batch_size=7, cache_bytes=0, step_bytes=0),
    )

    assert metrics["epochs"][0]["train_loss"] == pytest.approx(expected["epochs"][0]["train_loss"], abs=1e-5)


def test_bfloat16_learns_as_much_and_the_weights_stay_in_float32(aligned, planted_source, tmp_path):
    metrics = align(planted_encoder, planted_source, tmp_path, options=replace(OPTIONS, precision="bfloat16"))

    weights = weights_of(tmp_path)
    assert {weight.dtype for weight in weights.values()} == {torch.float32}
    assert not same(weights, weights_of(aligned[0]))  # it did compute in another precision
    assert metrics["valid"]["hit_rate"] == pytest.approx(aligned[1]["valid"]["hit_rate"], abs=0.1)


def test_an_unknown_precision_is_refused():
    with pytest.raises(ValueError, match="precision is 'float16', must be float32 or bfloat16, or None"):
        replace(OPTIONS, precision="float16")


def test_training_stops_when_held_out_pairs_are_found_no_better(planted_source, tmp_path):
    options = replace(OPTIONS, epochs=60, patience=1)

    metrics = align(planted_encoder, planted_source, tmp_path, options=options)

    assert len(metrics["epochs"]) == metrics["best_epoch"] + 2 < 60


def test_an_encoder_that_got_worse_is_left_as_it_was(aligned, planted_source, tmp_path, caplog):
    encoder = ItemEncoder.from_pretrained(aligned[0])
    before = {name: weight.clone() for name, weight in encoder.state_dict().items()}
    options = replace(OPTIONS, epochs=2, patience=2, learning_rate=50.0, warmup_share=0.0)

    with caplog.at_level(logging.WARNING, logger="qarm_features.alignment"):
        metrics = align(encoder, planted_source, tmp_path, options=options)

    assert metrics["best_epoch"] is None
    assert metrics["valid"] == metrics["untrained"]
    assert same(encoder.state_dict(), before)
    assert caplog.records[-1].getMessage() == "No epoch was better than the untrained encoder, which is kept."


def test_pairs_with_a_broken_item_are_left_out(tmp_path):
    vectors = torch.randn(120, 12, generator=torch.Generator().manual_seed(0))
    vectors[:5] = 0
    source = write_planted_source(tmp_path / "source", precomputed=pa.array(list(vectors.numpy())))

    metrics = align(planted_encoder, source, tmp_path / "out", options=replace(OPTIONS, epochs=1))

    assert metrics["rejected_items"] == 5
    assert all(weight.isfinite().all() for weight in weights_of(tmp_path / "out").values())


def test_norms_biases_queries_and_the_temperature_have_no_weight_decay(planted_source, tmp_path):
    """With a huge decay and tiny steps, matrices shrink and vectors do not change."""
    torch.manual_seed(0)
    encoder = planted_encoder()
    before = {name: weight.detach().clone() for name, weight in encoder.named_parameters()}
    options = replace(OPTIONS, epochs=1, learning_rate=1e-6, weight_decay=1e5, warmup_share=0.0, batch_size=600)

    align(encoder, planted_source, tmp_path, options=options)

    shrunk = {
        name for name, weight in encoder.named_parameters()
        if before[name].any() and weight.norm() < 0.95 * before[name].norm()
    }  # fmt: skip
    matrices = {name for name, weight in before.items() if weight.ndim == 2 and weight.any()}
    assert shrunk == matrices - {"q_former.queries"}


def test_one_line_is_logged_per_epoch(planted_source, tmp_path, caplog):
    with caplog.at_level(logging.INFO, logger="qarm_features.alignment"):
        align(planted_encoder, planted_source, tmp_path, options=replace(OPTIONS, epochs=2))

    assert [record.getMessage().split(":")[0] for record in caplog.records[1:]] == ["epoch 0", "epoch 1"]
    assert caplog.records[0].getMessage().startswith("480 item pairs of 120 items, at most 2 epochs.")


def test_mlflow_gets_parameters_and_metrics_where_a_tracking_uri_is_set(planted_source, tmp_path, monkeypatch):
    calls = []
    fake = types.ModuleType("mlflow")
    fake.__spec__ = types.SimpleNamespace()
    fake.active_run = lambda: None
    fake.start_run = lambda **arguments: calls.append(("run", arguments)) or contextlib.nullcontext()
    fake.log_params = lambda params: calls.append(("params", params["batch_size"]))
    fake.log_metrics = lambda metrics, step: calls.append((step, sorted(metrics)))
    monkeypatch.setitem(sys.modules, "mlflow", fake)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    options = replace(OPTIONS, epochs=1)

    align(planted_encoder, planted_source, tmp_path, options=options)
    assert calls == []

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking")
    align(planted_encoder, planted_source, tmp_path, options=options)

    assert calls[:2] == [("run", {"run_name": "align-encoder", "nested": False}), ("params", 64)]
    assert calls[2][0] == 0
    assert {"pairs_per_second", "train_loss", "valid_score", "valid_beats_matched_few"} < set(calls[2][1])


def test_an_encoder_without_a_q_former_is_refused(planted_source, tmp_path):
    with pytest.raises(
        ValueError, match="The encoder has no Fusion-Q-Former to train. Build ItemEncoder with q_former="
    ):
        align(ItemEncoder({"precomputed": {"dim": 12}}), planted_source, tmp_path)


def test_a_loss_that_is_not_finite_ends_the_training(planted_source, tmp_path, monkeypatch):
    monkeypatch.setattr(AlignmentRun, "_measure", lambda run: {"loss": 0.0, "score": 0.0})
    monkeypatch.setattr("qarm_features.alignment.steps.contrastive_loss", lambda trigger, *_, **__: trigger.max() / 0)

    with pytest.raises(ValueError, match="train loss is inf, must be finite"):
        align(planted_encoder, planted_source, tmp_path, options=OPTIONS)


@pytest.mark.parametrize(("option", "message"), [
    ({"batch_size": 1}, "batch_size is 1, must be at least 2"),
    ({"cache_bytes": -1}, "cache_bytes is -1, must be at least 0"),
    ({"learning_rate": 0.0}, r"learning_rate is 0\.0, must be above 0"),
    ({"warmup_share": 1.0}, r"warmup_share is 1\.0, must be at least 0 and below 1"),
    ({"temperature": 0.001}, r"temperature is 0\.001, must be from 0\.01 to 1\.0"),
])  # fmt: skip
def test_options_out_of_range_are_refused(option, message):
    with pytest.raises(ValueError, match=message):
        AlignmentOptions(**option)
