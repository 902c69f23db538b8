"""The parts of a ranking model: what saved models rely on, and ranking inputs that a user adds."""

import json
from importlib.metadata import EntryPoint

import pytest
import torch
from torch import Tensor, nn

from qarm_features.ranking import RankingModel, RowsInMemory, TrainingOptions, fit
from qarm_features.ranking.model import parts
from qarm_features.ranking.modules.ranking_input import (
    RANKING_INPUTS,
    ItemFeature,
    Items,
    ModelSizes,
    Reading,
    Rows,
    UniqueItems,
    ranking_input,
)
from tests.ranking.model.saved_models import CONFIGS, RECORD, facts
from tests.ranking.ranking_rows import CONFIG, item_features, random_rows


@ranking_input("recent_share")
class RecentShare(Reading):
    """The share of the behaviors that are at most some days old, times a trained weight."""

    needs = frozenset({"behavior_age"})

    def __init__(self, sizes: ModelSizes, *, days: float = 7.0) -> None:
        super().__init__()
        self.days, self.output_dim = days, 1
        self.scale = nn.Parameter(torch.ones(1))

    def read(self, rows: Rows) -> Tensor:
        recent = (rows.field("behavior_age") <= self.days) & rows.batch.behavior_mask
        return self.scale * recent.float().sum(dim=1, keepdim=True)


@ranking_input("length_of_vector")
class LengthOfVector(ItemFeature):
    """The L2 norm of an item's frozen vector, looked up once per distinct item, times a trained weight."""

    needs = frozenset({"vectors"})
    looked_up_dim = 1

    def __init__(self, sizes: ModelSizes) -> None:
        super().__init__()
        self.output_dim, self.asked = 1, []
        self.scale = nn.Parameter(torch.ones(1))

    def look_up(self, unique: UniqueItems) -> Tensor:
        self.asked.append(unique.item_index.tolist())
        return unique.features.rows("vectors", unique.item_index).float().norm(dim=1, keepdim=True)

    def embed(self, items: Items) -> Tensor:
        return self.scale * items.looked_up


INPUTS = {"recent_share": {"days": 10.0}, "length_of_vector": {}}


def own_model(**switches) -> RankingModel:
    torch.manual_seed(0)
    model = RankingModel(**CONFIG | {"inputs": INPUTS} | switches)
    model.set_item_features(item_features())
    return model


@pytest.mark.parametrize("name", CONFIGS)
def test_saved_names_and_logits_of_every_variant_are_as_they_were_recorded(name):
    recorded, found = json.loads(RECORD.read_text())[name], facts(name)

    assert found["state_dict"] == recorded["state_dict"]
    assert found["logits"] == pytest.approx(recorded["logits"], abs=2e-4, rel=2e-4)


def test_a_ranking_input_of_ones_own_is_an_input_beside_the_others():
    model, rows = own_model().eval(), random_rows()

    assert model.items.output_dim == own_model(inputs={}).items.output_dim + 1 == 17
    assert model.history.output_dim == 1 + 2 * 17 + 1  # count, attended and mean behaviors, recent share
    assert model.optional_fields == ("behavior_age",)
    assert [name for name in model.state_dict() if name.endswith("scale")] == [
        "items.length_of_vector.scale",
        "history.recent_share.scale",
    ]
    recent, older = (rows._replace(behavior_age=torch.full((4, 5), days)) for days in (10.0, 10.5))
    assert (model(older) != model(recent)).tolist() == [True, True, True, False]  # the last user has no behavior


def test_an_item_feature_of_ones_own_sees_each_item_of_a_batch_once():
    model, rows = own_model().eval(), random_rows()

    model(rows)

    (asked,) = model.items.length_of_vector.asked
    assert len(asked) == len(set(asked))
    assert set(asked) == {*rows.item_index.tolist(), *rows.behavior_index[rows.behavior_mask].tolist(), 0}


@pytest.mark.parametrize("beside", [{}, {"use_frozen_vector": True, "vector_dim": 3}, {"use_nearest_items": True}])
def test_an_item_feature_of_ones_own_leaves_the_content_of_others_alone(beside):
    rows = random_rows()
    inputs = {"inputs": {"length_of_vector": {}}}
    alone, both = (own_model(**beside | switches).eval() for switches in ({"inputs": {}}, inputs))

    embedding = both.item_embedding(rows.item_index, rows.item_codes)

    expected = item_features().rows("vectors", rows.item_index).norm(dim=1)
    torch.testing.assert_close(embedding[:, -1], expected)
    assert torch.equal(embedding[:, :-1], alone.item_embedding(rows.item_index, rows.item_codes))


def test_a_ranking_input_of_ones_own_is_trained_saved_and_loaded(tmp_path):
    model, rows = own_model(), random_rows()
    batches = RowsInMemory(rows, batch_size=2)

    fit(model, batches, batches, TrainingOptions(epochs=2, patience=2, use_gpu=False))
    model.eval().save_pretrained(tmp_path)
    loaded = RankingModel.from_pretrained(tmp_path)
    loaded.set_item_features(item_features())

    assert model.history.recent_share.scale.item() != 1.0
    assert model.items.length_of_vector.scale.item() != 1.0
    assert json.loads((tmp_path / "config.json").read_text())["inputs"] == INPUTS
    assert loaded.history.recent_share.days == 10.0
    assert torch.equal(loaded(rows), model(rows))


def test_a_config_that_was_saved_before_there_were_inputs_still_loads(tmp_path):
    model = own_model(inputs={}).eval()
    model.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    del saved["inputs"]
    (tmp_path / "config.json").write_text(json.dumps(saved))

    assert torch.equal(RankingModel.from_pretrained(tmp_path)(random_rows()), model(random_rows()))


def test_a_batch_or_item_features_without_what_an_input_needs_are_refused():
    with pytest.raises(ValueError, match="The batch has no behavior_age, which the model reads"):
        own_model()(random_rows()._replace(behavior_age=None))
    features = item_features()
    features.vectors = None
    with pytest.raises(ValueError, match="The item features lack vectors, which the model's inputs read"):
        own_model().set_item_features(features)


def test_a_reading_gets_only_fields_that_it_names():
    rows = Rows(random_rows()._replace(counters=None), torch.zeros(4, 1), [], None, None)

    with pytest.raises(ValueError, match="The batch holds no counters. Name it in the needs of the ranking input"):
        rows.field("counters")


def test_a_file_in_the_folder_of_modules_is_found_by_the_name_it_registers(tmp_path, monkeypatch):
    (tmp_path / "planted_reading.py").write_text(
        "from qarm_features.ranking.modules.history_features import BehaviorCount\n"
        "from qarm_features.ranking.modules.ranking_input import ranking_input\n"
        "@ranking_input('planted')\n"
        "class Planted(BehaviorCount):\n"
        "    def __init__(self, sizes):\n"
        "        super().__init__()\n"
    )
    monkeypatch.setattr(parts.modules, "__path__", [*parts.modules.__path__, str(tmp_path)])
    monkeypatch.setattr(parts, "RANKING_INPUTS", RANKING_INPUTS)

    model = RankingModel(**CONFIG, inputs={"planted": {}})

    assert model.history.planted.output_dim == 1
    del RANKING_INPUTS["planted"]


def test_an_installed_package_brings_its_inputs_by_an_entry_point(monkeypatch):
    entry = EntryPoint("from_a_package", "tests.ranking.model.input_of_a_package", parts.ENTRY_POINTS)
    monkeypatch.setattr(
        parts, "entry_points", lambda group, name: [e for e in (entry,) if (e.group, e.name) == (group, name)]
    )

    assert parts.registered_input("from_a_package").__module__ == "tests.ranking.model.input_of_a_package"


@pytest.mark.parametrize(("inputs", "message"), [
    ({"absent": {}}, r'inputs names "absent", must be one of the registered ranking inputs \(.*recent_share.*\)\. Import'),
    ({"match": {}}, 'inputs names "match", which is a part of every ranking model. Choose another name'),
])  # fmt: skip
def test_inputs_that_cannot_be_built_are_refused(inputs, message):
    with pytest.raises(ValueError, match=message):
        RankingModel(**CONFIG, inputs=inputs)


def test_needs_that_do_not_exist_are_refused():
    class Wrong(Reading):
        needs = frozenset({"color"})

    with pytest.raises(
        ValueError, match="needs of Wrong holds color, must be of behavior_age, behavior_codes, content"
    ):
        parts.needs_of([Wrong()])


def test_a_name_that_cannot_be_registered_is_refused():
    with pytest.raises(ValueError, match='name is "recent share", must be a Python identifier'):
        ranking_input("recent share")
    with pytest.raises(ValueError, match='The ranking input "recent_share" exists already, as RecentShare'):
        ranking_input("recent_share")(LengthOfVector)
    with pytest.raises(TypeError, match="Linear is neither an ItemFeature nor a Reading. Inherit from one of them"):
        ranking_input("linear")(nn.Linear)


NOTHING = Items(*(torch.empty(0) for _ in Items._fields))


def test_item_features_and_readings_that_define_nothing_are_refused():
    for call in (
        lambda: Reading().read(None),
        lambda: ItemFeature().embed(NOTHING),
        lambda: ItemFeature().look_up(None),
    ):
        with pytest.raises(NotImplementedError):
            call()


def test_item_features_without_content_tokens_cannot_be_fused():
    features = item_features()
    features.content = None

    with pytest.raises(ValueError, match="The item features hold no content tokens. Give content and content_rows"):
        features.content_and_rows()
