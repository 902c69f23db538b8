from __future__ import annotations

import json
from datetime import date

import pytest

from qarm_features.planning.constants import load_constants
from qarm_features.planning.memory import interpolated
from qarm_features.planning.plan import make_plan
from qarm_features.planning.sizes import Cluster, PlanError, Sizes
from tests.planning.examples import constants


def test_the_shipped_constants_name_their_machine_and_give_a_plan():
    known = load_constants()

    plan = make_plan(Sizes(items=10**6, events=10**7, users=10**5), Cluster(), known, date(2027, 1, 1))

    assert known.machine.cores >= 1 and known.machine.processor
    assert plan.age_days == (date(2027, 1, 1) - known.measured_on).days
    assert plan.wall_hours > 0


def test_constants_are_the_same_after_they_were_written_and_read(tmp_path):
    file, known = tmp_path / "constants.json", constants()
    file.write_text(known.model_dump_json())

    assert load_constants(file) == known


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("no JSON", "which holds no constants of a plan"),
        (json.dumps({"machine": 1}), "which holds no constants of a plan \\(machine: "),
    ],
)
def test_a_file_that_holds_no_constants_is_refused(tmp_path, content, message):
    file = tmp_path / "constants.json"
    file.write_text(content)

    with pytest.raises(PlanError, match=message):
        load_constants(file)


def test_a_file_of_constants_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(PlanError, match="--constants is .*, must be a file. Write one: make calibrate"):
        load_constants(tmp_path / "none.json")


def test_bytes_between_measured_lengths_lie_on_a_line():
    points = [(10.0, 500.0), (50.0, 2_000.0)]

    assert [interpolated(points, place) for place in (10, 30, 50, 90)] == [500.0, 1_250.0, 2_000.0, 3_500.0]
