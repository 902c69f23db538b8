from __future__ import annotations

import pytest

from qarm_features.planning import memory
from qarm_features.planning.limits import breaking_size, first_to_break, limits
from qarm_features.planning.sizes import GIB, Cluster, Sizes
from tests.planning.examples import constants

SIZES = Sizes(items=10**8, events=10**9, users=2 * 10**7, codebook_size=8_192)
ROOMY = {"driver_memory_gib": 1e6, "driver_results_gib": 1e6, "redis_memory_gib": 1e6, "executor_disk_gib": 1e6}


@pytest.mark.parametrize(
    ("scarce", "part"),
    [
        ({"redis_memory_gib": 1.0}, "Redis memory"),
        ({"driver_results_gib": 0.2}, "results of a Lloyd step on the driver"),
        ({"executor_disk_gib": 1.0}, "executor disk of a fit"),
        ({"driver_memory_gib": 3.0}, "table of item IDs in a training process"),
        ({"executor_memory_gib": 0.5}, "executor memory of a Lloyd step"),
    ],
)
def test_the_part_that_fails_first_is_the_one_that_a_setting_makes_scarce(scarce, part):
    found = limits(SIZES, Cluster(**ROOMY | scarce), constants())

    assert first_to_break(found, "fails").part == part


def test_a_stage_gets_too_slow_later_with_a_later_deadline():
    early, late = (
        first_to_break(limits(SIZES, Cluster(deadline_hours=hours), constants()), "slow").breaks_at_items
        for hours in (1.0, 10.0)
    )

    assert early < late


def test_more_partitions_of_a_shuffle_spill_later():
    few, many = (
        first_to_break(limits(SIZES, Cluster(shuffle_partitions=n), constants()), "spills").breaks_at_items
        for n in (100, 1_000)
    )

    assert many == pytest.approx(10 * few, rel=0.01)


def test_a_part_needs_more_than_there_is_from_its_breaking_size_on():
    known, cluster = constants(), Cluster(redis_memory_gib=10)

    found = next(one for one in limits(SIZES, cluster, known) if one.part == "Redis memory")
    needed = [memory.redis_bytes(SIZES.scaled(n), known.redis) / GIB for n in (found.breaks_at_items, 10**7)]

    assert found.is_reached and needed[0] > 10 > needed[1]


def test_a_part_that_no_size_breaks_has_no_breaking_size():
    assert breaking_size(SIZES, lambda sizes: 1.0, 2.0) is None


def test_what_a_run_leaves_out_by_default_breaks_no_run():
    found = limits(SIZES, Cluster(**ROOMY, deadline_hours=1e9), constants())

    assert not next(one for one in found if one.part.startswith("executor disk of the bank")).in_run
    assert all(one.in_run for one in (first_to_break(found, "fails"), first_to_break(found, "spills")) if one)
