from __future__ import annotations

import pytest

from qarm_features.planning.sizes import Cluster, PlanError, Sizes
from qarm_features.settings.codes import Codebooks


def test_sizes_keep_their_shape_at_another_number_of_items():
    sizes = Sizes(items=1_000, events=10_000, users=200, codebook_size=64)

    doubled = sizes.scaled(2_000)

    assert (doubled.items, doubled.events, doubled.users, doubled.codebook_size) == (2_000, 20_000, 400, 64)


def test_defaults_are_those_of_the_settings():
    sizes = Sizes(items=1_000, events=1, users=1)

    assert (sizes.levels, sizes.codebook_size, sizes.max_iter) == (3, 256, Codebooks().max_iter)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"items": 0}, "--items is 0, must be at least 1."),
        ({"items": 10**14}, "--items is 100000000000000, must be at most 10000000000000."),
        ({"dim": 0}, "--dim is 0, must be at least 1."),
        ({"levels": 17}, "--levels is 17, must be at most 16."),
        ({"codebook_size": 2_000}, "--codebook-size is 2000, must be at most --items, 1000"),
        ({"positive_share": 1.5}, "--positive-share is 1.5, must be from 0 to 1."),
        ({"positive_share": -0.1}, "--positive-share is -0.1, must be at least 0."),
    ],
)
def test_a_size_that_no_catalog_has_is_refused(changed, message):
    with pytest.raises(PlanError, match=message):
        Sizes(**({"items": 1_000, "events": 10, "users": 10} | changed))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"executors": 0}, "--executors is 0, must be at least 1."),
        ({"redis_memory_gib": 0.0}, "--redis-memory-gib is 0.0, must be above 0."),
        ({"driver_memory_gib": float("nan")}, "--driver-memory-gib is nan, must be above 0."),
    ],
)
def test_a_size_that_no_cluster_has_is_refused(changed, message):
    with pytest.raises(PlanError, match=message):
        Cluster(**changed)
