from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from qarm_features.cli import main as cli
from qarm_features.planning.plan_text import hours, scaled

FLAGS = ["plan", "--items", "1_000_000_000", "--dim", "256", "--codebook-size", "8192", "--executors", "64"]


def said(*flags: str) -> str:
    done = CliRunner().invoke(cli.app, [*FLAGS, *flags])
    assert done.exit_code == 0, done.output
    return done.output


def test_text_and_json_of_a_plan_agree():
    text, plan = said(), json.loads(said("--json"))

    lines = {line.split()[0]: line for line in text.splitlines() if line}
    for stage in plan["stages"]:
        line = lines[stage["stage"].replace("_", "-")]
        assert line.split()[-1] == hours(stage["wall_hours"])
        assert scaled(stage["shuffle_bytes"]) in line
    assert f"Fails first: {plan['first_failure']}, from" in text
    assert f"Gets too slow first: {plan['first_slowness']}, from" in text
    assert f"Redis: {scaled(plan['artifact_bytes']['Redis'])}" in text


def test_a_plan_says_that_it_is_an_estimate_and_where_its_constants_come_from():
    text, plan = said(), json.loads(said("--json"))

    machine = plan["constants"]["machine"]
    assert text.startswith("ESTIMATE for 1,000,000,000 items of 256 numbers")
    assert f"measured on {plan['constants']['measured_on']}" in text
    assert machine["processor"] in text and f"on {machine['cores']} cores" in text
    assert plan["is_an_estimate"] is True


def test_events_and_users_follow_from_items_if_they_are_not_given():
    default, given = json.loads(said("--json")), json.loads(said("--json", "--events", "5_000", "--users", "10"))

    assert (default["sizes"]["events"], default["sizes"]["users"]) == (10_000_000_000, 200_000_000)
    assert (given["sizes"]["events"], given["sizes"]["users"]) == (5_000, 10)


def test_an_impossible_size_is_refused_before_anything_is_computed():
    with pytest.raises(ValueError, match="--dim is 0, must be at least 1."):
        CliRunner().invoke(cli.app, [*FLAGS, "--dim", "0"], catch_exceptions=False)
