"""What the explorer shows of the toy project is what plain Python finds in its tables."""

from __future__ import annotations

import shutil
from collections import Counter, defaultdict
from itertools import pairwise

import numpy as np
import pytest

from qarm_features.explorer.computing.write_explorer import write_explorer
from qarm_features.explorer.store import Explorer
from qarm_features.feature_store.publishing.releases import ReleaseError, require_promoted_release
from qarm_features.jobs.build_explorer import build_explorer
from qarm_features.jobs.command import run_job
from qarm_features.storage.artifacts import Artifacts
from qarm_features.storage.tables import (
    INTERACTIONS,
    ITEM_EMBEDDINGS,
    ITEM_SEMANTIC_IDS,
    ITEMS,
    TRAINING_ROWS,
    USER_BEHAVIOR,
)
from tests.toy_catalog import open_project


@pytest.fixture(scope="module")
def copy(project, tmp_path_factory, spark):
    """A copy of the finished toy project, of which 7 users get a page."""
    folder = tmp_path_factory.mktemp("copy") / "project"
    shutil.copytree(project.settings._folder, folder)
    with open(folder / "qarm.yaml", "a") as file:
        file.write("explorer: {users: 7, kept_versions: 1}\n")
    copied = open_project(folder, spark)
    copied.artifacts("explorers").publish(lambda folder: (folder / "explorer.db").write_text("an old one"))
    return copied


@pytest.fixture(scope="module")
def counts(copy):
    return run_job(build_explorer, copy)


@pytest.fixture(scope="module")
def explorer(copy, counts):
    explorer = Explorer.latest(copy.settings.artifacts_path)
    yield explorer
    explorer.close()


def rows_of(project, table):
    return project.warehouse.arrow(table).to_table().to_pylist()


@pytest.fixture(scope="module")
def codes_of(project):
    return {str(row["item_id"]): row["rq_codes"] for row in rows_of(project, ITEM_SEMANTIC_IDS)}


@pytest.fixture(scope="module")
def embeddings_of(project):
    return {str(row["item_id"]): np.array(row["embedding"], np.float64) for row in rows_of(project, ITEM_EMBEDDINGS)}


def positives(project):
    return [row for row in rows_of(project, INTERACTIONS) if row["label"] == 1]


def ids(lines):
    return [line["item_id"] for line in lines]


def test_older_explorers_than_explorer_kept_versions_asks_for_are_deleted(copy, counts):
    assert copy.artifacts("explorers").versions() == [1]


def test_every_prefix_counts_its_items_its_children_and_its_positives(project, explorer, codes_of):
    liked = Counter(str(row["item_id"]) for row in positives(project))
    items, likes, children = Counter(), Counter(), defaultdict(set)
    for item_id, codes in codes_of.items():
        for level in range(3):
            prefix = ".".join(map(str, codes[:level]))
            items[prefix] += 1
            likes[prefix] += liked[item_id]
            if level < 2:
                children[prefix].add(codes[level])

    for prefix in items:
        node = explorer.tree(prefix)["node"]
        found = node["items"], node["positives"], node["children"]
        assert found == (items[prefix], likes[prefix], len(children[prefix])), prefix
        assert explorer.items(prefix)["total"] == items[prefix]


def test_the_items_of_a_prefix_stand_in_the_order_of_their_codes(explorer, codes_of):
    page = explorer.items("", 0, 100)

    assert [line["rq_codes"] for line in page["items"]] == sorted(codes_of.values())
    assert {line["item_id"]: line["rq_codes"] for line in page["items"]} == codes_of


def test_neighbors_by_embedding_have_the_highest_cosines(explorer, embeddings_of):
    for item_id in ("0", "17", "63"):
        cosines = {other: embeddings_of[item_id] @ e for other, e in embeddings_of.items() if other != item_id}
        highest = sorted(cosines.values(), reverse=True)[:10]

        near = explorer.item(item_id)["by_embedding"]

        assert [one["value"] for one in near] == pytest.approx(highest, abs=2e-6)
        assert [cosines[one["item"]["item_id"]] for one in near] == pytest.approx(highest, abs=2e-6)


def test_neighbors_by_co_click_were_liked_directly_before_or_after(project, explorer):
    by_user, pairs = defaultdict(list), Counter()
    for row in sorted(positives(project), key=lambda row: row["event_timestamp"]):
        by_user[row["user_id"]].append(str(row["item_id"]))
    for liked in by_user.values():
        for one, other in pairwise(liked):
            if one != other:
                pairs[one, other] += 1
                pairs[other, one] += 1

    for item_id in ("0", "17", "63"):
        counts = {other: count for (one, other), count in pairs.items() if one == item_id}
        near = explorer.item(item_id)["by_co_click"]

        assert [(one["item"]["item_id"], one["value"]) for one in near] == sorted(
            counts.items(), key=lambda pair: (-pair[1], int(pair[0]))
        )[:10]


def test_typical_items_are_nearest_to_the_mean_of_their_prefix(explorer, codes_of, embeddings_of):
    for node in [explorer.tree("")["node"], *explorer.tree("")["children"]]:
        codes = [int(code) for code in node["prefix"].split(".") if code]
        inside = [item_id for item_id in codes_of if codes_of[item_id][: len(codes)] == codes]
        mean = np.mean([embeddings_of[item_id] for item_id in inside], axis=0)
        cosine = {item_id: round(embeddings_of[item_id] @ mean / np.linalg.norm(mean), 4) for item_id in inside}

        found = [cosine[item_id] for item_id in ids(node["typical"])]

        assert found == sorted(cosine.values(), reverse=True)[:4]


def test_the_words_of_a_prefix_are_those_of_its_theme(project, explorer, codes_of):
    titles = {str(row["item_id"]): row["title"] for row in rows_of(project, ITEMS)}
    words = {child["prefix"]: child["words"] for child in explorer.tree("")["children"]}

    assert any(words.values())
    for prefix, of_prefix in words.items():
        inside = [titles[item_id].lower() for item_id in codes_of if str(codes_of[item_id][0]) == prefix]
        assert len(of_prefix) <= 5 and "the" not in of_prefix
        themes = {theme for theme in ("sea", "space", "kitchen", "court") if theme in of_prefix}
        assert all(any(title.startswith(theme) for title in inside) for theme in themes)


def test_collisions_are_the_ids_of_several_items(explorer, codes_of):
    counts = Counter(tuple(codes) for codes in codes_of.values())
    expected = {codes: count for codes, count in counts.items() if count > 1}

    found = explorer.collisions(0, 1000)

    assert {tuple(one["rq_codes"]): one["items"] for one in found} == expected
    assert [one["items"] for one in found] == sorted(expected.values(), reverse=True)
    assert all(one["equal_contents"] == 0 for one in found)  # all toy items have their own texts


def test_the_summary_counts_the_whole_release(explorer, codes_of):
    summary = explorer.summary()
    counts = Counter(tuple(codes) for codes in codes_of.values())

    assert (summary["items"], summary["shown_items"], summary["users"]) == (64, 64, 7)
    assert summary["distinct_ids"] == len(counts)
    assert summary["colliding_items"] == sum(count for count in counts.values() if count > 1)
    assert summary["level_uses"] == [[len({codes[level] for codes in codes_of.values()}), 4] for level in (0, 1)]
    assert summary["releases"] == [summary["release"]] == ["item_semantic_id__cb0"]


def test_a_user_has_the_latest_positives_and_candidates_with_the_features_of_their_time(project, explorer):
    behavior = {}
    for row in sorted(rows_of(project, USER_BEHAVIOR), key=lambda row: row["event_timestamp"]):
        behavior[str(row["user_id"])] = [str(item_id) for item_id in reversed(row["behavior_item_ids"])]
    users = [user for user in behavior if explorer.search(user)["users"][:1] == [user]]
    rows = defaultdict(list)
    for row in rows_of(project, TRAINING_ROWS):
        rows[str(row["user_id"])].append(row)

    for user in users:
        page = explorer.user(user)
        assert ids(line for _, line in page["behavior"]) == behavior[user]
        expected = sorted(rows[user], key=lambda row: row["event_timestamp"])[-20:]
        found = Counter((c["item"]["item_id"], c["label"], tuple(c["matches"])) for c in page["candidates"])
        assert found == Counter((str(row["item_id"]), row["label"], matches_of(row)) for row in expected)
        scores = [candidate["score"] for candidate in page["candidates"]]
        assert scores == sorted(scores, reverse=True) and all(0 < score < 1 for score in scores)
    assert len(users) > 0 and page["model"].startswith("item IDs + semantic IDs (ranking model v")


def matches_of(row):
    pairs = np.array(row["behavior_codes"] or []).reshape(-1, 2).tolist()
    return tuple(sum(pair[: level + 1] == row["item_codes"][: level + 1] for pair in pairs) for level in (0, 1))


def test_the_map_has_every_item_once_and_says_how_it_was_made(explorer, codes_of):
    points = explorer.map()

    assert sorted(points["item_id"]) == sorted(codes_of)
    assert not points["sampled"]
    assert points["method"].startswith("t-SNE")
    assert len(set(zip(points["x"], points["y"]))) == 64


def test_lineage_and_figures_name_what_the_release_was_made_of(explorer):
    nodes = {node["name"]: node for node in explorer.lineage()}
    figures = {figure["name"]: figure for figure in explorer.figures()}

    assert {"your catalog", "items", "encoders v0", "codebooks v0", "item_semantic_id__cb0"} <= nodes.keys()
    assert all(above in nodes for node in nodes.values() for above in node["made_of"])
    assert nodes["item_semantic_ids"]["made_of"] == ["item_embeddings", "codebooks v0"]
    assert 0 < figures["relative error after level 2"]["value"] < figures["relative error after level 1"]["value"]
    assert 0 < figures["test AUC, item IDs"]["value"] < 1


def test_the_job_counts_the_items_and_its_manifest_names_the_release(copy, counts):
    manifest = copy.artifacts("explorers").latest().verify().manifest

    assert counts[:3] == (64, 64, 0)
    assert (manifest["items"], manifest["shown_items"], manifest["users"]) == (64, 64, 7)
    assert (manifest["release"], manifest["codebook_version"]) == ("item_semantic_id__cb0", 0)
    assert list(manifest["files"]) == ["explorer.sqlite"]
    assert not list((copy.settings.artifacts_path / "explorers").glob(".draft-*"))


def test_without_a_promoted_release_there_is_nothing_to_explore(fresh_project):
    with pytest.raises(ReleaseError, match="No release is promoted. Run: qarm publish-features"):
        build_explorer(fresh_project)


@pytest.mark.slow
def test_a_large_catalog_is_sampled_but_its_prefixes_count_everything(project, tmp_path):
    settings = project.settings
    options = settings.explorer.model_copy(update={"max_items": 20, "users": 0, "map_items": 0})
    settings = settings.model_copy(update={"explorer": options})
    release = require_promoted_release(settings)

    def write(folder):
        write_explorer(folder, project.warehouse, release, settings=settings)

    one, other = (Artifacts(tmp_path, "explorers").publish(write, made_at="") for _ in range(2))
    explorer = Explorer(one.path)

    summary = explorer.summary()
    shown = explorer.items("", 0, 100)

    assert summary["items"] == explorer.tree("")["node"]["items"] == 64
    assert 0 < summary["shown_items"] == shown["total"] == len(shown["items"]) < 64
    near = [one["item"]["item_id"] for line in shown["items"] for one in explorer.item(line["item_id"])["by_embedding"]]
    assert set(near) <= set(ids(shown["items"]))
    assert one.content_hash == other.content_hash  # the same tables give the same file
    explorer.close()
