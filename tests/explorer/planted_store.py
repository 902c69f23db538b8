"""A store of made-up items with pictures, hostile titles, users, moves and figures, as a browser may have to show them."""

from __future__ import annotations

import io
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from qarm_features.explorer.schema import FILE, CollisionRow, ItemRow, NearIds, NodeRow, UserRow
from qarm_features.explorer.store import Explorer
from qarm_features.explorer.store_writer import StoreWriter
from qarm_features.storage.artifacts import Artifacts

LEVELS, SIZE = 3, 8
WORDS = ["lamp", "chair", "river", "opera", "engine", "garden", "copper", "winter"]
KINDS = ["classic", "portable", "handmade", "vintage", "wireless", "folding", "deluxe", "compact"]
HOSTILE = {
    "img": "<img src=x onerror=\"window.broken='img'\">",
    "script": "</script><script>window.broken='script'</script>",
    "quotes": "\"quoted\" 'single' `tick` ${window.broken='tick'} {{b}} {a|rich}",
    "rtl": "abc \u202egnp.exe مرحبا بالعالم",
    "emoji": "👩\u200d👩\u200d👧\u200d👦 family 🏳️\u200d🌈 pack",
    "a/b?c#d%2F&é": "Slashes, marks and letters",
    ".": "One dot",
    "..": "Two dots",
    "long": "Averyveryverylongtitlewithoutanyspace" * 8,
    "untitled": "",
}
RELEASES = [
    {"release": "item_semantic_id__cb1", "codebook_version": 1, "published_at": "2026-11-20T10:00:00+00:00"},
    {"release": "item_semantic_id__cb0", "codebook_version": 0, "published_at": None},
]
MADE_AT = "2026-11-21T10:00:00+00:00"


def planted_items(num_items: int = 300) -> list[ItemRow]:
    """Returns items in the order of their codes; those of ``HOSTILE`` are spread among them."""
    random = np.random.default_rng(0)
    weights = np.arange(SIZE, 0, -1) ** 1.2
    codes = random.choice(SIZE, size=(num_items, LEVELS), p=weights / weights.sum())
    ids = [*HOSTILE, *(f"sku-{number}" for number in range(num_items - len(HOSTILE)))]
    rows = []
    for row, (item_id, (c1, c2, c3)) in enumerate(zip(ids, codes.tolist())):
        title = HOSTILE.get(item_id, f"{KINDS[c2].title()} {WORDS[c1]} {WORDS[c3]} no. {row}")
        near = NearIds([ids[(row + step) % num_items] for step in range(1, 11)], [0.99 - 0.03 * n for n in range(10)])
        clicked = NearIds(ids[:7], [float(30 - n) for n in range(7)]) if row % 2 else NearIds()
        before = f"{c1}.{(c2 + 1) % SIZE}.{c3}" if row % 3 else None
        text = f"{title}. A text that the encoder read.\nIt has two lines."
        picture = _picture(c1, c2, c3) if row % 3 else None
        history = [f"{c1}.{c2}.{c3}", before]
        rows.append(ItemRow(item_id, title, text, [c1, c2, c3], row % 97, picture, near, clicked, history))
    return sorted(rows, key=lambda row: list(row.rq_codes))


def _picture(c1: int, c2: int, c3: int) -> bytes:
    x, y = np.meshgrid(np.arange(48), np.arange(48))
    pixels = np.stack([(x * (c1 + 2) * 2) % 256, (y * (c2 + 2) * 2) % 256, (x + y + c3 * 32) % 256], axis=2)
    stream = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(stream, "JPEG", quality=60)
    return stream.getvalue()


def _nodes(rows: list[ItemRow]) -> list[NodeRow]:
    below: dict[tuple[int, ...], list[ItemRow]] = defaultdict(list)
    for row in rows:
        for level in range(LEVELS + 1):
            below[tuple(row.rq_codes[:level])].append(row)
    nodes = []
    for codes, some in below.items():
        level = len(codes)
        children = len({row.rq_codes[level] for row in some}) if level < LEVELS else 0
        words = [names[code] for names, code in zip((WORDS, KINDS, WORDS), codes)]
        typical = [row.item_id for row in some[:4]]
        nodes.append(NodeRow(codes, len(some), children, sum(row.positives for row in some), words, typical))
    return nodes


def _users(rows: list[ItemRow], *, ranked: bool) -> list[UserRow]:
    behavior = [(f"2026-11-{20 - n:02d}T10:00:00+00:00", row.item_id) for n, row in enumerate(rows[:9])]
    candidates = []
    for n, row in enumerate(rows[5:20]):
        matched = [
            [one.item_id for one in rows[:9] if one.rq_codes[: k + 1] == row.rq_codes[: k + 1]] for k in range(3)
        ]
        score = 0.9 - 0.05 * n if ranked else None
        label = [1, 0, None][n % 3]
        counts = [len(some) for some in matched]
        candidates.append(
            {"item": row.item_id, "score": score, "label": label, "matches": counts, "matched": matched[0][:5]}
        )
    return [UserRow(user_id, behavior, candidates) for user_id in ("1", "12", "user/7 <b>")]


def _documents(rows: list[ItemRow], *, ranked: bool, items: int) -> dict[str, Any]:
    random = np.random.default_rng(1)
    codes = np.array([row.rq_codes for row in rows])
    places = random.normal(size=(SIZE, 2))[codes[:, 0]] * 20 + random.normal(size=(len(rows), 2)) * 3
    full = [row for row in _nodes(rows) if len(row.rq_codes) == LEVELS]
    now = RELEASES[0]["release"]
    moved = {
        "before": RELEASES[1]["release"], "now": now, "items_in_both": 200, "kept": 150, "new_items": 100, "gone_items": 1,
        "branches": [
            {"prefix": str(code), "items": 40, "kept": 0.5, "kept_first": 0.75,
             "to": [[str(code), 30], [str((code + 3) % SIZE), 10]]}
            for code in range(SIZE)
        ],
    }  # fmt: skip
    first = {**moved, "before": None, "branches": [], "items_in_both": 0, "kept": 0}
    figure = ("group", "name", "value", "low", "high", "history", "higher_is_better")
    figures = [
        ("codes", "items that share their semantic ID", 0.12, None, None, [("cb0", 0.2)], False),
        ("neighbors", "overlap of prefix and vector neighbors", 0.41, 0.38, 0.44, [], True),
        ("ranking", "AUC, item IDs alone", 0.7097, 0.7061, 0.7133, [], True),
        ("ranking", "AUC, item IDs + semantic IDs", 0.7224, 0.7188, 0.726, [("cb0", 0.719)], True),
    ]
    return {
        "summary": {
            "project": "planted <b>", "release": now, "published_at": RELEASES[0]["published_at"], "codebook_version": 1,
            "encoder_version": 0, "num_levels": LEVELS, "codebook_sizes": [SIZE] * LEVELS, "items": items,
            "shown_items": len(rows), "distinct_ids": len(full),
            "colliding_items": sum(row.items for row in full if row.items > 1), "users": 3,
            "releases": [one["release"] for one in RELEASES], "rejected": [["items", "no <title> and no text", 12]],
            "level_uses": [[len(set(codes[:, level].tolist())), SIZE] for level in range(LEVELS)],
        },
        "releases": RELEASES,
        "model": "item IDs + semantic IDs v3" if ranked else "",
        "map": {
            "item_id": [row.item_id for row in rows], "title": [row.title for row in rows],
            "x": places[:, 0].round(3).tolist(), "y": places[:, 1].round(3).tolist(), "rq_codes": codes.tolist(),
            "sampled": items > len(rows), "method": "The places were computed by t-SNE from the embeddings.",
        },
        "moves": moved if ranked else first,
        "figures": [dict(zip(figure, row)) for row in figures if ranked or row[0] != "ranking"],
        "lineage": _lineage(),
    }  # fmt: skip


def _lineage() -> list[dict[str, Any]]:
    made_of = {
        "catalog/items.parquet": ("source", []),
        "items": ("table", ["catalog/items.parquet"]),
        "encoder v0": ("artifact", []),
        "item_embeddings": ("table", ["items", "encoder v0"]),
        "codebooks v1": ("artifact", ["item_embeddings"]),
        "item_semantic_ids": ("table", ["item_embeddings", "codebooks v1"]),
        "item_semantic_id__cb1": ("release", ["item_semantic_ids"]),
    }
    return [
        {"name": name, "kind": kind, "version": 3, "made_at": MADE_AT, "made_of": parents, "details": {"rows": "1,500"}}
        for name, (kind, parents) in made_of.items()
    ]


def write_planted_store(artifacts: Path, *, ranked: bool = True, items: int | None = None) -> Explorer:
    """Returns an explorer of 300 items.

    Args:
        artifacts: Folder of the artifacts of a project.
        ranked: Whether there are scores, figures of ranking and a release before.
        items: Number of items of the catalog, where the explorer has only a sample.
    """
    rows = planted_items()
    full = [row for row in _nodes(rows) if len(row.rq_codes) == LEVELS and row.items > 1]

    def write(folder: Path) -> None:
        writer = StoreWriter(folder / FILE)
        writer.add_items(rows)
        writer.add_nodes(_nodes(rows))
        writer.add_collisions(
            CollisionRow(row.rq_codes, row.items, 0) for row in sorted(full, key=lambda row: -row.items)
        )
        writer.add_users(_users(rows, ranked=ranked))
        writer.add_documents(_documents(rows, ranked=ranked, items=items or len(rows)))
        writer.finish()

    Artifacts(artifacts, "explorers").publish(write, made_at=MADE_AT)
    return Explorer.latest(artifacts)
