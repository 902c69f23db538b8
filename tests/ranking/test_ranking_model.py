"""RankingModel: item IDs and semantic IDs in, logits out; saved as safetensors only."""

import json
from itertools import product

import huggingface_hub.errors
import pytest
import torch

from qarm_features.ranking import RankingModel

CONFIG = {"num_items": 9, "num_levels": 2, "codebook_size": 4, "codebook_version": 3, "item_dim": 6, "code_dim": 5}


def random_inputs(batch: int = 3, length: int = 4) -> tuple[torch.Tensor, ...]:
    torch.manual_seed(0)
    return (
        torch.randint(0, 10, (batch,)),
        torch.randint(-1, 4, (batch, 2)),
        torch.randint(0, 10, (batch, length)),
        torch.randint(-1, 4, (batch, length, 2)),
        torch.arange(length) < torch.tensor([[length], [2], [0]]),
    )


@pytest.mark.parametrize(("use_item_ids", "use_semantic_ids", "dim"), [(1, 0, 6), (0, 1, 10), (1, 1, 16)])
def test_item_and_code_embeddings_stand_side_by_side(use_item_ids, use_semantic_ids, dim):
    model = RankingModel(**CONFIG, use_item_ids=bool(use_item_ids), use_semantic_ids=bool(use_semantic_ids)).eval()

    logits = model(*random_inputs())

    assert logits.shape == (3,)
    assert model.item_embedding(torch.tensor([1]), torch.tensor([[0, 0]])).shape == (1, dim)


def test_target_and_behaviours_share_the_tables():
    model = RankingModel(**CONFIG)

    names = [name for name, weight in model.named_parameters() if weight.shape[0] in (10, 2 * 5)]

    assert names == ["item_ids.weight", "semantic_ids.table.weight"]


def test_an_unknown_item_starts_at_zero():
    assert RankingModel(**CONFIG).item_ids.weight[0].tolist() == [0.0] * 6


def test_padding_changes_no_logit():
    model = RankingModel(**CONFIG).eval()
    item_index, item_codes, behavior_index, behavior_codes, mask = random_inputs()
    padded = (
        torch.cat([behavior_index, torch.full((3, 5), 9)], dim=1),
        torch.cat([behavior_codes, torch.full((3, 5, 2), 3)], dim=1),
        torch.cat([mask, torch.zeros(3, 5, dtype=torch.bool)], dim=1),
    )

    logits = model(item_index, item_codes, *padded)

    torch.testing.assert_close(logits, model(item_index, item_codes, behavior_index, behavior_codes, mask))


def test_a_user_without_behaviour_is_scored_by_the_target_alone():
    model = RankingModel(**CONFIG).eval()
    item_index, item_codes, behavior_index, behavior_codes, _ = random_inputs()

    logits = model(item_index, item_codes, behavior_index, behavior_codes, torch.zeros(3, 4, dtype=torch.bool))

    target = model.item_embedding(item_index, item_codes)  # (B, D)
    torch.testing.assert_close(logits, model.mlp(torch.cat([target, torch.zeros(3, 33)], dim=1)).squeeze(1))


def test_every_weight_that_a_batch_reads_gets_a_gradient():
    model = RankingModel(**CONFIG)

    model(*random_inputs()).sum().backward()

    assert [name for name, weight in model.named_parameters() if not weight.grad.abs().sum() > 0] == []


def test_saved_and_loaded_it_gives_identical_logits(tmp_path):
    for use_item_ids, use_semantic_ids in product([True, False], [True, False]):
        if use_item_ids or use_semantic_ids:
            flags = {"use_item_ids": use_item_ids, "use_semantic_ids": use_semantic_ids, "hidden_dims": [7]}
            model = RankingModel(**CONFIG, **flags).eval()
            model.save_pretrained(tmp_path)

            loaded = RankingModel.from_pretrained(tmp_path)

            assert torch.equal(loaded(*random_inputs()), model(*random_inputs()))


def test_the_saved_folder_holds_safetensors_and_the_arguments(tmp_path):
    RankingModel(**CONFIG).save_pretrained(tmp_path)

    assert sorted(file.name for file in tmp_path.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    assert json.loads((tmp_path / "config.json").read_text()) == CONFIG | {
        "attention_dim": 32,
        "hidden_dims": [128, 64],
        "dropout": 0.2,
        "use_item_ids": True,
        "use_semantic_ids": True,
    }


def test_a_loaded_model_still_refuses_codes_of_another_codebook(tmp_path):
    RankingModel(**CONFIG).save_pretrained(tmp_path)

    loaded = RankingModel.from_pretrained(tmp_path)

    with pytest.raises(ValueError, match=r"read the pinned view item_semantic_id__cb3\."):
        loaded.semantic_ids.check_codebook_version(4)


def test_a_pickle_is_never_loaded(tmp_path):
    model = RankingModel(**CONFIG)
    model.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")

    with pytest.raises(FileNotFoundError, match=r"has no model\.safetensors, must hold one; pickles are not loaded"):
        RankingModel.from_pretrained(tmp_path)


def test_a_model_that_is_no_folder_is_looked_up_on_the_hub():
    with pytest.raises(huggingface_hub.errors.LocalEntryNotFoundError):
        RankingModel.from_pretrained("qarm/absent", local_files_only=True, **CONFIG)


def test_a_model_of_nothing_is_refused():
    with pytest.raises(ValueError, match="use_item_ids and use_semantic_ids are False, at least one must be True"):
        RankingModel(**CONFIG, use_item_ids=False, use_semantic_ids=False)


def test_a_negative_number_of_items_is_refused():
    with pytest.raises(ValueError, match="num_items is -1, must be at least 0"):
        RankingModel(**CONFIG | {"num_items": -1})
