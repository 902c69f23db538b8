"""How fast the explorer answers about a catalog of 1,000,000 items, and how large its file is.

In: nothing; items are generated. Out: seconds to write the file by the explorer's own writer, its size, the memory of the
process, and for each method of ``Explorer`` the median and the 99th percentile of its time, each call about another item,
prefix, user or query, on the clock and of a core. The peer is the same question without an index: a scan of all titles by
LIKE.

Run: python benchmarks/explore.py [--items 1000000] [--folder FOLDER]
"""

from __future__ import annotations

import argparse
import resource
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from qarm_features.explorer.schema import FILE, CollisionRow, ItemRow, NearIds, NodeRow, UserRow, prefix_of
from qarm_features.explorer.store import Explorer
from qarm_features.explorer.store_writer import StoreWriter
from qarm_features.storage.artifacts import Artifacts

LEVELS, SIZE, USERS, NEAR, CALLS, CHUNK = 3, 256, 1_000, 10, 300, 10_000
WORDS = np.array(
    [a + b + c for a in ("sun", "red", "old", "ice", "war") for b in "aeiou" for c in ("n", "r", "st", "l")]
)


def codes_of_items(items: int) -> np.ndarray:
    """Returns codes (items, LEVELS) in their order. Popular codes have many items, as in a real catalog."""
    draws = np.random.default_rng(0).random((items, LEVELS)) ** 1.5
    codes = (SIZE * draws).astype(np.int64)
    return codes[np.lexsort(codes.T[::-1])]


def titles_of(items: int) -> list[str]:
    words = WORDS[np.random.default_rng(5).integers(len(WORDS), size=(items, 4))].tolist()
    return [f"{' '.join(own)} ({1900 + item % 120})" for item, own in enumerate(words)]


def item_rows(codes: np.ndarray, titles: list[str]) -> Iterator[ItemRow]:
    random = np.random.default_rng(1)
    for start in range(0, len(codes), CHUNK):
        part = codes[start : start + CHUNK].tolist()
        positives = (random.pareto(1.0, size=len(part)) * 5).astype(np.int64).tolist()
        others = random.integers(len(codes), size=(len(part), NEAR)).astype(str).tolist()
        for place, own in enumerate(part):
            item, near = start + place, NearIds(others[place], [0.5] * NEAR)
            text = titles[item] + " " + "What people are told about this item. " * 6
            history = [prefix_of(own), prefix_of(own[::-1])]
            yield ItemRow(str(item), titles[item], text, own, positives[place], None, near, near, history)


def node_rows(codes: np.ndarray) -> Iterator[NodeRow]:
    for level in range(LEVELS + 1):
        prefixes, counts = np.unique(codes[:, :level], axis=0, return_counts=True)
        longer = np.unique(codes[:, : level + 1], axis=0) if level < LEVELS else np.zeros((0, LEVELS))
        _, children = np.unique(longer[:, :level], axis=0, return_counts=True)
        children = children if level < LEVELS else np.zeros(len(prefixes), int)
        starts = np.cumsum(counts) - counts
        for prefix, items, below, start in zip(prefixes.tolist(), counts, children, starts):
            typical = [str(start + number) for number in range(min(4, items))] if items > 1 else []
            words = WORDS[:5].tolist() if items > 1 else []
            yield NodeRow(prefix, int(items), int(below), int(items), words, typical)


def collision_rows(codes: np.ndarray) -> Iterator[CollisionRow]:
    ids, counts = np.unique(codes, axis=0, return_counts=True)
    for place in np.argsort(-counts, kind="stable"):
        if counts[place] > 1:
            yield CollisionRow(ids[place].tolist(), int(counts[place]), 0)


def user_rows(items: int) -> Iterator[UserRow]:
    random = np.random.default_rng(2)
    for user in range(USERS):
        some = [str(one) for one in random.integers(items, size=70)]
        candidates = [
            {"item": one, "score": 0.5, "label": 1, "matches": [3, 1, 0], "matched": some[:5]} for one in some[50:]
        ]
        yield UserRow(str(user), [("2024-01-01T00:00:00+00:00", one) for one in some[:50]], candidates)


def documents(codes: np.ndarray, titles: list[str]) -> dict:
    shown = np.linspace(0, len(codes) - 1, min(20_000, len(codes))).astype(int).tolist()
    places = np.random.default_rng(3).normal(size=(len(shown), 2)).round(3)
    summary = {
        "project": "generated", "release": "item_semantic_id__cb1", "published_at": None, "codebook_version": 1,
        "encoder_version": 0, "num_levels": LEVELS, "codebook_sizes": [SIZE] * LEVELS, "items": len(codes),
        "shown_items": len(codes), "distinct_ids": len(np.unique(codes, axis=0)), "colliding_items": 0, "users": USERS,
        "releases": ["item_semantic_id__cb1", "item_semantic_id__cb0"], "rejected": [],
        "level_uses": [[SIZE, SIZE]] * LEVELS,
    }  # fmt: skip
    points = {
        "item_id": [str(item) for item in shown], "title": [titles[item] for item in shown],
        "x": places[:, 0].tolist(), "y": places[:, 1].tolist(), "rq_codes": codes[shown].tolist(),
        "sampled": len(shown) < len(codes), "method": "Places are drawn at random.",
    }  # fmt: skip
    releases = [
        {"release": f"item_semantic_id__cb{version}", "codebook_version": version, "published_at": None}
        for version in (1, 0)
    ]
    moves = {
        "before": None, "now": "item_semantic_id__cb1", "items_in_both": 0, "kept": 0, "new_items": len(codes),
        "gone_items": 0, "branches": [],
    }  # fmt: skip
    return {
        "summary": summary, "map": points, "releases": releases, "moves": moves, "figures": [], "lineage": [], "model": ""
    }  # fmt: skip


def write(folder: Path, codes: np.ndarray, titles: list[str]) -> None:
    writer = StoreWriter(folder / FILE)
    writer.add_items(item_rows(codes, titles))
    writer.add_nodes(node_rows(codes))
    writer.add_collisions(collision_rows(codes))
    writer.add_users(user_rows(len(codes)))
    writer.add_documents(documents(codes, titles))
    writer.finish()


def questions(explorer: Explorer, codes: np.ndarray, titles: list[str]) -> dict[str, Callable[[int], object]]:
    """Returns a question for each method, which asks something else for each number."""
    random = np.random.default_rng(4)
    drawn = random.integers(len(codes), size=(CALLS, 2)).tolist()

    def prefix(call: int) -> str:
        return prefix_of(codes[drawn[call][0], : call % LEVELS].tolist())

    return {
        "summary": lambda call: explorer.summary(),
        "tree": lambda call: explorer.tree(prefix(call), 100),
        "items": lambda call: explorer.items(prefix(call), drawn[call][1] if call % LEVELS == 0 else 0, 50),
        "search, a word": lambda call: explorer.search(str(WORDS[call % len(WORDS)])),
        "search, two words": lambda call: explorer.search(" ".join(titles[drawn[call][0]].split()[:2])),
        "search, a letter": lambda call: explorer.search("sroiwe"[call % 6]),
        "search, an ID": lambda call: explorer.search(str(drawn[call][0])),
        "item": lambda call: explorer.item(str(drawn[call][0])),
        "picture": lambda call: explorer.picture(str(drawn[call][0])),
        "user": lambda call: explorer.user(str(call % USERS)),
        "map": lambda call: explorer.map(),
        "collisions": lambda call: explorer.collisions(10 * call, 50),
        "moves": lambda call: explorer.moves(),
        "figures": lambda call: explorer.figures(),
        "lineage": lambda call: explorer.lineage(),
    }


def milliseconds(ask: Callable[[int], object]) -> np.ndarray:
    """Returns (2, CALLS) milliseconds on the clock and of this thread's processor, which other processes do not change."""
    found = []
    for call in range(CALLS):
        began, worked = time.perf_counter(), time.thread_time()
        ask(call)
        found.append((time.perf_counter() - began, time.thread_time() - worked))
    return 1000 * np.array(found).T


def memory() -> float:
    """Returns the largest memory of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def scan(file: Path) -> float:
    """Returns the milliseconds of a search that reads all titles, the median of 3."""
    with sqlite3.connect(file) as connection:
        times = []
        for word in WORDS[:3]:
            began = time.perf_counter()
            query = "SELECT item_id FROM items WHERE title LIKE ? ORDER BY positives DESC LIMIT 20"
            connection.execute(query, [f"%{word}%"]).fetchall()
            times.append(1000 * (time.perf_counter() - began))
    connection.close()
    return float(np.median(times))


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--items", type=int, default=1_000_000)
    arguments.add_argument("--folder", type=Path, help="Folder of artifacts to write to and to keep.")
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        codes, titles = codes_of_items(given.items), titles_of(given.items)
        before, began, worked = memory(), time.perf_counter(), time.process_time()
        artifacts = Artifacts(given.folder or temporary, "explorers")
        version = artifacts.publish(lambda folder: write(folder, codes, titles), made_at="2024-01-01T00:00:00+00:00")
        seconds, work, grown = time.perf_counter() - began, time.process_time() - worked, memory() - before
        file = version.path / FILE
        size = file.stat().st_size / 1e6
        print(
            f"{given.items:,} items: {seconds:.0f} s ({work:.0f} s of a core) to write {size:,.0f} MB, +{grown:.0f} MB"
        )
        explorer = Explorer(version.path)
        found = {name: milliseconds(ask) for name, ask in questions(explorer, codes, titles).items()}
        for name, times in found.items():
            clock, core = (np.percentile(kind, [50, 99]) for kind in times)
            on_clock = f"p50 {clock[0]:8.2f} ms   p99 {clock[1]:8.2f} ms"
            print(f"{name:18} {on_clock}   of a core: p50 {core[0]:8.2f} ms   p99 {core[1]:8.2f} ms")
        without = scan(file)
        print(f"scan of all titles p50 {without:8.2f} ms")
        print(f"ratio of the scan to search, a word: {without / np.percentile(found['search, a word'][0], 50):.0f}")
        explorer.close()


if __name__ == "__main__":
    main()
