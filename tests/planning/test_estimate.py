from __future__ import annotations

from dataclasses import replace

import pytest

from qarm_features.planning.estimate import estimates
from qarm_features.planning.sizes import Cluster, PlanError, Sizes
from tests.planning.examples import constants

SIZES = Sizes(items=10**7, events=10**8, users=2 * 10**6, encoder_gflops_per_item=0.5)
QUADRATIC = {"find_nearest_items", "train_ranking_model", "embed_items"}


def test_twice_the_items_take_twice_the_core_hours_where_a_stage_is_linear():
    known = constants()
    small, large = (estimates(SIZES.scaled(items), Cluster(), known) for items in (10**7, 2 * 10**7))

    grown = {a.stage: b.core_hours / a.core_hours for a, b in zip(small, large) if a.core_hours}

    assert {stage: ratio for stage, ratio in grown.items() if stage not in QUADRATIC} == pytest.approx(
        {stage: 2.0 for stage in grown if stage not in QUADRATIC}, rel=0.001
    )
    assert all(grown[stage] > 2 for stage in QUADRATIC if stage in grown)


def test_more_items_take_more_and_more_executors_take_no_longer():
    known = constants(fixed=1.0)
    base, more_items, more_executors = (
        estimates(sizes, cluster, known)
        for sizes, cluster in (
            (SIZES, Cluster(executors=8)),
            (SIZES.scaled(3 * 10**7), Cluster(executors=8)),
            (SIZES, Cluster(executors=16)),
        )
    )

    assert all(b.wall_hours > a.wall_hours for a, b in zip(base, more_items))
    assert all(b.wall_hours <= a.wall_hours for a, b in zip(base, more_executors))


def test_a_stage_waits_for_what_is_done_once_and_shares_the_rest_among_the_cores():
    cluster = Cluster(executors=5, cores_per_executor=2)
    sizes = replace(SIZES, positive_share=0.0, impressions=0)

    mined = estimates(sizes, cluster, constants(fixed=36.0))[1]
    ingested = estimates(sizes, cluster, constants(seconds=1e-9, fixed=36.0))[0]

    assert mined.wall_hours == pytest.approx(0.01)
    assert ingested.wall_hours == pytest.approx(0.01 + ingested.core_hours / (10 * 0.5))
    assert ingested.executor_hours == pytest.approx(5 * ingested.wall_hours)


def test_embedding_reads_the_items_once_for_each_commit():
    once, often = (replace(SIZES, items_per_commit=n) for n in (10**7, 10**6))

    read = [estimates(sizes, Cluster(), constants())[3].read_bytes for sizes in (once, often)]

    assert read[1] == pytest.approx(10 * read[0], rel=0.001)


@pytest.mark.parametrize(
    ("lacking", "message"),
    [
        ({}, "The constants say nothing of ingest_catalog. Measure them anew: make calibrate"),
        ({"ingest_catalog": {"cpu_seconds": {"item_bytes": 1}}}, "The constants of ingest_catalog lack event_rows."),
    ],
)
def test_constants_that_lack_a_stage_or_a_unit_are_refused(lacking, message):
    with pytest.raises(PlanError, match=message):
        estimates(SIZES, Cluster(), constants(stages=lacking))
