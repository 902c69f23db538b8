"""A made-up grocery chain goes through the jobs: no row sees its own week, and runs are trained on the result."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch
from ranking_completejourney import pipeline
from ranking_completejourney.past_counts import past_counts
from ranking_completejourney.rows import Histories, read_histories, require_no_leak
from ranking_completejourney.slices import slices_of
from ranking_completejourney.source import log_of, moment, split_of
from ranking_completejourney.training import train
from ranking_completejourney.variants import BASE, ROWS, Run
from ranking_completejourney.worlds import Worlds
from ranking_project import jobs
from rival_codes.journey_ranking import JourneyRanking

from tests.benchmarks.completejourney_toy import WEEKS, toy_source

LENGTH = 50

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def worlds(tmp_path_factory, spark):
    """The frozen project after its jobs. It uses the session of the suite."""
    source = toy_source()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "CODEBOOKS", {"num_levels": 2, "codebook_size": 4})
        made = Worlds(
            tmp_path_factory.mktemp("chain"), source, source.impressions, past_counts(source, source.impressions)
        )
        made.of(Run(ROWS[0], None, None, 0))
    return made


@pytest.fixture(scope="module")
def histories(worlds) -> Histories:
    _, prepared, vocabulary, _ = worlds._project(None)
    files = [file for split in jobs.SPLITS for file in prepared.rows[split]]
    return read_histories(files, vocabulary, codes=worlds._codes(None, 0).numpy())


def test_histories_are_the_latest_purchases_of_earlier_weeks_in_the_order_of_the_receipts(worlds, histories):
    _, _, vocabulary, _ = worlds._project(None)
    bought = worlds.source.purchases.sort_values("transaction_timestamp")
    bought = bought[bought.product_id.isin(worlds.source.impressions.product_id)]
    of_household = dict(list(bought.groupby("household_id")))
    week_of = dict(zip(moment(pd.Series(range(1, WEEKS + 1))), range(1, WEEKS + 1)))
    ids = vocabulary.ids.to_numpy()

    assert len(histories.keys) == len(log_of(worlds.source))
    for row in np.random.default_rng(0).choice(len(histories.keys), 500, replace=False):
        key = histories.keys.iloc[row]
        past = of_household[key.user_id]
        week = week_of[pd.Timestamp(key.event_timestamp).tz_localize(None).tz_localize("UTC")]
        expected = past.product_id[past.week < week].to_numpy()[-LENGTH:]
        found = histories.items[row][: histories.length[row]].numpy()
        assert ids[found - 1].tolist() == expected.tolist()


def test_no_history_holds_anything_of_the_own_visit(worlds, histories):
    require_no_leak(histories, log_of(worlds.source))

    assert histories.youngest.min() == 7.0


def test_other_codes_than_those_of_the_items_are_refused(worlds):
    _, prepared, vocabulary, _ = worlds._project(None)
    codes = worlds._codes(None, 0).numpy().copy()
    codes[5, 0] = (codes[5, 0] + 1) % 4

    with pytest.raises(ValueError, match="other codes than item_semantic_ids"):
        read_histories(prepared.rows["train"], vocabulary, codes=codes)


def test_every_impression_has_its_history_once_per_store(worlds):
    impressions, rows = worlds.source.impressions, worlds._rows

    split = split_of(impressions.week)
    assert {name: len(batch.label) for name, batch in rows.items()} == {
        name: int((split == name).sum()) for name in ("train", "valid", "test")
    }
    test = impressions[split == "test"]
    assert rows["test"].label.tolist() == test.label.tolist()
    assert rows["test"].user_group.tolist() == test.household_id.tolist()
    assert rows["test"].counters[:, 0].tolist() == worlds.counts.bought[split == "test"].tolist()


@pytest.mark.parametrize("name", ["item IDs", "+ unaligned RQ", "+ EM3 with CIC"])
def test_a_run_is_trained_and_finds_repeat_purchase(worlds, name):
    row = next(row for row in ROWS if row.name == name)
    run = Run(row, None, 0 if row.reads_codes else None, 0)
    impressions = worlds.source.impressions
    split = split_of(impressions.week)
    test, shown = impressions[split == "test"], impressions[split == "train"]
    slices = slices_of(test, shown, bought=worlds.counts.bought[split == "test"])

    figures, logit = train(run, *worlds.of(run), slices, threads=1, epochs=2)

    assert len(logit) == len(test)
    assert figures["test"]["all"] > 0.8  # as the count alone
    assert figures["test"]["new products"] is None  # the toy chain has none
    assert figures["epochs"] == len(figures["valid_auc_by_epoch"]) == 2


def test_codes_of_a_rival_take_the_place_of_the_own_ones(worlds):
    ranking = JourneyRanking(worlds, epochs=1)
    item_id, vectors = ranking.embeddings()
    seen = []

    def train_and_look(run, world, codes, *arguments, **options):
        seen.append((run.row.name, world.codes["num_levels"], world.codes["codebook_size"], codes))
        return train(run, world, codes, *arguments, **options)

    codes = np.stack([item_id % 3, item_id % 7, item_id % 2], axis=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rival_codes.journey_ranking.train", train_and_look)
        found = [ranking.aucs(item_id, given, [3, 7, 2], seed=0, threads=1) for given in (codes, None)]

    assert item_id.tolist() == sorted(item_id) and len(vectors) == len(item_id)
    assert [one["auc"] > 0.5 and one["auc_new"] is None for one in found] == [True, True]
    (name, levels, size, given), (without, *_) = seen
    assert (name, levels, size, without) == ("+ unaligned RQ", 3, 7, "item IDs")
    ids = worlds.vocabulary(None).ids.to_numpy()
    assert given[1:, 1].tolist() == (ids % 7).tolist()
    assert given[0].tolist() == [-1, -1, -1]


def test_every_row_reads_the_repeat_counts(worlds):
    from ranking_project.model import make_model

    world, _ = worlds.of(Run(ROWS[0], None, None, 0))
    batch = world.rows["test"]
    codes = torch.full((len(batch.label), 2), -1)
    batch = batch._replace(
        item_codes=codes, behavior_index=batch.behavior_index.long(),
        behavior_codes=torch.full((*batch.behavior_index.shape, 2), -1),
    )  # fmt: skip
    more = batch._replace(counters=batch.counters + 5)

    for row in ROWS:
        model = make_model({**BASE, **row.switches}, dataclasses.replace(world), seed=0).eval()
        assert "counters" in model.needs, row.name
        assert not torch.equal(model(batch), model(more)), row.name
