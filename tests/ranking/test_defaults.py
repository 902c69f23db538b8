"""An option that is written in several places has one default: settings, dataclasses and arguments agree."""

import inspect
from dataclasses import MISSING, fields

import pytest

from qarm_features.fusion.q_former import FusionQFormer
from qarm_features.ranking import (
    ContentInterest,
    RankingConfig,
    TargetAttention,
    TrainingOptions,
    content_id_contrastive_loss,
)
from qarm_features.settings.ranking import Behavior, Ranking


def defaults_of(cls) -> dict:
    return {field.name: field.default for field in fields(cls) if field.default is not MISSING}


def test_settings_and_training_options_have_the_same_defaults():
    settings = {name: field.default for name, field in Ranking.model_fields.items()}
    options = defaults_of(TrainingOptions) | {"dropout": defaults_of(RankingConfig)["dropout"]}
    shared = settings.keys() & options.keys()

    assert shared == {
        *("batch_size", "dropout", "epochs", "learning_rate", "max_items", "part_learning_rates", "patience"),
        *("sparse_ids", "warm_up_steps", "weight_decay"),
    }
    assert {name: settings[name] for name in shared} == {name: options[name] for name in shared}


def test_settings_and_training_options_read_equally_many_behaviors():
    assert Behavior.model_fields["max_length"].default == TrainingOptions().behavior_length


@pytest.mark.parametrize(("option", "function", "argument"), [
    ("attention_dim", TargetAttention, "hidden_dim"),
    ("num_heads", ContentInterest, "num_heads"),
    ("interest_rank", ContentInterest, "rank"),
    ("interest_base", ContentInterest, "base"),
    ("flatten_queries", FusionQFormer, "flatten_queries"),
    ("content_id_temperature", content_id_contrastive_loss, "temperature"),
    ("content_id_negatives", content_id_contrastive_loss, "num_negatives"),
])  # fmt: skip
def test_a_config_and_the_modules_it_builds_have_the_same_defaults(option, function, argument):
    assert inspect.signature(function).parameters[argument].default == defaults_of(RankingConfig)[option]
