"""The multimodal demo draws what it says, and its last screen finds what was planted."""

from __future__ import annotations

import importlib.util
import io
import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "multimodal"


def module(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLE / f"{name}.py")
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn")
    module("draw_catalog").draw_catalog(folder, per_combination=1, users=50, impressions=200)
    return folder


def test_every_combination_of_the_three_factors_is_an_item_and_none_lacks_all(drawn):
    truth = pd.read_parquet(drawn / "factors.parquet")
    lacks = truth[["lacks_picture", "lacks_sound", "lacks_text"]]

    assert len(truth[["picture", "sound", "text"]].drop_duplicates()) == 64
    assert lacks.any().all()
    assert not lacks.all(axis=1).any()


def test_an_item_has_exactly_the_media_that_it_does_not_lack(drawn):
    items, truth = pd.read_parquet(drawn / "items.parquet"), pd.read_parquet(drawn / "factors.parquet")

    for column, lack, ending in (("poster", "lacks_picture", "png"), ("theme_sound", "lacks_sound", "wav")):
        assert (items[column].isna() == truth[lack]).all()
        assert set(items[column].dropna()) == {file.name for file in (drawn / "media").glob(f"*.{ending}")}
    assert (items["plot"].isna() == truth["lacks_text"]).all()


def test_clicks_depend_on_each_factor_by_its_strength():
    draw = module("draw_catalog")
    rng = np.random.default_rng(0)
    factors = pd.DataFrame(rng.integers(4, size=(200, 3)), columns=list(draw.FACTORS))

    log = draw.draw_clicks(factors, users=400, impressions=400, rng=rng)

    likes = np.random.default_rng(0)
    likes.integers(4, size=(200, 3))
    liked = factors.to_numpy()[log["item_id"]] == likes.integers(4, size=(400, 3))[log["user_id"]]
    for place, name in enumerate(draw.FACTORS):
        others = liked.sum(axis=1) - liked[:, place] == 0
        rates = [log["clicked"][others & (liked[:, place] == value)].mean() for value in (False, True)]
        odds = [np.log(rate / (1 - rate)) for rate in rates]
        assert odds[1] - odds[0] == pytest.approx(draw.STRENGTHS[name], abs=0.2)


def test_the_same_seed_draws_the_same_media(drawn, tmp_path):
    module("draw_catalog").draw_catalog(tmp_path, per_combination=1, users=50, impressions=200)

    files = sorted((drawn / "media").iterdir())
    assert [file.name for file in files] == sorted(file.name for file in (tmp_path / "media").iterdir())
    assert all(file.read_bytes() == (tmp_path / "media" / file.name).read_bytes() for file in files)


def test_the_screen_tells_apart_what_each_modality_finds():
    show = module("show_modalities")
    combinations = list(itertools.product(range(4), repeat=3))
    values = np.random.default_rng(0).permutation(combinations * 5)
    truth = pd.DataFrame(values, columns=list(show.FACTORS)).assign(
        lacks_picture=False, lacks_sound=np.arange(320) < 4, lacks_text=False
    )
    parts = {name: np.eye(4)[values[:, place]] for place, name in enumerate(show.FACTORS)}
    orders = {
        left_out: show.nearest(np.hstack([part for name, part in parts.items() if name != left_out]))
        for left_out in (None, *show.FACTORS)
    }
    pairs = pd.DataFrame({"user_id": range(320), "trigger": range(320), "target": orders[None][:, 3]})

    table, sentences = show.modality_table(orders, truth, pairs)
    missing = show.missing_table(orders[None], truth, np.arange(320) != 0)

    assert show.same_factor(orders["sound"], values[:, 1], np.full(320, True)) < 0.5
    assert show.same_factor(orders["sound"], values[:, 0], np.full(320, True)) > 0.5
    assert len(sentences) == 3
    assert all("more than chance" in sentence for sentence in sentences)
    screen = io.StringIO()
    Console(width=150, file=screen).print(table, missing)
    shown = " ".join(screen.getvalue().split())
    assert "all three 1.0000" in shown
    assert "lack the sound 4 3" in shown


def test_later_co_clicks_are_consecutive_clicks_of_the_last_part():
    show = module("show_modalities")
    moments = pd.date_range("2024-01-01", periods=10, freq="h", tz="UTC")
    log = pd.DataFrame({
        "user_id": [1] * 10, "item_id": range(10), "shown_at": moments, "clicked": [1, 0, 0, 0, 1, 0, 0, 1, 0, 1],
    })  # fmt: skip

    pairs = show.later_co_clicks(log, test_share=0.3)

    assert pairs[["trigger", "target"]].to_numpy().tolist() == [[4, 7], [7, 9]]


@pytest.mark.slow
def test_a_small_demo_finds_the_sound_only_by_its_sound(tmp_path):
    qarm = str(Path(sys.executable).with_name("qarm"))

    def run(*command):
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
        return done.stdout

    run(qarm, "init", ".")
    (tmp_path / "qarm.yaml").write_text((EXAMPLE / "qarm.yaml").read_text())
    run(sys.executable, str(EXAMPLE / "draw_catalog.py"), "catalog", "--per-combination", "2")
    run(qarm, "run")
    shown = run(sys.executable, str(EXAMPLE / "show_modalities.py"), ".")

    sounds = {
        reads: float(
            next(line for line in shown.splitlines() if line.startswith(f"{reads} ")).split("%")[1].split()[-1]
        )
        for reads in ("all three", "all but the sound")
    }
    assert sounds["all three"] > 60
    assert sounds["all but the sound"] < 40
