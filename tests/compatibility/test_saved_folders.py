"""Folders that release 0.1.0 saved, before modules moved, load and give the numbers that they gave then."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from qarm_features import ItemEncoder
from qarm_features.ranking import RankingBatch, RankingModel

SAVED = Path(__file__).parent / "saved_by_0_1_0"
BOOLS = ("behavior_mask", "impression_mask")


def test_a_ranking_model_scores_as_it_did():
    expected = json.loads((SAVED / "ranking_model" / "expected.json").read_text())
    fields = {name: torch.tensor(values) for name, values in expected["fields"].items()}
    batch = RankingBatch(**{name: field.bool() if name in BOOLS else field for name, field in fields.items()})

    model = RankingModel.from_pretrained(str(SAVED / "ranking_model")).eval()
    with torch.no_grad():
        logits = model(batch)

    assert logits.numpy() == pytest.approx(np.array(expected["logits"]), abs=1e-5)


def test_an_item_encoder_embeds_as_it_did():
    expected = json.loads((SAVED / "encoder" / "expected.json").read_text())

    encoded = ItemEncoder.from_pretrained(str(SAVED / "encoder")).encode({"precomputed": expected["vectors"]})

    assert encoded.reasons == [None] * 3
    assert encoded.embeddings.numpy() == pytest.approx(np.array(expected["embeddings"]), abs=1e-5)


def test_a_text_encoder_embeds_as_it_did():
    expected = json.loads((SAVED / "text_encoder" / "expected.json").read_text())

    encoded = ItemEncoder.from_pretrained(str(SAVED / "text_encoder")).encode({"text": expected["texts"]})

    assert encoded.reasons == [None] * 3
    assert encoded.embeddings.numpy() == pytest.approx(np.array(expected["embeddings"]), abs=1e-4)


def test_what_an_encoder_was_made_from_has_the_hash_that_it_had(tmp_path):
    from qarm_features.embedding.content_tokens import backbones_of
    from qarm_features.embedding.encoder_versions import encoder_fingerprint, item_encoder_config
    from qarm_features.settings.load import load_settings
    from qarm_features.storage.artifacts import Artifact

    expected = json.loads((SAVED / "text_encoder" / "expected.json").read_text())["fingerprints"]
    (tmp_path / "qarm.yaml").write_text(
        "items: {path: items.parquet, text: [title]}\ninteractions: {path: log.parquet}\n"
    )
    settings = load_settings(tmp_path / "qarm.yaml")
    frozen, aligned = (item_encoder_config(settings.items, settings.encoder, aligned=way) for way in (False, True))

    found = {
        "frozen": encoder_fingerprint(frozen),
        "aligned": encoder_fingerprint(aligned),
        "backbones": backbones_of(Artifact("encoders", 0, SAVED / "text_encoder", {}), tokens_kept=16).fingerprint,
    }

    assert found == expected


@pytest.mark.parametrize("name", ["ResidualKMeans", "ResidualKMeansFiniteScalar", "FiniteScalar"])
def test_a_quantizer_gives_the_codes_that_it_gave(spark, name):
    from pyspark.ml.util import DefaultParamsReader

    from qarm_features import quantizers

    expected = json.loads((SAVED / "quantizers" / "expected.json").read_text())
    rows = spark.createDataFrame(list(enumerate(expected["embeddings"])), "item_id long, embedding array<float>")

    estimator = DefaultParamsReader.loadParamsInstance(str(SAVED / "quantizers" / name), spark)
    model = DefaultParamsReader.loadParamsInstance(str(SAVED / "quantizers" / f"{name}Model"), spark)

    assert type(estimator) is getattr(quantizers, name)
    assert [row["rq_codes"] for row in model.transform(rows).orderBy("item_id").collect()] == expected[name]


def test_a_bank_gives_the_nearest_items_that_it_gave(spark):
    from qarm_features.quantizers import NearestItemsModel

    expected = json.loads((SAVED / "quantizers" / "expected.json").read_text())
    rows = spark.createDataFrame(list(enumerate(expected["embeddings"])), "item_id long, embedding array<float>")

    model = NearestItemsModel.load(str(SAVED / "quantizers" / "NearestItemsModel"))
    found = model.transform(rows).orderBy("item_id").collect()

    assert [row["vq_codes"] for row in found] == expected["NearestItems"]
