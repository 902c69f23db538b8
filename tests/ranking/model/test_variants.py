"""Variants: names of qarm.yaml become switches of the ranking model."""

from dataclasses import asdict

import pytest

from qarm_features.ranking import RankingConfig, RankingModel
from qarm_features.ranking.model.variants import VARIANTS, named_variants

DATA = {"num_items": 3, "num_levels": 2, "codebook_size": 4, "vector_dim": 3, "token_dims": {"text": 4}}


@pytest.mark.parametrize("name", VARIANTS)
def test_every_named_variant_makes_a_model(name):
    model = RankingModel(**DATA, **named_variants([name])[name])

    assert model.config.use_item_ids


def test_em3_with_and_without_cic_differ_in_the_loss_alone():
    with_cic, without = (RankingConfig(**DATA, **VARIANTS[name]) for name in ("+EM3", "+EM3 without CIC"))

    different = {name for name, value in asdict(with_cic).items() if value != asdict(without)[name]}

    assert different == {"content_id_weight", "content_id_dim", "content_id_negatives"}
    assert not with_cic.new_items_from_content  # no loss would train the map that makes their IDs


def test_switches_of_ones_own_stand_beside_named_variants():
    assert named_variants({"item IDs": None, "mine": {"use_match": True, "item_dim": 32}}) == {
        "item IDs": {"use_semantic_ids": False},
        "mine": {"use_match": True, "item_dim": 32},
    }


@pytest.mark.parametrize(("variants", "message"), [
    ([], "ranking.variants is empty, must name at least one of item IDs, "),
    (["EM3"], 'ranking.variants names "EM3", must be of item IDs, .*'),
    ({"mine": {"use_magic": True}}, 'ranking.variants sets use_magic of "mine", must be of attention_dim, '),
    ({"mine": {"num_items": 3}}, 'ranking.variants sets num_items of "mine"'),
])  # fmt: skip
def test_unknown_variants_and_switches_are_refused(variants, message):
    with pytest.raises(ValueError, match=message):
        named_variants(variants)
