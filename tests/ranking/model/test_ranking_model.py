"""RankingModel: its parts, the things its logits must not depend on, and its saved form, safetensors only."""

import json

import huggingface_hub.errors
import pytest
import torch

from qarm_features.ranking import RankingConfig, RankingModel
from qarm_features.ranking.data.ranking_batch import map_tensors
from tests.ranking.ranking_rows import CONFIG, SWITCHES, item_features, random_rows


def build(**switches) -> RankingModel:
    torch.manual_seed(0)
    model = RankingModel(**CONFIG | switches)
    model.set_item_features(item_features())
    model.set_item_counts(torch.arange(10), torch.arange(10) * 3)
    return model


@pytest.mark.parametrize(("use_item_ids", "use_semantic_ids", "dim"), [(1, 0, 6), (0, 1, 10), (1, 1, 16)])
def test_item_and_code_embeddings_stand_side_by_side(use_item_ids, use_semantic_ids, dim):
    model = build(use_item_ids=bool(use_item_ids), use_semantic_ids=bool(use_semantic_ids)).eval()

    assert model(random_rows()).shape == (4,)
    assert model.item_embedding(torch.tensor([1]), torch.tensor([[0, 0]])).shape == (1, dim)


def test_target_and_behaviors_share_the_tables():
    names = [name for name, weight in build().named_parameters() if weight.shape[0] in (10, 2 * 5)]

    assert names == ["items.item_ids.weight", "items.semantic_ids.table.weight"]


def test_an_unknown_item_starts_at_zero():
    assert build().items.item_ids.weight[0].tolist() == [0.0] * 6


@pytest.mark.parametrize("switches", SWITCHES.values(), ids=SWITCHES)
def test_padding_changes_no_logit(switches):
    model, rows = build(**switches).eval(), random_rows()
    padded = {}
    for field in rows._fields:
        tensor = getattr(rows, field)
        if field.startswith(("behavior_", "impression_")):
            fill = (
                tensor.new_zeros(4, 5, *tensor.shape[2:])
                if field.endswith("mask")
                else tensor[:, :1].repeat_interleave(5, 1)
            )
            tensor = torch.cat([tensor, fill], dim=1)
        padded[field] = tensor

    torch.testing.assert_close(model(type(rows)(**padded)), model(rows))


@pytest.mark.parametrize("switches", SWITCHES.values(), ids=SWITCHES)
def test_a_row_scores_the_same_wherever_it_stands_and_with_whomever(switches):
    model, rows = build(**switches).eval(), random_rows()
    logits = model(rows)
    order = torch.tensor([2, 0, 3, 1])

    torch.testing.assert_close(model(map_tensors(lambda tensor: tensor[order], rows)), logits[order])
    for row in range(4):
        torch.testing.assert_close(
            model(map_tensors(lambda tensor, row=row: tensor[row : row + 1], rows)), logits[[row]]
        )


@pytest.mark.parametrize("switches", SWITCHES.values(), ids=SWITCHES)
def test_one_user_row_stands_for_all_candidates(switches):
    model, rows = build(**switches).eval(), random_rows()
    user = {name: getattr(rows, name)[:1] for name in rows._fields if name.startswith(("behavior_", "impression_"))}
    repeated = {name: tensor.expand(4, *tensor.shape[1:]) for name, tensor in user.items()}

    torch.testing.assert_close(model(rows._replace(**user)), model(rows._replace(**repeated)))


@pytest.mark.parametrize("switches", SWITCHES.values(), ids=SWITCHES)
def test_the_rows_own_label_is_not_read(switches):
    model, rows = build(**switches).eval(), random_rows()

    assert torch.equal(model(rows._replace(label=1 - rows.label)), model(rows))


def test_while_training_a_row_is_left_out_of_its_items_rate():
    model, rows = build(**SWITCHES["item rates, linear"], dropout=0.0), random_rows()
    torch.nn.init.ones_(model.linear.weight)
    liked = torch.ones(4)

    logits = [model.train(training)(rows._replace(label=liked)) for training in (True, False)]

    # items 3, 5 and 1 were counted; item 10 is beyond the vocabulary
    assert ((logits[1] - logits[0]).abs() > 1e-3).tolist() == [True, False, True, True]


@pytest.mark.parametrize("switches", SWITCHES.values(), ids=SWITCHES)
def test_every_weight_that_a_batch_reads_gets_a_gradient(switches):
    model = build(**switches, dropout=0.0)
    for name, weight in model.named_parameters():
        if name.endswith(("lora_b", "q_former.head.weight", "match.query")):
            torch.nn.init.normal_(weight, std=0.1)  # from zero, the factor before it gets none in the first step

    model.losses(random_rows()).total.backward()

    trained = [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]
    assert [name for name, weight in trained if not weight.grad.abs().sum() > 0] == []


@pytest.mark.parametrize("switches", SWITCHES.values(), ids=SWITCHES)
def test_saved_and_loaded_it_gives_identical_logits(switches, tmp_path):
    model = build(**switches, hidden_dims=[7]).eval()
    model.save_pretrained(tmp_path)

    loaded = RankingModel.from_pretrained(tmp_path)
    loaded.set_item_features(item_features())

    assert torch.equal(loaded(random_rows()), model(random_rows()))
    assert loaded.config == model.config
    assert loaded.train_positives.tolist() == list(range(10))


def test_the_saved_folder_holds_safetensors_and_every_argument(tmp_path):
    build().save_pretrained(tmp_path)

    assert sorted(file.name for file in tmp_path.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    saved = json.loads((tmp_path / "config.json").read_text())
    assert {name: saved[name] for name in CONFIG} == CONFIG
    assert saved.keys() == RankingConfig.__dataclass_fields__.keys()
    assert (saved["hidden_dims"], saved["use_item_ids"], saved["use_fusion"]) == ([128, 64], True, False)


def test_a_loaded_model_still_refuses_codes_of_another_codebook(tmp_path):
    build().save_pretrained(tmp_path)

    loaded = RankingModel.from_pretrained(tmp_path)

    loaded.check_codebook_version(3)
    with pytest.raises(
        ValueError, match=r"Codes are of codebook version 4, this table was trained on version 3\. Retrain"
    ):
        loaded.check_codebook_version(4)
    with pytest.raises(ValueError, match=r"read the pinned view item_semantic_id__cb3\."):
        loaded.items.semantic_ids.check_codebook_version(4)


def test_a_model_without_codes_reads_any_release():
    build(use_semantic_ids=False).check_codebook_version(4)


def test_a_pickle_is_never_loaded(tmp_path):
    model = build()
    model.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")

    with pytest.raises(FileNotFoundError, match=r"has no model\.safetensors, and pickles are not loaded"):
        RankingModel.from_pretrained(tmp_path)


def test_a_model_that_is_no_folder_is_looked_up_on_the_hub():
    with pytest.raises(huggingface_hub.errors.LocalEntryNotFoundError):
        RankingModel.from_pretrained("qarm/absent", local_files_only=True, **CONFIG)


@pytest.mark.parametrize("field", ["behavior_age", "impression_age"])
def test_a_batch_that_holds_the_future_is_refused(field):
    model, rows = build(use_match=True, use_history=True, use_ages=True), random_rows()

    with pytest.raises(ValueError, match=f"{field} holds -1.0, must be at least 0. Leave out behaviors and impr"):
        model(rows._replace(**{field: -torch.ones_like(getattr(rows, field))}))


@pytest.mark.parametrize(("switches", "field"), [
    ({"use_match": True, "use_ages": True}, "behavior_age"),
    ({"use_history": True}, "impression_index"),
    ({"use_counters": True}, "counters"),
])  # fmt: skip
def test_a_batch_without_what_a_switch_reads_is_refused(switches, field):
    with pytest.raises(ValueError, match=f"The batch has no {field}, which the model reads"):
        build(**switches)(random_rows()._replace(**{field: None}))


def test_a_model_of_content_without_item_features_is_refused():
    model = RankingModel(**CONFIG | SWITCHES["fusion"])

    with pytest.raises(
        ValueError, match="The model reads item features, but has none. Call RankingModel.set_item_features"
    ):
        model(random_rows())


@pytest.mark.parametrize(("config", "message"), [
    ({"use_item_ids": False, "use_semantic_ids": False}, "use_fusion are False, at least one must be True"),
    ({"num_items": -1}, "num_items is -1, must be at least 0"),
    ({"num_levels": 0}, "num_levels is 0 and codebook_size 4, must be at least 1 with use_semantic_ids"),
    ({"item_dim": 0}, "item_dim is 0, must be at least 1"),
    ({"dropout": 1.0}, r"dropout is 1\.0, must be in \[0, 1\)"),
    ({"content_id_weight": -1.0}, r"content_id_weight is -1\.0, must be at least 0"),
    ({"content_id_dim": 0}, "content_id_dim is 0, must be at least 1. None projects nothing"),
    ({"content_id_stop_gradient": "ids"}, 'content_id_stop_gradient is "ids", must be "content", "item_id" or None'),
    ({"use_content_interest": True}, "use_content_interest is True, must have content"),
    ({"use_item_ids": False, "id_dropout": 0.5}, r"id_dropout is 0\.5, must have item IDs"),
    ({"use_frozen_vector": True}, "vector_dim is None, must be the width of the frozen vectors"),
    ({"use_fusion": True}, "token_dims is None, must be the width of the content tokens"),
])  # fmt: skip
def test_a_config_that_makes_no_model_is_refused(config, message):
    with pytest.raises(ValueError, match=message):
        RankingModel(**CONFIG | config)
