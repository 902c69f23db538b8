"""Scorer: a saved model scores a request as it scored the same rows in training."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from qarm_features.ranking import (
    Behavior,
    Calibration,
    Candidates,
    Impressions,
    ItemSources,
    ItemVocabulary,
    RankingModel,
    Scorer,
    open_item_features,
    score_candidates,
    write_item_content,
    write_item_features,
)
from qarm_features.ranking.data import ranking_batch
from qarm_features.ranking.data.row_encoding import encode_rows
from qarm_features.ranking.train.model_folder import save_model_folder
from qarm_features.storage.artifacts import ArtifactError, sha256
from tests.ranking.ranking_rows import CONFIG, FUSION, VECTOR

TRAINED = ItemVocabulary(range(10, 100, 10))
NEW_ITEM, UNKNOWN = 15, 999
AT = 1_700_000_000.0
CANDIDATES = [10, 90, NEW_ITEM, UNKNOWN, 30]
PAST = [20, 30, NEW_ITEM, 40, UNKNOWN, 10]  # of which the model reads the latest 4
EM3 = {**FUSION, "use_content_interest": True, "content_id_weight": 0.1, "new_items_from_content": True}
SWITCHES = {
    "item IDs": {"use_semantic_ids": False},
    "match, ages": {"use_match": True, "use_ages": True},
    "nearest items, vector": {"use_nearest_items": True, **VECTOR},
    "EM3": EM3,
}


def codes_of(items):
    return torch.tensor([[-1, -1] if item == UNKNOWN else [item // 10 % 4, item % 4] for item in items])


def seconds_of(places):
    return [int(AT) - 3600 * (len(PAST) - place) for place in places]


def request(codebook_version=3, padding=2):
    """What a reader serves of the user and the candidates."""
    pad = [0] * padding
    codes = torch.cat([codes_of(PAST), torch.full((padding, 2), -1)])
    behavior = Behavior(
        item_ids=np.array([PAST + pad]),
        codes=codes.unsqueeze(0),
        mask=torch.tensor([[True] * len(PAST) + [False] * padding]),
        codebook_version=codebook_version,
        timestamps=torch.tensor([seconds_of(range(len(PAST))) + pad]),
    )
    return Candidates.from_codes(codes_of(CANDIDATES), codebook_version), behavior


SHOWN, LIKED = [40, 20, UNKNOWN, 60, NEW_ITEM], [1, 0, 0, 1, 0]  # of which the model reads the latest 3
COUNTERS = [[5, 9, item % 7, 9] for item in CANDIDATES]
HISTORY = {"use_history": True, "use_counters": True, "use_ages": True, "use_match": True}


def shown(codebook_version=3):
    """What a reader serves of the labeled impressions."""
    seconds = torch.tensor([seconds_of(range(len(SHOWN)))])
    labels, mask = torch.tensor([LIKED]), torch.ones(1, len(SHOWN), dtype=torch.bool)
    return Impressions(np.array([SHOWN]), codes_of(SHOWN).unsqueeze(0), labels, mask, codebook_version, seconds)


def training_rows():
    """The same request as rows of training."""
    rows = len(CANDIDATES)
    history = {
        "impression_item_ids": pa.array([SHOWN] * rows),
        "impression_labels": pa.array([LIKED] * rows),
        "impression_codes": pa.array([codes_of(SHOWN).flatten().tolist()] * rows),
        "impression_timestamps": pa.array([seconds_of(range(len(SHOWN)))] * rows),
        **{name: pa.array(values) for name, values in zip(ranking_batch.COUNTERS, zip(*COUNTERS))},
    }
    return pa.RecordBatch.from_pydict(history | {
        "user_id": pa.array([7] * rows),
        "item_id": pa.array(CANDIDATES),
        "label": pa.array([0] * rows),
        "event_timestamp": pa.array([int(AT * 1e6)] * rows, pa.timestamp("us", "UTC")),
        "item_codes": pa.array([None if -1 in code else code for code in codes_of(CANDIDATES).tolist()]),
        "behavior_item_ids": pa.array([PAST] * rows),
        "behavior_codes": pa.array([codes_of(PAST).flatten().tolist()] * rows),
        "behavior_timestamps": pa.array([seconds_of(range(len(PAST)))] * rows),
    })  # fmt: skip


def write_features(folder, item_ids, *, vocabulary=TRAINED):
    random = np.random.default_rng(0)
    of_item = {item: random.normal(size=20).astype(np.float32) for item in range(10, 100, 5)}
    values = np.stack([of_item[item] for item in item_ids])
    folder.mkdir(parents=True)
    table = {"item_id": item_ids, "embedding": list(values[:, :3])}
    pq.write_table(pa.table(table), folder / "embeddings.parquet")
    nearest = {"vq_codes": [[20, 50]] * len(item_ids), "vq_similarities": list(values[:, 3:5])}
    pq.write_table(pa.table({"item_id": item_ids, **nearest}), folder / "nearest.parquet")
    stands = np.ones((len(item_ids), 2), bool)
    tokens = {
        "text": (values[:, 5:13].reshape(-1, 2, 4), stands),
        "image": (values[:, 13:19].reshape(-1, 2, 3), stands),
    }
    write_item_content(folder / "content", item_ids, tokens)
    sources = ItemSources([str(folder / "embeddings.parquet")], [str(folder / "nearest.parquet")], folder / "content")
    write_item_features(folder / "features", vocabulary, sources)
    return folder / "features"


def save(folder, switches):
    """A model whose weights are far from where they started, as training leaves it."""
    torch.manual_seed(0)
    model = RankingModel(**CONFIG | switches)
    for weight in model.parameters():
        weight.data += 0.3 * torch.randn_like(weight)
    vocabulary, features = open_item_features(write_features(folder.parent / "items", [*range(10, 100, 10), NEW_ITEM]))
    model.set_item_features(features)
    metrics = {"options": {"behavior_length": 4, "impression_length": 3}}
    save_model_folder(
        folder, model, vocabulary=vocabulary, trained_on=TRAINED, calibration=Calibration(0.5, -1.0), metrics=metrics
    )
    return model.eval(), vocabulary, folder.parent / "items" / "features"


@pytest.mark.parametrize("switches", SWITCHES.values(), ids=SWITCHES)
def test_a_request_is_scored_as_the_same_rows_in_training(tmp_path, switches):
    model, vocabulary, features = save(tmp_path / "model", switches)
    fields = model.optional_fields
    rows = encode_rows(training_rows(), vocabulary, num_levels=2, behavior_length=4, optional_fields=fields)
    with torch.no_grad():
        expected = torch.sigmoid(0.5 * model(rows) - 1.0)

    scorer = Scorer.open(tmp_path / "model", item_features=features)
    scores = scorer.score(CANDIDATES, *request(), at=AT)

    torch.testing.assert_close(scores, expected)
    assert len(set(scores.tolist())) >= 4  # without codes and content all unknown items are alike


def test_scores_depend_neither_on_the_order_of_candidates_nor_on_padding(tmp_path):
    _, _, features = save(tmp_path / "model", EM3)
    scorer = Scorer.open(tmp_path / "model", item_features=features)
    candidates, behavior = request(padding=0)

    scores = scorer.score(CANDIDATES, *request(padding=5))
    turned = scorer.score(CANDIDATES[::-1], candidates._replace(codes=candidates.codes.flip(0)), behavior)

    torch.testing.assert_close(turned.flip(0), scores)


def test_a_user_without_behavior_is_scored(tmp_path):
    save(tmp_path / "model", {})
    nothing = Behavior(np.zeros((1, 0), np.int64), torch.zeros(1, 0, 2).long(), torch.zeros(1, 0).bool(), 3)

    scores = Scorer.open(tmp_path / "model").score(CANDIDATES, request()[0], nothing)

    assert scores.isfinite().all()


def test_codes_of_another_codebook_are_refused_with_the_ways_out(tmp_path):
    save(tmp_path / "model", {})
    scorer = Scorer.open(tmp_path / "model")

    with pytest.raises(ValueError, match=r"version 4, this table was trained on version 3\. Retrain the model on version "
                       r"4, its tables warm-started by remap, or read the pinned view item_semantic_id__cb3"):  # fmt: skip
        scorer.score(CANDIDATES, *request(codebook_version=4))


def test_content_is_fused_ahead_and_its_tokens_are_not_needed(tmp_path):
    _, _, features = save(tmp_path / "model", EM3)
    fused_anew = Scorer.open(tmp_path / "model", item_features=features, content_folder=features.parent / "content")
    shutil.rmtree(features.parent / "content")

    scores = Scorer.open(tmp_path / "model", item_features=features).score(CANDIDATES, *request())

    torch.testing.assert_close(scores, fused_anew.score(CANDIDATES, *request()))


def test_items_that_came_since_are_known_by_content(tmp_path):
    _, _, features = save(tmp_path / "model", EM3)
    before = Scorer.open(tmp_path / "model", item_features=features).score([*CANDIDATES[:4], 25], *request())
    catalog = [*range(10, 100, 10), 25, NEW_ITEM, 11 + 4]

    since = write_features(tmp_path / "since", sorted(set(catalog)))
    after = Scorer.open(tmp_path / "model", item_features=since).score([*CANDIDATES[:4], 25], *request())

    torch.testing.assert_close(after[:4], before[:4])
    assert abs(after[4] - before[4]) > 1e-3


def test_a_reader_gives_what_is_scored(tmp_path):
    save(tmp_path / "model", {})
    scorer, asked = Scorer.open(tmp_path / "model"), []

    class Reader:
        def user_and_candidates(self, user_id, candidate_ids, *, max_length=None):
            asked.append((user_id, candidate_ids, max_length))
            candidates, behavior = request()
            return type("Read", (), {"candidates": candidates, "behavior": behavior})

    scores = score_candidates(scorer, Reader(), 7, CANDIDATES)

    assert asked == [(7, CANDIDATES, 4)]
    torch.testing.assert_close(scores, scorer.score(CANDIDATES, *request()))


def test_a_model_of_labeled_history_is_scored_from_the_same_reader(tmp_path):
    model, vocabulary, _ = save(tmp_path / "model", HISTORY)
    fields, lengths = model.optional_fields, {"behavior_length": 4, "impression_length": 3}
    rows = encode_rows(training_rows(), vocabulary, num_levels=2, optional_fields=fields, **lengths)
    with torch.no_grad():
        expected = torch.sigmoid(0.5 * model(rows) - 1.0)
    scorer, asked = Scorer.open(tmp_path / "model"), []

    class Reader:
        version = 3

        def user_and_candidates(self, user_id, candidate_ids, **lengths):
            asked.append(lengths)
            candidates, behavior = request()
            found = {"candidates": candidates, "behavior": behavior, "impressions": shown(self.version)}
            return type("Read", (), found | {"counters": torch.tensor(COUNTERS, dtype=torch.float32)})

    scores = score_candidates(scorer, Reader(), 7, CANDIDATES, at=AT)
    without = score_candidates(scorer, Reader(), 7, CANDIDATES, at=AT, counters=torch.zeros(len(CANDIDATES), 4))

    torch.testing.assert_close(scores, expected)
    assert asked == [{"max_length": 4, "max_impressions": 3}] * 2
    assert (without - scores).abs().min() > 1e-4  # what is given is not replaced by what is read
    Reader.version = 4
    with pytest.raises(ValueError, match="version 4, this table was trained on version 3"):
        score_candidates(scorer, Reader(), 7, CANDIDATES, at=AT)
    with pytest.raises(ValueError, match="at is None"):
        score_candidates(scorer, type("Same", (Reader,), {"version": 3})(), 7, CANDIDATES)


def test_item_features_of_a_qarm_project_are_found_by_the_manifest(tmp_path):
    _, _, features = save(tmp_path / "ranking_models" / "v5", VECTOR)
    with pytest.raises(ValueError, match="item_features is None, must be a folder of write_item_features"):
        Scorer.open(tmp_path / "ranking_models" / "v5")

    shutil.copytree(features, tmp_path / "item_features" / "v2")
    write_manifest(tmp_path / "ranking_models" / "v5", item_features_version=2)

    assert Scorer.open(tmp_path / "ranking_models" / "v5").vocabulary.index(pa.array([NEW_ITEM])).tolist() == [10]


def write_manifest(folder, **entries):
    files = {path.relative_to(folder).as_posix(): sha256(path) for path in folder.rglob("*") if path.is_file()}
    (folder / "manifest.json").write_text(json.dumps({**entries, "files": files}))


def test_a_changed_file_of_a_model_or_of_its_item_features_is_refused_unless_nobody_asks(tmp_path):
    _, _, features = save(tmp_path / "model", VECTOR)
    published = tmp_path / "model"
    write_manifest(features)
    write_manifest(published)
    shutil.copytree(features, published / "item_features")  # may lie there beside what the manifest names
    Scorer.open(published)

    vectors = np.load(published / "item_features" / "vectors.npy")
    np.save(published / "item_features" / "vectors.npy", vectors[[0, 2, 1, *range(3, len(vectors))]])

    with pytest.raises(ArtifactError, match="vectors.npy is missing or differs from its manifest"):
        Scorer.open(published)
    calibration = published / "calibration.json"
    calibration.write_text(calibration.read_text().replace("}", " }"))
    with pytest.raises(ArtifactError, match="calibration.json is missing or differs from its manifest"):
        Scorer.open(published)
    assert Scorer.open(published, verify=False).score(CANDIDATES, *request()).shape == (5,)


def test_what_does_not_fit_the_model_is_refused(tmp_path):
    _, _, features = save(tmp_path / "model", {**EM3, "use_match": True, "use_ages": True})
    others = write_features(tmp_path / "others", [10, 20], vocabulary=ItemVocabulary([10, 20]))

    with pytest.raises(ValueError, match="The item features belong to 2 trained items that are not the model's 9"):
        Scorer.open(tmp_path / "model", item_features=others)
    with pytest.raises(ValueError, match="at is None, but the model reads ages. Give both at and timestamps"):
        Scorer.open(tmp_path / "model", item_features=features).score(CANDIDATES, *request())
    (tmp_path / "model" / "fused.npy").unlink()
    with pytest.raises(ValueError, match="has no fused.npy. Name the folder of the content tokens by content_folder"):
        Scorer.open(tmp_path / "model", item_features=features)


def test_codes_of_other_codebooks_of_the_same_version_are_refused(tmp_path):
    save(tmp_path / "model", {})
    write_manifest(tmp_path / "model", codebook_fingerprint="0123")
    scorer = Scorer.open(tmp_path / "model")
    candidates, behavior = request()

    with pytest.raises(
        ValueError, match="fingerprint 4567, the model was trained on 0123: other codebooks had the same"
    ):
        scorer.score(CANDIDATES, candidates._replace(codebook_fingerprint="4567"), behavior)

    same = scorer.score(CANDIDATES, candidates._replace(codebook_fingerprint="0123"), behavior)
    assert torch.equal(same, scorer.score(CANDIDATES, candidates, behavior))  # a reader of an older release knows none
