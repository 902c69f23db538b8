"""The constants that a calibration writes, from runs that were kept."""

from __future__ import annotations

import json
from dataclasses import asdict

import calibrate
import pytest
from planning_runs.fitting import work_of
from planning_runs.measured import STAGES

from qarm_features.planning.constants import load_constants
from qarm_features.planning.estimate import estimates
from qarm_features.planning.sizes import Cluster, Sizes

_MACHINE = {"processor": "test", "cores": 2, "memory_gib": 8, "load_average": 1.0, "versions": {"numpy": "2"}}
_RATES = (
    "multiply_adds",
    "start_multiply_adds",
    "search_multiply_adds",
    "table_updates",
    "laid_out_bytes",
    "encoder_flops",
    "rescanned_bytes",
    "pair_passes",
)


def keep_runs(folder) -> None:
    """Writes runs in which a stage takes 8 seconds, of which the driver takes 2, and a millionth more for each unit."""
    for name, world in calibrate.WORLDS.items():
        records = []
        for stage in (one for one in STAGES if one not in calibrate.LEFT_OUT[name]):
            record = {"stage": stage, "world": asdict(world), "iterations": None, "wall_seconds": 20.0}
            units = {unit: amount for unit, amount in work_of(record).units.items() if unit not in _RATES}
            record |= {"cpu_seconds": 8.0 + 1e-6 * sum(units.values()), "driver_cpu_seconds": 2.0}
            records.append(record | {"spark": {"input": 100 + sum(units.values()), "output": 0, "shuffle": 0}})
        (folder / f"{name}.json").write_text(json.dumps({"machine": _MACHINE, "records": records}))
    (folder / "rates.json").write_text(json.dumps(dict.fromkeys(_RATES, 0.0)))
    keys = [{"key": "item_id", "levels": 3, "releases": n, "bytes_per_row": 200.0 + n} for n in (1, 2)]
    keys += [{"key": "user_id", "length": n, "bytes_per_row": 100.0 * n} for n in (5, 50)]
    (folder / "redis.json").write_text(json.dumps(keys))


def test_kept_runs_become_constants_with_which_every_stage_can_be_planned(tmp_path):
    keep_runs(tmp_path)
    (tmp_path / "constants.json").write_text(json.dumps(calibrate.constants_of(tmp_path)))

    known = load_constants(tmp_path / "constants.json")

    embed = known.of("embed_items").cpu_seconds
    assert (embed["fixed"], embed["item_bytes"]) == pytest.approx((6.0, 1e-6), rel=0.01)
    assert known.of("embed_items").read_bytes["item_bytes"] == pytest.approx(1.0, rel=0.01)
    assert known.of("build_training_set").driver_seconds["fixed"] == pytest.approx(2.0, rel=0.01)
    stages = estimates(Sizes(items=10**6, events=10**7, users=10**5, encoder_gflops_per_item=1.0), Cluster(), known)
    assert {one.stage for one in stages} == {*STAGES, "align_encoder", "write_content_tokens"}


def test_what_was_measured_is_printed_beside_what_the_constants_say(tmp_path, capsys):
    keep_runs(tmp_path)

    calibrate.constants_of(tmp_path)

    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("write_report"))
    assert "20.0 s wall" in line
    measured, said = line.split(" s wall, ")[1].split(" processor s, by the constants ")
    assert float(said) == pytest.approx(float(measured), rel=0.05)
