"""Draws a catalog of pictures, sounds and texts, and a click log that depends on all three.

In: a folder. Out: ``items.parquet``, ``clicks.parquet``, ``factors.parquet``, and the media below ``media``. Every item has
three factors with four values each: one only its picture shows, one only its sound has, and one only its text tells.
Users like one value of each. No job reads ``factors.parquet``: it is the truth that the last screen compares with.
"""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw

from qarm_features.extras import naming_extra

with naming_extra("Sounds of the multimodal demo", "audio"):
    import soundfile

FACTORS = ("picture", "sound", "text")
PICTURES = {"red": (220, 60, 50), "green": (60, 190, 80), "blue": (60, 90, 230), "yellow": (230, 210, 60)}
SOUNDS = ("low tone", "high buzz", "rising tone", "noise")
TEXTS = {
    "sea": (
        "pirates sail the ocean",
        "a captain steers a ship",
        "divers search an island bay",
        "waves hide a treasure",
    ),
    "space": (
        "astronauts fly a rocket",
        "a probe reaches a distant planet",
        "stars form a galaxy",
        "a crew orbits the moon",
    ),
    "kitchen": ("a chef cooks pasta", "bakers knead fresh bread", "soup boils in a restaurant", "a cook slices onions"),
    "court": (
        "a lawyer defends a client",
        "the judge hears a witness",
        "the jury reads a verdict",
        "an appeal is filed",
    ),
}
STRENGTHS = {"picture": 3.0, "sound": 3.0, "text": 2.6}  # log-odds that a value which the user likes adds to a click
BASE = -5.8  # log-odds of a click on an item of which the user likes nothing
LACKING = {"picture": 0.12, "sound": 0.12, "text": 0.12}  # share of items without that modality
SAMPLE_RATE = 16_000
_SIZE, _SECONDS = 32, 0.8


def draw_catalog(
    folder: Path, *, per_combination: int = 3, users: int = 400, impressions: int = 100, seed: int = 0
) -> None:
    """Writes the catalog and the click log, unless they exist.

    Args:
        folder: Folder to write to. It is created if it does not exist.
        per_combination: Number of items of each of the 64 combinations of the factors, at least 1.
        users: Number of users, at least 1.
        impressions: Number of items that each user is shown, at least 1.
        seed: Seed of everything that is drawn.
    """
    if (folder / "clicks.parquet").is_file():
        return
    (folder / "media").mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    combinations = [(p, s, t) for p in range(4) for s in range(4) for t in range(4)]
    factors = pd.DataFrame(rng.permutation(combinations * per_combination), columns=list(FACTORS))
    lacks = pd.DataFrame({name: rng.random(len(factors)) < share for name, share in LACKING.items()})
    lacks.loc[lacks.all(axis=1), "text"] = False  # every item keeps something
    rows = [_item(number, values, lack, folder / "media", rng) for number, (values, lack) in enumerate(
        zip(factors.to_numpy(), lacks.to_numpy(), strict=True)
    )]  # fmt: skip
    truth = factors.assign(item_id=range(len(factors)), **{f"lacks_{name}": lacks[name] for name in FACTORS})
    pd.DataFrame(rows).to_parquet(folder / "items.parquet", index=False)
    truth.to_parquet(folder / "factors.parquet", index=False)
    draw_clicks(factors, users=users, impressions=impressions, rng=rng).to_parquet(
        folder / "clicks.parquet", index=False
    )


def draw_clicks(factors: pd.DataFrame, *, users: int, impressions: int, rng: np.random.Generator) -> pd.DataFrame:
    """Draws the click log: each user likes one value of each factor.

    Args:
        factors: Values of the factors of each item.
        users: Number of users.
        impressions: Number of impressions of each user.
        rng: Source of all draws.

    Returns:
        ``user_id``, ``item_id``, ``shown_at`` (UTC, each moment once) and ``clicked`` (0 or 1).
    """
    likes = rng.integers(4, size=(users, len(FACTORS)))
    user = rng.permutation(np.repeat(np.arange(users), impressions))
    item = rng.integers(len(factors), size=len(user))
    liked = factors[list(FACTORS)].to_numpy()[item] == likes[user]
    odds = BASE + liked @ np.array([STRENGTHS[name] for name in FACTORS])
    clicked = rng.random(len(user)) < 1 / (1 + np.exp(-odds))
    shown_at = pd.to_datetime(datetime(2024, 1, 1, tzinfo=UTC)) + pd.to_timedelta(np.arange(len(user)) * 30, unit="s")
    log = pd.DataFrame({"user_id": user, "item_id": item, "shown_at": shown_at, "clicked": clicked.astype(int)})
    return log.astype({"shown_at": "datetime64[us, UTC]"})


def picture_of(value: int, rng: np.random.Generator) -> Image.Image:
    """Draws a shape of about one color on a dark ground. Shape, place, size and ground say nothing.

    Args:
        value: Number of the color in ``PICTURES``.
        rng: Source of all draws.
    """
    ground = rng.integers(0, 60, 3)
    ink = np.clip(np.array(list(PICTURES.values())[value]) + rng.integers(-25, 26, 3), 0, 255)
    image = Image.new("RGB", (_SIZE, _SIZE), tuple(int(part) for part in ground))
    draw, radius = ImageDraw.Draw(image), int(rng.integers(7, 12))
    x, y = (int(place) for place in rng.integers(radius, _SIZE - radius + 1, 2))
    color = tuple(int(part) for part in ink)
    box, shape = (x - radius, y - radius, x + radius, y + radius), int(rng.integers(3))
    if shape == 0:
        draw.ellipse(box, fill=color)
    elif shape == 1:
        draw.rectangle(box, fill=color)
    else:
        draw.polygon([(x, y - radius), (x - radius, y + radius), (x + radius, y + radius)], fill=color)
    return image


def sound_of(value: int, rng: np.random.Generator) -> np.ndarray:
    """Synthesizes a sound of random pitch and loudness.

    Args:
        value: Number of the kind in ``SOUNDS``.
        rng: Source of all draws.

    Returns:
        Samples (N,) float32 from -1 to 1, at ``SAMPLE_RATE``.
    """
    time = np.arange(int(_SECONDS * SAMPLE_RATE)) / SAMPLE_RATE
    if SOUNDS[value] == "low tone":
        wave = np.sin(2 * np.pi * rng.uniform(150, 300) * time)
    elif SOUNDS[value] == "high buzz":
        wave = np.sign(np.sin(2 * np.pi * rng.uniform(1500, 2500) * time))
    elif SOUNDS[value] == "rising tone":
        begin, rise = rng.uniform(300, 600), rng.uniform(1500, 3000)
        wave = np.sin(2 * np.pi * (begin * time + rise * time**2 / (2 * _SECONDS)))
    else:
        wave = rng.normal(scale=0.4, size=len(time))
    noisy = rng.uniform(0.3, 0.8) * wave + rng.normal(scale=0.02, size=len(time))
    return np.clip(noisy, -1, 1).astype(np.float32)


def _item(
    number: int, values: np.ndarray, lacks: np.ndarray, media: Path, rng: np.random.Generator
) -> dict[str, object]:
    """Writes the media of an item and returns its row of the catalog. Its title, which people read, is not encoded."""
    picture, sound, text = (int(value) for value in values)
    drawn, heard = picture_of(picture, rng), sound_of(sound, rng)
    theme = list(TEXTS)[text]
    names = (list(PICTURES)[picture], SOUNDS[sound], theme)
    said = ". ".join(rng.choice(TEXTS[theme], 2, replace=False))
    if not lacks[0]:
        drawn.save(media / f"{number}.png")
    if not lacks[1]:
        soundfile.write(media / f"{number}.wav", heard, SAMPLE_RATE)
    return {
        "item_id": number,
        "title": ", ".join(
            f"(no {kind})" if lack else name for kind, lack, name in zip(FACTORS, lacks, names, strict=True)
        ),
        "plot": None if lacks[2] else said,
        "poster": None if lacks[0] else f"{number}.png",
        "theme_sound": None if lacks[1] else f"{number}.wav",
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Draw the catalog of the multimodal demo.")
    parser.add_argument("folder", type=Path)
    for name, default in (("per-combination", 3), ("users", 400), ("impressions", 100)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    draw_catalog(
        given.folder, per_combination=given.per_combination, users=given.users, impressions=given.impressions
    )  # fmt: skip
